"""Who waits, who is worked on, and what the metrics say of both."""

import asyncio
from contextlib import ExitStack
from itertools import count
from threading import Event
from types import SimpleNamespace

import pytest
from prometheus_client import REGISTRY

from service.errors import Overloaded
from service.waiting_room import WaitingRoom


def gauges() -> tuple[float | None, float | None]:
    return REGISTRY.get_sample_value("care_waiting"), REGISTRY.get_sample_value("care_working")


def test_who_is_sent_away_is_told_to_wait_for_those_that_are_here(
    monkeypatch: pytest.MonkeyPatch,
):
    room = WaitingRoom(2, queue=8)

    def told() -> int:
        with ExitStack() as places:
            for _ in range(10):
                places.enter_context(room.place())
            with pytest.raises(Overloaded) as refused, room.place():
                pass
        return int(refused.value.headers["Retry-After"])

    assert told() == 2  # eight wait for two seats, half a second each
    ticks = count(step=100)
    monkeypatch.setattr("service.waiting_room.time", SimpleNamespace(monotonic=lambda: next(ticks)))
    asyncio.run(room.seat(lambda: None))
    one_was_slow = told()
    for _ in range(20):
        asyncio.run(room.seat(lambda: None))

    assert 2 < one_was_slow < told() == 60
    room.close()


def test_a_request_of_many_pictures_waits_once_and_not_while_one_is_worked_on():
    seats, seen, go = 2, [], Event()
    room = WaitingRoom(seats, queue=4)

    def job() -> None:
        go.wait(60)
        seen.append(gauges())

    async def run() -> None:
        before = gauges()
        with room.place() as batch, room.place():
            assert gauges() == (2, 0)
            tasks = [asyncio.create_task(batch.work(job)) for _ in range(6)]
            async with asyncio.timeout(30):
                while gauges() != (1, seats):  # the other request
                    await asyncio.sleep(0.01)
            go.set()
            await asyncio.gather(*tasks)
            assert gauges() == (2, 0)
        assert gauges() == before == (0, 0)

    asyncio.run(run())
    room.close()
    assert len(seen) == 6
    assert min(waiting for waiting, _ in seen) == 1
