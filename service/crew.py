"""Threads that work beside the event loop, and hand over what they have done in bursts.

Each time the loop is woken it finds its code gone from the processor's caches, which the network
has filled meanwhile; fetching it again costs as much as running it. So while jobs wait for a
thread, results are handed over together, every few milliseconds: the answers of a burst are
written, and the next requests read, on warm caches. Where nothing waits, nothing is held back.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

Result = TypeVar("Result")

BURST = 0.01
"""Seconds that a result is held back at most, while jobs wait."""


class Job(Generic[Result]):
    """Something to do in a thread, and the future of whoever waits for it on the event loop."""

    def __init__(self, do: Callable[[], Result], future: asyncio.Future[Result]) -> None:
        self.future = future
        self._do = do
        self._context = copy_context()

    def run(self) -> None:
        """Do it; in a thread."""
        try:
            self._result = self._context.run(self._do)
            self._error: BaseException | None = None
        except StopIteration as error:  # the one that a future does not take
            self._error = RuntimeError("a job ended in StopIteration")
            self._error.__cause__ = error
        except BaseException as error:  # whoever waits is to have it, whatever it is
            self._error = error

    def tell(self) -> None:
        """Tell who waits, if anybody still does; on the event loop."""
        if self.future.done():
            return
        if self._error is None:
            self.future.set_result(self._result)
        else:
            self.future.set_exception(self._error)


class Crew:
    """Does jobs of one event loop in its threads, in the order they came.

    Args:
        size: How many threads.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._under_way = 0
        self._waiting: SimpleQueue[Job[Any] | None] = SimpleQueue()
        self._done: deque[Job[Any]] = deque()
        self._planned = False  # whether the loop will hand over of its own accord
        for number in range(size):
            threading.Thread(target=self._serve, daemon=True, name=f"crew-{number}").start()

    async def do(self, job: Callable[[], Result]) -> Result:
        """Do a job in a thread, in this context, and wait for its result."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()
        self._under_way += 1
        self._waiting.put(Job(job, future))
        if self._under_way > self._size and not self._planned:
            self._plan(loop)
        return await future

    def close(self) -> None:
        """End the threads once all that waits is done."""
        for _ in range(self._size):
            self._waiting.put(None)

    def _serve(self) -> None:
        while (job := self._waiting.get()) is not None:
            if not job.future.cancelled():
                job.run()
            loop = job.future.get_loop()
            self._done.append(job)
            # In this order, and the other way round in _hand_over, nothing is left lying.
            if not self._planned or self._waiting.empty():
                with suppress(RuntimeError):  # the loop has ended: nobody waits any more
                    loop.call_soon_threadsafe(self._hand_over, loop)

    def _plan(self, loop: asyncio.AbstractEventLoop) -> None:
        self._planned = True
        loop.call_later(BURST, self._hand_over, loop)

    def _hand_over(self, loop: asyncio.AbstractEventLoop) -> None:
        self._planned = False
        while self._done:
            self._under_way -= 1
            self._done.popleft().tell()
        if not self._waiting.empty():
            self._plan(loop)
