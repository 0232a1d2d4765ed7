"""More requests than it can do, and an end while it is at work."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import pytest

from tests import patience
from tests.server import Server, started
from tests.service.pictures import compressed, film, square

FILM = compressed(film(square(200, 160, 20, 30)))
"""Of a kind that decoders get, which can be made to stand still."""


@pytest.fixture(scope="module")
def narrow(models_folder, tmp_path_factory) -> Iterator[Server]:
    """A server that works on one picture and lets three more wait; then it is ended."""
    with started(
        models_folder,
        tmp_path_factory.mktemp("narrow"),
        concurrency=1,
        queue=3,
        decode_timeout_s=2 * patience.SECONDS,
    ) as running:
        assert classify(running).status_code == 200  # its decoder is there from now on
        yield running


def classify(server: Server) -> httpx.Response:
    return patience.post(f"{server.url}/classify", files={"image": FILM})


@contextmanager
def filled(server: Server) -> Iterator[list[Future[httpx.Response]]]:
    """While one picture is worked on, as long as this takes, and three wait; their answers."""
    with ThreadPoolExecutor(4) as pool, server.standing_still():
        asked = [pool.submit(classify, server) for _ in range(4)]

        def full() -> bool:
            metrics = patience.get(f"{server.url}/metrics").text
            return "care_working 1.0" in metrics and "care_waiting 3.0" in metrics

        patience.until(full)
        yield asked
        assert not any(one.done() for one in asked)


def test_who_finds_no_place_is_sent_away_at_once_and_health_stays_green(narrow):
    with filled(narrow) as asked:
        sent_away = classify(narrow)
        health = patience.get(f"{narrow.url}/readyz")

    assert sent_away.status_code == 503
    assert sent_away.json()["error"]["code"] == "overloaded"
    assert 1 <= int(sent_away.headers["Retry-After"]) <= 60
    assert health.status_code == 200
    assert {one.result().status_code for one in asked} == {200}
    metrics = patience.get(f"{narrow.url}/metrics").text
    assert 'care_errors_total{code="overloaded"}' in metrics
    assert "care_waiting 0.0" in metrics


def test_an_end_under_load_loses_nothing_that_is_under_way(narrow):
    with filled(narrow) as asked:
        narrow.terminate()
        patience.until(narrow.refuses)

    assert {one.result().status_code for one in asked} == {200}
    assert narrow.ended() == 0
    with pytest.raises(httpx.ConnectError):
        patience.get(narrow.url)
