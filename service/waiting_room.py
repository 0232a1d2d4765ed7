"""How many requests are worked on, how many may wait, and what the others are told."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import TypeVar

from service.errors import Overloaded
from service.metrics import WAITING, WORKING
from service.server.crew import Crew

Result = TypeVar("Result")

INERTIA = 0.9
"""Weight of the past in the running mean of how long the work on a picture takes."""


class Place:
    """One request's place in a waiting room. It waits while none of its pictures is worked on."""

    def __init__(self, room: "WaitingRoom") -> None:
        self._room = room
        self._busy = 0
        self._lock = Lock()

    async def work(self, job: Callable[[], Result]) -> Result:
        """Do one of the request's jobs as soon as there is a seat."""

        def counted() -> Result:
            self._count(1)
            try:
                return job()
            finally:
                self._count(-1)

        return await self._room.seat(counted)

    def _count(self, more: int) -> None:
        with self._lock:
            before, self._busy = self._busy, self._busy + more
            if not before:
                WAITING.dec()
            if not self._busy:
                WAITING.inc()


class WaitingRoom:
    """Bounds what the service holds at once: a queue without end is an outage that starts later.

    A request has its place from its first byte to its answer, so that uploads under way, which
    fill memory, count too.

    Args:
        seats: Pictures worked on at once, each in a thread of its own.
        queue: Requests that may be here beside them.
    """

    def __init__(self, seats: int, queue: int) -> None:
        self._crew = Crew(seats)
        self._seats = seats
        self._places = seats + queue
        self._taken = 0
        self._seconds = 0.5

    @contextmanager
    def place(self) -> Iterator[Place]:
        """Hold a place for one request. To be used on the event loop.

        Raises:
            Overloaded: There is none left.
        """
        if self._taken >= self._places:
            wait = self._seconds * (self._taken - self._seats) / self._seats
            raise Overloaded(retry_after=min(60, max(1, math.ceil(wait))))
        self._taken += 1
        WAITING.inc()
        try:
            yield Place(self)
        finally:
            self._taken -= 1
            WAITING.dec()

    async def seat(self, job: Callable[[], Result]) -> Result:
        """Do a job beside the event loop as soon as there is a seat."""

        def seated() -> Result:
            start = time.monotonic()
            WORKING.inc()
            try:
                return job()
            finally:
                WORKING.dec()
                taken = time.monotonic() - start
                self._seconds = INERTIA * self._seconds + (1 - INERTIA) * taken

        return await self._crew.do(seated)

    def close(self) -> None:
        """End the threads once all work is done."""
        self._crew.close()
