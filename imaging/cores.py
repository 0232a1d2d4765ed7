"""How many pictures can be worked on at once."""

import os


def available_cores() -> int:
    """How many cores this process may use, at least 1; a container may have few of a machine's."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS, Windows
        return os.cpu_count() or 1
