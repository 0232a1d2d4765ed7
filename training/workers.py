"""Processes that work for this one, and no longer than it lives."""

import os
from multiprocessing import parent_process
from multiprocessing.connection import wait
from threading import Thread


def end_with_parent() -> None:
    """End this process as soon as the one that started it has ended, however that was.

    One that was killed tells nobody, and its workers would wait for work for ever: of what a
    forkserver started, PyTorch's own watch sees the forkserver alone.
    """
    if parent := parent_process():
        Thread(target=_end_after, args=(parent.sentinel,), daemon=True).start()


def _end_after(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)
