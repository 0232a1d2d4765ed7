"""A short run of tests/soak; `python -m tests.soak` is the long one, and watches memory too."""

import base64
import json

import numpy as np
import pytest

from imaging.overlay import encode
from models.store import shipped_models
from tests import patience
from tests.factories import as_png
from tests.soak.__main__ import left_over
from tests.soak.clients import ask_all, judged
from tests.soak.questions import Question, bad, chosen, comparable, good
from tests.soak.watch import Held, at_rest, grown


@pytest.fixture
def asked(serve_here):
    return good(serve_here(shipped_models()), shipped_models())


def test_many_clients_at_once_get_the_answers_one_gets_alone(asked, shipped):
    before = at_rest(shipped, 0, seconds=0.5)
    *_, tally = ask_all(shipped.url, chosen(asked, bad(), 0.1, seed=0), 300, clients=16)

    assert tally.wrong == []
    assert tally.asked == 300
    assert {status for _, status, _ in tally.outcomes} >= {0, 200, 400, 404, 415, 422}
    patience.until(lambda: left_over(shipped) == [])  # who left may be worked for, for a while
    after = at_rest(shipped, 300, seconds=0.5)
    assert after.left <= before.left + 1
    assert after.shared == before.shared


def test_every_bad_request_is_refused_as_expected(shipped):
    wrong = bad()
    *_, tally = ask_all(shipped.url, iter(wrong), len(wrong), clients=1)

    assert tally.wrong == []
    assert tally.asked == len(wrong)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, b'{"probability": 0.4, "request_id": "b"}'),
        (200, b'{"probability": 0.500001, "request_id": "a"}'),
        (500, b'{"error": {"code": "internal_error"}}'),
        (422, b'{"error": {"code": "unreadable"}}'),
        (0, b"ConnectionResetError()"),
    ],
)
def test_a_soak_notices_a_wrong_answer(status, body):
    question = Question("/classify", "POST", "/classify", answer={"probability": 0.5})
    kind = {"Content-Type": "application/json"}

    assert judged(question, 200, kind, b'{"probability": 0.5, "request_id": "a"}') == ("", "")
    assert judged(question, status, kind, body)[1]


def test_a_soak_notices_another_picture_and_not_other_bytes_of_the_same():
    pixels = np.random.default_rng(0).integers(0, 256, (9, 8), np.uint8)
    one, packed_otherwise = as_png(pixels), encode(pixels)
    assert one != packed_otherwise

    for within, kind in (
        (bytes, "image/png"),
        (lambda png: json.dumps([base64.b64encode(png).decode()]).encode(), "application/json"),
    ):
        answer = comparable(kind, within(one))
        assert comparable(kind, within(packed_otherwise)) == answer
        assert comparable(kind, within(as_png(pixels + 1))) != answer
        assert comparable(kind, within(as_png(pixels.reshape(8, 9)))) != answer
        assert comparable(kind, within(one[:60])) != answer


def test_a_soak_notices_memory_that_grows():
    def samples(leak):
        return [
            Held(n, 4, 700 + leak * n / 1e6 + n % 3, 900, 66, 20, 0, 6)
            for n in range(0, 20_000, 50)
        ]

    assert grown(samples(leak=0)) == []
    [found] = grown(samples(leak=4096))  # bytes a request
    assert found.startswith("pss grew")
