"""How the GNU C library shall deal with the memory of films."""

import ctypes
import threading

ALLOCATOR = {
    "MALLOC_MMAP_THRESHOLD_": "33554432",
    "MALLOC_TRIM_THRESHOLD_": "268435456",
    "MALLOC_ARENA_MAX": "2",
}
"""For the environment of a process: keep the memory of one film for the next. To get it from the
system anew, page by page, costs a seventh of a request; kept are at most 256 MB that are not in use
at the end of a heap. All threads share two heaps: up to eight a core, as they come and go, would
each keep their own busiest moment, and grow for tens of thousands of requests."""

PERIOD = 30.0
"""Seconds between two returns of free memory."""


def give_back() -> None:
    """Give the system all pages that are free, also those between others, if the C library can.

    Films of many sizes leave gaps that no later one fits. Their pages cost less than a thousandth
    of a core to get again every half a minute, and as much memory as the service needs to keep.
    """
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
        trim(0)


class Keeper:
    """Gives free memory back every now and then, in a thread of its own."""

    def __init__(self, period: float = PERIOD) -> None:
        self._end = threading.Event()
        self._period = period
        threading.Thread(target=self._keep, daemon=True, name="memory").start()

    def close(self) -> None:
        """Stop."""
        self._end.set()

    def _keep(self) -> None:
        while not self._end.wait(self._period):
            give_back()
