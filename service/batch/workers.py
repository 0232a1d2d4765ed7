"""Processes that work through tasks, and outlive whatever a task does to one of them.

Pictures come from anywhere and decoders are native code: a file can end its process, or keep it for
ever. Each worker has a pipe of its own and one task at a time, so that it is always known whose
fault an end was, and no lock that a dying process holds can stop the others - which is what the
pools one could install share. Answers are pickled: a worker runs as the person who scores, so who
took it over would win nothing by them; a service, which strangers send files to, has
imaging/isolation.py.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from multiprocessing import Pipe
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, Generic, TypeVar

from service.server.allocator import ALLOCATOR

Task = TypeVar("Task")
Result = TypeVar("Result")

Make = Callable[[Callable[[Any], Any]], Callable[[Any], Any]]
"""Called once in each worker, with a way to ask; what it returns works on each task."""

ROOT = Path(__file__).resolve().parents[2]

START_SECONDS = 120
"""How long a worker may take to start; no file is to blame for that."""

MOST_STARTS = 3
"""How often in a row a worker may fail to start."""

ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OPENCV_FOR_THREADS_NUM"), "1"
)
"""There are as many workers as cores: more threads than that would only get in each other's way."""


@dataclass(frozen=True, slots=True)
class Lost:
    """What became of a task that has no result.

    Attributes:
        why: "crashed" or "timeout".
    """

    why: str


class Pool(Generic[Task, Result]):
    """Workers, started when there is work for them and ended by leaving the context.

    Args:
        make: Makes what works on a task; must be importable where the worker runs.
        size: Most workers at once.
        seconds: How long a task may take, by the task.
        answer: Answers what a worker asks while it works.
    """

    def __init__(
        self,
        make: Make,
        size: int,
        *,
        seconds: Callable[[Task], float],
        answer: Callable[[Any], Any] = lambda question: None,
    ) -> None:
        self._make = make
        self._size = size
        self._seconds = seconds
        self._answer = answer
        self._workers: list[_Worker] = []
        self._failed_starts = 0

    def __enter__(self) -> "Pool[Task, Result]":
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.end()
        for worker in self._workers:
            worker.reap()
        self._workers.clear()

    def map(self, tasks: Iterable[Task]) -> Generator[tuple[Task, Result | Lost], None, None]:
        """Work through tasks, which are taken as workers become free.

        Yields:
            Each task with its result, or with what became of it, in the order they are done.

        Raises:
            Exception: Whatever a task raised; that is a mistake of ours, and ends the work.
        """
        waiting = _Waiting(iter(tasks))
        while True:
            self._hand_out(waiting)
            busy = {worker.connection: worker for worker in self._workers if worker.busy}
            if not busy:
                return
            soonest = min(worker.deadline for worker in busy.values())
            for ready in wait(list(busy), timeout=max(0, soonest - time.monotonic())):
                yield from self._hear(busy[ready], waiting)  # type: ignore[index]
            for worker in busy.values():
                if worker.busy and worker.deadline <= time.monotonic():
                    yield from self._lose(worker, waiting, "timeout")

    def _hand_out(self, waiting: "_Waiting") -> None:
        for worker in self._workers:
            if not worker.busy and waiting:
                worker.give(waiting.pop(), self._seconds)
        while len(self._workers) < self._size and waiting:
            worker = _Worker(self._make)
            self._workers.append(worker)
            worker.give(waiting.pop(), self._seconds)

    def _hear(self, worker: "_Worker", waiting: "_Waiting") -> Iterator[tuple[Task, Result | Lost]]:
        try:
            kind, content = worker.connection.recv()
            if kind == "ask":
                worker.connection.send(self._answer(content))
        except (EOFError, OSError):
            yield from self._lose(worker, waiting, "crashed")
            return
        if kind == "ready":
            self._failed_starts = 0
            worker.begin(self._seconds)
        elif kind == "failed":
            raise content
        elif kind == "done":
            yield worker.take(), content

    def _lose(
        self, worker: "_Worker", waiting: "_Waiting", why: str
    ) -> Iterator[tuple[Task, Result | Lost]]:
        worker.end()
        worker.reap()
        self._workers.remove(worker)
        task = worker.take()
        if worker.ready:
            yield task, Lost(why)
            return
        self._failed_starts += 1
        if self._failed_starts == MOST_STARTS:
            raise RuntimeError(f"workers do not start: exit status {worker.exit_status}")
        waiting.put_back(task)


class _Waiting:
    """Tasks that nobody has yet, taken one at a time."""

    def __init__(self, tasks: Iterator[Any]) -> None:
        self._tasks = tasks
        self._next: list[Any] = []

    def __bool__(self) -> bool:
        if not self._next:
            self._next = list(islice(self._tasks, 1))
        return bool(self._next)

    def pop(self) -> Any:
        return self._next.pop()

    def put_back(self, task: Any) -> None:
        self._next.append(task)


class _Worker:
    """One process, seen from the one that gives it work.

    Attributes:
        connection: The pipe to it.
        ready: Whether it has started.
        deadline: When it has to have answered, on the clock of `time.monotonic`.
    """

    def __init__(self, make: Make) -> None:
        self.connection, theirs = Pipe()
        environment = ALLOCATOR | os.environ | ONE_THREAD | {"PYTHONPATH": _python_path()}
        with theirs:
            # -P: no module is taken from the folder one happens to be in
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "service.batch.worker", str(theirs.fileno())],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )
        self.ready = False
        self.deadline = time.monotonic() + START_SECONDS
        self._tasks: list[Any] = []
        self._send(make)

    @property
    def busy(self) -> bool:
        return bool(self._tasks)

    @property
    def exit_status(self) -> int | None:
        return self._process.returncode

    def give(self, task: Any, seconds: Callable[[Any], float]) -> None:
        self._tasks.append(task)
        self._send((seconds(task), task))
        if self.ready:
            self.begin(seconds)

    def begin(self, seconds: Callable[[Any], float]) -> None:
        self.ready = True
        self.deadline = time.monotonic() + seconds(self._tasks[0])

    def take(self) -> Any:
        return self._tasks.pop()

    def end(self) -> None:
        self.connection.close()
        self._process.send_signal(signal.SIGKILL)

    def reap(self) -> None:
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            return  # stuck in the kernel, on a dead network share; it will go when that answers

    def _send(self, message: object) -> None:
        try:
            self.connection.send(message)
        except (BrokenPipeError, ConnectionResetError):
            return  # it has died; whoever listens to it will notice


def _python_path() -> str:
    return os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
