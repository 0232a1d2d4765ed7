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
from contextvars import Context, copy_context
from queue import SimpleQueue
from typing import Any, NamedTuple, TypeVar

Result = TypeVar("Result")

BURST = 0.01
"""Seconds that a result is held back at most, while jobs wait."""


class Asked(NamedTuple):
    """A job, the context it belongs to, and the future of whoever waits for it on the loop."""

    job: Callable[[], Any]
    context: Context
    future: asyncio.Future[Any]


class Done(NamedTuple):
    """What came of a job: a result, or an error."""

    future: asyncio.Future[Any]
    result: Any
    error: BaseException | None


class Crew:
    """Does jobs of one event loop in its threads, in the order they came.

    Args:
        size: How many threads.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._under_way = 0
        self._waiting: SimpleQueue[Asked | None] = SimpleQueue()
        self._done: deque[Done] = deque()
        self._planned: asyncio.TimerHandle | None = None  # the loop's next look of its own accord
        for number in range(size):
            threading.Thread(target=self._serve, daemon=True, name=f"crew-{number}").start()

    async def do(self, job: Callable[[], Result]) -> Result:
        """Do a job in a thread, in this context, and wait for its result."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()
        self._under_way += 1
        self._waiting.put(Asked(job, copy_context(), future))
        if self._under_way > self._size and not self._planned:
            self._plan(loop)
        try:
            return await future
        finally:
            del future, job  # an error knows this frame, and the future the error

    def close(self) -> None:
        """End the threads once all that waits is done."""
        for _ in range(self._size):
            self._waiting.put(None)

    def _serve(self) -> None:
        # Nothing of a job is kept while the thread waits for the next one: it holds a picture.
        while self._work(self._waiting.get()):
            pass

    def _work(self, asked: Asked | None) -> bool:
        """Do a job, and see to it that it is handed over; False if there are to be no more."""
        if asked is None:
            return False
        result: Any = None
        error: BaseException | None = None
        try:
            if not asked.future.cancelled():
                result = asked.context.run(asked.job)
        except StopIteration as problem:  # the one that a future does not take
            error = RuntimeError("a job ended in StopIteration")
            error.__cause__ = problem
        except BaseException as problem:  # whoever waits is to have it, whatever it is
            error = problem
        self._done.append(Done(asked.future, result, error))
        loop = asked.future.get_loop()
        del asked, result, error  # an error knows this frame: they would keep each other
        # In this order, and the other way round in _hand_over, nothing is left lying.
        if not self._planned or self._waiting.empty():
            with suppress(RuntimeError):  # the loop has ended: nobody waits any more
                loop.call_soon_threadsafe(self._hand_over, loop)
        return True

    def _plan(self, loop: asyncio.AbstractEventLoop) -> None:
        self._planned = loop.call_later(BURST, self._hand_over, loop)

    def _hand_over(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._planned:  # a thread may have been faster
            self._planned.cancel()
            self._planned = None
        while self._done:
            self._under_way -= 1
            future, result, error = self._done.popleft()
            if future.done():  # whoever asked has gone
                continue
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)
        if not self._waiting.empty():
            self._plan(loop)
