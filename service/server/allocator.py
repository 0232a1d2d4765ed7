"""How the GNU C library shall deal with the memory of films."""

import ctypes
from itertools import count

ALLOCATOR = {
    "MALLOC_MMAP_THRESHOLD_": "33554432",
    "MALLOC_TRIM_THRESHOLD_": "268435456",
    "MALLOC_ARENA_MAX": "2",
}
"""For the environment of a process: keep the memory of one film for the next. To get it from the
system anew, page by page, costs a seventh of a request; kept are at most 256 MB that are not in use
at the end of a heap. All threads share two heaps: up to eight a core, as they come and go, would
each keep their own busiest moment, and grow for tens of thousands of requests."""

EVERY = 1000
"""Large pictures between two returns of free memory."""

LARGE = 512 * 512
"""Pixels from which on a picture leaves gaps worth returning."""


def give_back() -> None:
    """Give the system all pages that are free, also those between others, if the C library can."""
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
        trim(0)


class Keeper:
    """Gives free memory back every so many large pictures.

    Films of many sizes leave gaps that no later one fits: some hundred megabytes in the end. By
    pictures and not by time, for after a rest the next film would find nothing kept for it; small
    ones do not count, for they leave no such gaps, and come by the thousand.

    Args:
        every: How many large pictures.
    """

    def __init__(self, every: int = EVERY) -> None:
        self._every = every
        self._pictures = count(1)  # its next step is safe to take from several threads

    def note(self, pixels: int) -> None:
        """Count a picture if it is large."""
        if pixels >= LARGE and next(self._pictures) % self._every == 0:
            give_back()
