"""What the log says of a request; of an error where it came from and its kind, never its words."""

import json
import logging
import sys

import pytest

from service.log import JsonFormatter
from tests.service.pictures import film, square

PATIENT = "Canary^Patient"


def written(error: BaseException) -> str:
    try:
        raise error
    except type(error):
        record = logging.LogRecord("care", logging.ERROR, "", 0, "failed", (), sys.exc_info())
    return json.loads(JsonFormatter().format(record))["traceback"]


def test_the_line_of_a_request_says_what_was_asked_and_what_each_stage_took(client, caplog, grown):
    caplog.set_level("INFO", "care")

    client.post("/explain", files={"image": film(square(200, 160, 20, 30))})

    [record] = caplog.records
    line = json.loads(JsonFormatter().format(record))
    asked = {"method": "POST", "route": "/explain", "model": "chest", "key": "-"}
    assert line.items() >= (asked | {"status": 200, "code": "-"}).items()
    assert line["ms"] == pytest.approx(
        1000 * grown("care_request_seconds_sum", route="/explain"), abs=0.1
    )
    for stage in ("read", "infer", "render"):
        took = 1000 * grown("care_stage_seconds_sum", stage=stage)
        assert line[f"{stage}_ms"] == pytest.approx(took, abs=0.1)


def test_a_method_that_a_client_made_up_is_in_no_line(client, caplog):
    caplog.set_level("INFO", "care")

    client.request("CANARY", "/models")

    assert [record.fields["method"] for record in caplog.records] == ["other"]


def test_an_error_is_told_with_the_one_in_whose_handling_it_arose():
    def stumble() -> None:
        try:
            raise KeyError(PATIENT)
        except KeyError:
            raise ZeroDivisionError(PATIENT)  # noqa: B904 - a mistake of ours

    with pytest.raises(ZeroDivisionError) as caught:
        stumble()

    traceback = written(caught.value)
    assert "ZeroDivisionError" in traceback
    assert "KeyError" in traceback
    assert PATIENT not in traceback


def test_a_group_is_told_with_all_that_it_holds():
    def first() -> None:
        raise ValueError(PATIENT)

    found = []
    for cause in (first, lambda: {}[PATIENT]):
        with pytest.raises((ValueError, KeyError)) as caught:
            cause()
        found.append(caught.value)

    traceback = written(ExceptionGroup(PATIENT, found))

    assert "in first" in traceback
    assert all(kind in traceback for kind in ("ExceptionGroup", "ValueError", "KeyError"))
    assert PATIENT not in traceback
