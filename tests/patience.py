"""How long tests wait: on a busy machine much takes long, and when all is well nobody waits."""

import time
from collections.abc import Callable
from functools import partial

import httpx

SECONDS = 240

get = partial(httpx.get, timeout=SECONDS)
post = partial(httpx.post, timeout=SECONDS)
request = partial(httpx.request, timeout=SECONDS)


def until(condition: Callable[[], object]) -> None:
    """Wait for what has to come."""
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.05)
