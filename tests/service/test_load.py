"""More requests than it can do, and an end while it is at work."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest

from tests.server import Server, started
from tests.service.pictures import png

SLOW = png(np.zeros((9000, 9000), np.uint8))
"""A picture that is quickly sent and keeps the service busy for some tenths of a second."""


@pytest.fixture(scope="module")
def narrow(models_folder, tmp_path_factory) -> Iterator[Server]:
    """A server that works on one picture and lets three more wait; then it is ended."""
    with started(
        models_folder, tmp_path_factory.mktemp("narrow"), concurrency=1, queue=3
    ) as running:
        yield running


def classify(server: Server) -> tuple[httpx.Response, float]:
    """The answer, and how long it took in seconds."""
    start = time.monotonic()
    answer = httpx.post(
        f"{server.url}/classify",
        files={"image": SLOW},
        data={"model": "skin"},
        timeout=60,
    )
    return answer, time.monotonic() - start


def full(server: Server) -> None:
    """Wait until one picture is worked on and three wait."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        metrics = httpx.get(f"{server.url}/metrics").text
        if "care_working 1.0" in metrics and "care_waiting 3.0" in metrics:
            return
    raise AssertionError("there is still room")


def test_who_finds_no_place_is_sent_away_quickly_and_health_stays_green(narrow):
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(classify, narrow) for _ in range(4)]
        full(narrow)
        sent_away, seconds = classify(narrow)
        start = time.monotonic()
        health = httpx.get(f"{narrow.url}/readyz")
        health_seconds = time.monotonic() - start

    assert sent_away.status_code == 503
    assert sent_away.json()["error"]["code"] == "overloaded"
    assert 1 <= int(sent_away.headers["Retry-After"]) <= 60
    assert health.status_code == 200
    answered = [one.result() for one in asked]
    assert {answer.status_code for answer, _ in answered} == {200}
    assert max(seconds, health_seconds) < max(taken for _, taken in answered)
    metrics = httpx.get(f"{narrow.url}/metrics").text
    assert 'care_errors_total{code="overloaded"}' in metrics
    assert "care_waiting 0.0" in metrics


def test_an_end_under_load_loses_nothing_that_is_under_way(narrow):
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(classify, narrow) for _ in range(4)]
        full(narrow)
        narrow.terminate()

        assert {one.result()[0].status_code for one in asked} == {200}
    assert narrow.ended(30) == 0
    with pytest.raises(httpx.ConnectError):
        httpx.get(narrow.url)
