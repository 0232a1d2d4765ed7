"""What the log says of an error: where it came from and of what kind, never its words."""

import json
import logging
import sys

import pytest

from service.log import JsonFormatter

PATIENT = "Canary^Patient"


def written(error: BaseException) -> str:
    try:
        raise error
    except type(error):
        record = logging.LogRecord("care", logging.ERROR, "", 0, "failed", (), sys.exc_info())
    return json.loads(JsonFormatter().format(record))["traceback"]


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
