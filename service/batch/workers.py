"""Who scores the files: this process, or a pool of processes that outlives a crash.

Pictures come from anywhere and decoders are native code, so one bad file can take its process
with it. A pool turns that into a row too: the files under way are tried again one by one, and the
one that ends its process a second time, alone, is the culprit.
"""

import functools
import os
import signal
import threading
from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from multiprocessing import get_context, parent_process

from service.batch.scorer import Job, Row, Scorer, error_row

Numbered = tuple[int, str]
"""A file to score: the number of its row, and its path relative to the folder."""

AHEAD = 4
"""Files under way per worker: enough that none waits, few enough that memory does not grow."""


def available_cores() -> int:
    """How many cores this process may use, at least 1."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS, Windows
        return os.cpu_count() or 1


def score_files(files: Iterable[str], job: Job, *, workers: int) -> Generator[Row, None, None]:
    """Score files as they are asked for: one row each, in their order.

    Args:
        files: Paths relative to the job's folder.
        job: What to do with them.
        workers: Processes to use. 0 scores in this one, where a decoder that crashes ends the run.

    Raises:
        ModelError: The model is missing or broken.
    """
    numbered = enumerate(files, start=1)
    if workers == 0:
        yield from (_score(job, number, file) for number, file in numbered)
    else:
        yield from _score_in_pool(numbered, job, workers, ahead=AHEAD * workers)


def _score_in_pool(
    files: Iterable[Numbered], job: Job, workers: int, *, ahead: int
) -> Generator[Row, None, None]:
    """Score files in a pool, never more than `ahead` of them under way."""
    files = iter(files)
    pool = _start(workers)
    under_way: deque[tuple[Numbered, Future[Row]]] = deque()
    try:
        while True:
            for numbered in islice(files, ahead - len(under_way)):
                under_way.append((numbered, _submit(pool, job, numbered)))
            if not under_way:
                return
            try:
                row = under_way[0][1].result()
            except BrokenProcessPool:
                lost = [numbered for numbered, _ in under_way]
                under_way.clear()
                pool.shutdown()
                if ahead == 1:
                    [(_, file)] = lost
                    yield error_row(file, "crashed", "the decoder crashed on this file")
                else:
                    yield from _score_in_pool(lost, job, 1, ahead=1)
                pool = _start(workers)
            else:
                under_way.popleft()
                yield row
    finally:
        pool.shutdown(cancel_futures=True)


def _start(workers: int) -> ProcessPoolExecutor:
    # not forked: a copy of a process whose libraries have threads may hang
    return ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_settle)


def _submit(pool: ProcessPoolExecutor, job: Job, numbered: Numbered) -> Future[Row]:
    """Hand a file to the pool. If that has just broken, the future says so, as all others do."""
    try:
        return pool.submit(_score, job, *numbered)
    except BrokenProcessPool as error:
        future: Future[Row] = Future()
        future.set_exception(error)
        return future


def _settle() -> None:
    """Prepare a worker's process for both ways in which a run can end early."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent to handle
    threading.Thread(target=_leave_with_parent, daemon=True).start()


def _leave_with_parent() -> None:
    """End this worker when the run was killed; else it would wait for work forever."""
    if parent := parent_process():
        parent.join()
        os._exit(1)


@functools.cache
def _scorer(job: Job) -> Scorer:
    """The model is loaded once per process."""
    return Scorer(job)


def _score(job: Job, number: int, file: str) -> Row:
    try:
        return _scorer(job)(number, file)
    except Exception as error:
        error.add_note(f"while scoring {file}")
        raise
