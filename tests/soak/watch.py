"""What the processes of a server hold, over time."""

import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import NamedTuple

import psutil

from tests.server import Server

WARM_UP = 0.2
"""Share of a run that does not count: decoders start, and allocators reach their size."""


ALLOWED: dict[str, Callable[[float], float]] = {
    "processes": lambda first: 0,
    "pss": lambda first: 0.03 * first,
    "rss": lambda first: 0.03 * first,
    "files": lambda first: 4,
    "threads": lambda first: 2,
    "shared": lambda first: 0,
    "left": lambda first: 0,
}
"""What each quantity may grow by.

Heaps still settle by some megabytes, and a sample may hit pictures under way. 3 % of what the
service holds are about 20 MB: in a run of 20,000, less than 2 KB lost a request.
"""


class Held(NamedTuple):
    """All of a server's processes together, at one moment.

    Attributes:
        asked: How many requests had been answered.
        pss: Megabytes of memory, pages that processes share counted once.
        rss: Likewise, but counted for each.
        files: Open files, sockets and pipes.
        shared: Mappings and files of /dev/shm.
        left: Files in the server's temporary folder and in BentoML's home.
    """

    asked: int
    processes: int
    pss: float
    rss: float
    files: int
    threads: int
    shared: int
    left: int


def held(server: Server, asked: int) -> Held:
    """What a server's processes hold now."""
    pss = rss = files = threads = shared = processes = 0
    for process in server.family:
        with suppress(psutil.NoSuchProcess):  # a decoder may have ended just now
            memory = process.memory_full_info()
            pss, rss = pss + memory.pss, rss + memory.rss
            files, threads = files + process.num_fds(), threads + process.num_threads()
            shared += Path(f"/proc/{process.pid}/maps").read_text().count("/dev/shm/")
            processes += 1
    left = sum(len(names) for _, _, names in os.walk(server.folder))
    return Held(asked, processes, pss / 1e6, rss / 1e6, files, threads, shared, left)


def at_rest(server: Server, asked: int, seconds: float = 3) -> Held:
    """What they hold once nothing is under way."""
    time.sleep(seconds)
    return held(server, asked)


def growth(samples: list[Held]) -> dict[str, tuple[float, float]]:
    """Median of each quantity in the first and in the last fifth after warming up."""
    warm = [one for one in samples if one.asked >= WARM_UP * samples[-1].asked]
    fifth = max(1, len(warm) // 5)
    return {
        name: (
            median(getattr(one, name) for one in warm[:fifth]),
            median(getattr(one, name) for one in warm[-fifth:]),
        )
        for name in Held._fields
        if name != "asked"
    }


def grown(samples: list[Held]) -> list[str]:
    """What is larger at the end than it may be."""
    return [
        f"{name} grew from {first:.0f} to {last:.0f}"
        for name, (first, last) in growth(samples).items()
        if last - first > ALLOWED[name](first)
    ]
