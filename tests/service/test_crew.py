"""The threads beside the event loop: what is done comes back, soon, and in bursts."""

import asyncio
import gc
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from contextvars import ContextVar

import pytest

from service.server.crew import Crew

SIZE = 2
TIMEOUT = 60


@pytest.fixture
def crew() -> Iterator[Crew]:
    crew = Crew(SIZE)
    yield crew
    crew.close()


def test_results_come_to_whoever_asked(crew: Crew) -> None:
    async def ask() -> list[int]:
        return await asyncio.gather(*(crew.do(lambda n=n: n * n) for n in range(200)))

    assert asyncio.run(ask()) == [n * n for n in range(200)]


@pytest.mark.parametrize("error", [ValueError("no"), KeyError("no"), asyncio.CancelledError()])
def test_errors_come_to_whoever_asked_and_to_nobody_else(crew: Crew, error: BaseException) -> None:
    def fail() -> None:
        raise error

    async def ask() -> list[object]:
        asked = [crew.do(lambda: 1), crew.do(fail), crew.do(lambda: 3)]
        return await asyncio.gather(*asked, return_exceptions=True)

    first, second, third = asyncio.run(ask())
    assert (first, third) == (1, 3)
    assert type(second) is type(error)


def test_an_iterator_that_ran_out_is_an_error_like_others(crew: Crew) -> None:
    with pytest.raises(RuntimeError, match="StopIteration"):
        asyncio.run(crew.do(lambda: next(iter([]))))


def test_a_job_runs_in_the_context_of_whoever_asked(crew: Crew) -> None:
    variable: ContextVar[str] = ContextVar("variable")

    async def ask(value: str) -> str:
        variable.set(value)
        return await crew.do(variable.get)

    async def both() -> list[str]:
        return await asyncio.gather(ask("one"), ask("other"))

    assert asyncio.run(both()) == ["one", "other"]


def test_no_more_jobs_are_under_way_than_there_are_threads(crew: Crew) -> None:
    now, most, lock = 0, 0, threading.Lock()
    together = threading.Barrier(SIZE)

    def job() -> None:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        together.wait(TIMEOUT)
        with lock:
            now -= 1

    async def ask() -> None:
        await asyncio.gather(*(crew.do(job) for _ in range(5 * SIZE)))

    asyncio.run(ask())
    assert most == SIZE


def test_nobody_waits_for_a_job_that_came_later(crew: Crew) -> None:
    """What is held back for a burst must not hang on jobs that take long, or never end."""
    go_on = threading.Event()

    async def ask() -> None:
        quick = [asyncio.ensure_future(crew.do(lambda: None)) for _ in range(3 * SIZE)]
        slow = [
            asyncio.ensure_future(crew.do(lambda: go_on.wait(TIMEOUT))) for _ in range(3 * SIZE)
        ]
        await asyncio.wait_for(asyncio.gather(*quick), TIMEOUT / 2)
        assert not any(each.done() for each in slow)
        go_on.set()
        assert all(await asyncio.gather(*slow))

    asyncio.run(ask())


def test_of_its_own_accord_the_loop_looks_once_at_a_time(
    crew: Crew, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned: list[asyncio.TimerHandle] = []

    async def ask() -> int:
        loop = asyncio.get_running_loop()
        later, most = loop.call_later, 0

        def noted(delay: float, call: Callable[..., object], *rest: object) -> asyncio.TimerHandle:
            planned.append(later(delay, call, *rest))
            return planned[-1]

        async def client() -> None:
            nonlocal most
            for _ in range(20):
                await crew.do(lambda: time.sleep(0.001))
                ahead = [one for one in planned if not one.cancelled() and one.when() > loop.time()]
                most = max(most, len(ahead))

        monkeypatch.setattr(loop, "call_later", noted)
        await asyncio.gather(*(client() for _ in range(SIZE + 1)))
        return most

    assert asyncio.run(ask()) <= 1
    assert planned


def test_while_jobs_wait_results_come_in_bursts_and_else_at_once(
    crew: Crew, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.server.crew.BURST", TIMEOUT)
    woken = 0

    async def ask() -> tuple[int, int]:
        nonlocal woken
        loop = asyncio.get_running_loop()
        wake = loop.call_soon_threadsafe

        def counted(*call: object) -> object:
            nonlocal woken
            woken += 1
            return wake(*call)

        monkeypatch.setattr(loop, "call_soon_threadsafe", counted)
        for _ in range(10):
            await crew.do(lambda: None)
        alone, woken = woken, 0
        all_wait = threading.Event()  # before that, threads could find nothing left again and again
        jobs = [crew.do(lambda: all_wait.wait(TIMEOUT)) for _ in range(100 * SIZE)]
        asked = asyncio.gather(*jobs)
        await asyncio.sleep(0)
        all_wait.set()
        await asked
        return alone, woken

    alone, together = asyncio.run(ask())
    assert alone == 10
    assert 1 <= together <= SIZE  # only by those that found nothing left to do


@pytest.mark.parametrize("fails", [False, True])
def test_nothing_of_a_job_is_kept_behind_its_answer(crew: Crew, fails: bool) -> None:
    """A job holds a film and its answer: kept until the garbage is collected, they add up."""

    class Film:
        pass

    async def ask() -> bool:
        film = Film()
        known = weakref.ref(film)

        def job(film: Film = film) -> Film:
            if fails:
                raise ValueError("no film")
            return film

        del film
        with suppress(ValueError):
            await crew.do(job)
        del job
        async with asyncio.timeout(TIMEOUT):
            while known() is not None:  # the thread has yet to come back for more
                await asyncio.sleep(0.001)
        return True

    gc.disable()
    try:
        assert asyncio.run(ask())
    finally:
        gc.enable()


def test_a_job_that_nobody_waits_for_any_more_is_not_begun(crew: Crew) -> None:
    go_on, begun = threading.Event(), threading.Event()

    async def ask() -> None:
        busy = [asyncio.ensure_future(crew.do(lambda: go_on.wait(TIMEOUT))) for _ in range(SIZE)]
        left = asyncio.ensure_future(crew.do(begun.set))
        await asyncio.sleep(0)
        left.cancel()
        await asyncio.sleep(0)
        go_on.set()
        await asyncio.gather(*busy)
        await crew.do(lambda: None)

    asyncio.run(ask())
    assert not begun.is_set()


def test_its_threads_end_once_all_is_done() -> None:
    before = set(threading.enumerate())
    crew = Crew(SIZE)
    threads = set(threading.enumerate()) - before

    async def ask() -> list[int]:
        asked = [asyncio.ensure_future(crew.do(lambda n=n: n)) for n in range(20)]
        await asyncio.sleep(0)
        crew.close()
        return await asyncio.gather(*asked)

    assert asyncio.run(ask()) == list(range(20))
    for thread in threads:
        thread.join(TIMEOUT)
    assert len(threads) == SIZE
    assert not any(thread.is_alive() for thread in threads)
