"""Who calls the scorer makes no difference; how they fail does."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.batch import workers
from service.batch.scorer import Job
from service.batch.workers import AHEAD, score_files
from tests.batch.conftest import FILES


@pytest.fixture
def crashing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_score", score_or_crash)


def score_or_crash(job: Job, number: int, file: str) -> dict[str, object]:
    """What a worker calls instead of the scorer: files named crash end the process."""
    if "crash" in file:
        os.abort()
    if "mistake" in file:
        raise ZeroDivisionError(file)
    return {"file": file, "status": "ok", "worker": os.getpid()}


def test_rows_are_the_same_however_many_workers(job: Job):
    here, one, two = (list(score_files(FILES, job, workers=n)) for n in (0, 1, 2))

    assert here == one == two
    assert [row["file"] for row in here] == FILES


@pytest.mark.usefixtures("crashing")
def test_a_file_that_crashes_its_worker_becomes_a_row_and_no_other_is_lost(job: Job):
    files = ["a", "crash-1", "b", "crash-2", "crash-3", *(f"c{n}" for n in range(20)), "crash-4"]

    rows = list(score_files(files, job, workers=2))

    assert [row["file"] for row in rows] == files
    for row in rows:
        crashed = "crash" in str(row["file"])
        assert row["status"] == ("error" if crashed else "ok")
        assert row.get("error_code") == ("crashed" if crashed else None)


@pytest.mark.usefixtures("crashing")
def test_a_mistake_of_ours_stops_the_run_and_is_no_row(job: Job):
    with pytest.raises(ZeroDivisionError):
        list(score_files(["a", "mistake", "b"], job, workers=1))


def test_a_mistake_names_the_file(job: Job, monkeypatch: pytest.MonkeyPatch):
    def stumble(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("service.batch.scorer.Scorer.__call__", stumble)

    with pytest.raises(ZeroDivisionError) as caught:
        list(score_files(["some.dcm"], job, workers=0))

    assert caught.value.__notes__ == ["while scoring some.dcm"]


@pytest.mark.usefixtures("crashing")
def test_files_are_taken_only_a_little_ahead_of_the_rows(job: Job):
    taken = 0

    def files() -> Iterator[str]:
        nonlocal taken
        for taken in range(1, 1001):
            yield str(taken)

    rows = score_files(files(), job, workers=1)
    for written in range(1, 51):
        next(rows)
        assert taken <= written + AHEAD
    rows.close()


def test_workers_leave_when_the_run_is_killed(films: Path, models: Path):
    script = f"""
import itertools, multiprocessing
from pathlib import Path
from service.batch.scorer import Job
from service.batch.workers import score_files
if __name__ == "__main__":
    job = Job(folder=Path({str(films)!r}), models=Path({str(models)!r}), model="square")
    rows = score_files(itertools.repeat("a.png"), job, workers=2)
    next(rows)
    print(*(child.pid for child in multiprocessing.active_children()), flush=True)
    for row in rows: pass
"""
    path = films.parent / "run.py"
    path.write_text(script)
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, str(path)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(root)},
    ) as run:
        assert run.stdout
        children = [int(pid) for pid in run.stdout.readline().split()]
        run.kill()
    assert children

    deadline = time.monotonic() + 20
    while alive := [pid for pid in children if _running(pid)]:
        assert time.monotonic() < deadline, f"still running: {alive}"
        time.sleep(0.1)


def _running(pid: int) -> bool:
    """Whether a process is there and no zombie, which an orphan may stay in a container."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
