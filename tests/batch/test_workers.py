"""A pool of processes: nothing that happens to one of them is lost, and nobody else's fault."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from service.batch.workers import Lost, Pool
from tests import patience


def make(ask: Callable[[Any], Any]) -> Callable[[str], object]:
    def work(task: str) -> object:
        if task.startswith("crash"):
            os.abort()
        if task.startswith("hang"):
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGINT])
            time.sleep(1000)
        if task == "mistake":
            raise ZeroDivisionError(task)
        if task == "unknown mistake":
            raise type("Odd", (Exception,), {})
        if task == "noise":
            os.write(2, b"Canary^Patient")
            print("Canary^Patient")
        if task == "ask":
            return ask(6)
        if task == "who":
            return os.getpid()
        if task == "threads":
            import cv2

            return cv2.getNumThreads()
        return task.upper()

    return work


def start_badly(ask: Callable[[Any], Any]) -> Callable[[str], object]:
    os._exit(3)


def refuse_to_start(ask: Callable[[Any], Any]) -> Callable[[str], object]:
    raise FileNotFoundError(2, "No such model")


def pool(size: int = 2, *, seconds: float = 60, factory: Any = make) -> Pool:
    """A pool that ends what hangs in so many seconds, and leaves all else its time."""
    return Pool(
        factory,
        size,
        seconds=lambda task: seconds if task.startswith("hang") else 120,
        answer=lambda question: question * 7,
    )


def test_each_task_has_its_result():
    tasks = [f"t{number}" for number in range(50)]

    with pool() as workers:
        assert sorted(workers.map(tasks)) == sorted((task, task.upper()) for task in tasks)


def test_a_task_that_crashes_its_worker_is_known_and_no_other_is_lost():
    tasks = ["a", "crash-1", "b", "crash-2", "crash-3", *(f"c{n}" for n in range(20)), "crash-4"]

    with pool() as workers:
        results = dict(workers.map(tasks))

    assert results == {
        task: Lost("crashed") if task.startswith("crash") else task.upper() for task in tasks
    }


def test_a_task_that_hangs_is_ended_in_its_time_and_no_other_is_lost():
    with pool(seconds=0.5) as workers:
        results = dict(workers.map(["a", "hang-1", "b", "hang-2", "c", "d"]))

    assert results["hang-1"] == results["hang-2"] == Lost("timeout")
    assert [results[task] for task in "abcd"] == list("ABCD")


def test_a_worker_that_is_killed_from_outside_costs_its_task_and_is_replaced():
    with pool(1) as workers:
        [(_, first)] = workers.map(["who"])
        assert isinstance(first, int)
        os.kill(first, signal.SIGKILL)
        results = list(workers.map(["a", "who", "b"]))

    assert results[0] == ("a", Lost("crashed"))
    assert results[1][1] not in (first, Lost("crashed"))
    assert results[2] == ("b", "B")


@pytest.mark.parametrize("mistake", ["mistake", "unknown mistake"])
def test_a_mistake_of_ours_is_raised_and_says_where(mistake: str):
    with pool(1) as workers, pytest.raises(Exception) as caught:  # noqa: PT011 - one of no class
        list(workers.map(["a", mistake, "b"]))

    assert isinstance(caught.value, ZeroDivisionError if mistake == "mistake" else RuntimeError)
    assert "test_workers.py" in caught.value.__notes__[0]


def test_workers_that_do_not_start_are_no_fault_of_a_task():
    with pool(factory=start_badly) as workers, pytest.raises(RuntimeError, match="status 3"):
        list(workers.map(["a", "b"]))

    with pool(factory=refuse_to_start) as workers, pytest.raises(FileNotFoundError):
        list(workers.map(["a", "b"]))


def test_a_worker_can_ask():
    with pool(1) as workers:
        assert list(workers.map(["ask"])) == [("ask", 42)]


def test_what_decoders_print_is_seen_nowhere(capfd: pytest.CaptureFixture[str]):
    with pool(1) as workers:
        list(workers.map(["noise"]))

    assert capfd.readouterr() == ("", "")


def test_a_worker_uses_one_core():
    with pool(1) as workers:
        assert list(workers.map(["threads"])) == [("threads", 1)]


def test_tasks_are_taken_only_as_workers_are_free():
    taken = 0

    def tasks() -> Iterator[str]:
        nonlocal taken
        for taken in range(1, 1001):
            yield str(taken)

    with pool(2) as workers:
        for done, _ in enumerate(workers.map(tasks()), start=1):
            assert taken <= done + 3
            if done == 50:
                break


def test_no_more_workers_start_than_there_are_tasks():
    with pool(8) as workers:
        list(workers.map(["a", "b"]))
        found = []
        for child in psutil.Process().children():
            with suppress(psutil.Error):  # one that ends just now is none
                found += ["service.batch.worker" in child.cmdline()]
        assert sum(found) <= 2


def test_workers_leave_when_the_run_is_killed_even_those_that_hang(tmp_path: Path):
    script = tmp_path / "run.py"
    script.write_text("""
import psutil
from tests.batch.test_workers import pool
if __name__ == "__main__":
    with pool(2) as workers:
        list(workers.map(["a", "b"]))
        for _ in workers.map(["who", "hang", "hang", "hang"]):
            print(*(child.pid for child in psutil.Process().children()), flush=True)
""")
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(root)},
    ) as run:
        assert run.stdout
        workers = [int(pid) for pid in run.stdout.readline().split()]
        run.kill()

    assert len(workers) == 2
    patience.until(lambda: not any(map(psutil.pid_exists, workers)))
