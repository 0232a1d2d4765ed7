"""How much memory the process keeps."""

import ctypes
from contextlib import suppress

M_ARENA_MAX = -8
"""Of glibc's malloc.h."""

HEAPS = 2


def share_heaps() -> None:
    """Let all threads allocate from a few heaps.

    By default glibc makes up to eight for each core, as threads come and go, and every one of them
    keeps what its busiest moment took: memory grows for tens of thousands of requests.
    Elsewhere than on glibc there is nothing to be done. Does what MALLOC_ARENA_MAX would, however
    the service is started.
    """
    with suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, HEAPS)
