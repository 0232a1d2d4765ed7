"""How a form is read, however it is cut: as by its parser alone, and let go of."""

import asyncio
import gc
import weakref
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from starlette.requests import Request

from service.errors import BadForm, RequestError
from service.options import ClassifyOptions
from service.parts import Parts, read_parts

DELIMITER = b"\r\n--e-e"
AFTER = b'\r\nContent-Disposition: form-data; name="model"\r\n\r\nskin' + DELIMITER + b"--\r\n"
BEFORE = DELIMITER[2:] + b'\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'


class ByParser(Parts):
    """Tells the parser everything."""

    def read(self, memory, size, parser) -> None:
        parser.write(bytes(memory[:size]))


def read(body: bytes, cuts: list[int], most_files: int = 1, kind: type[Parts] = Parts) -> Parts:
    """A form that comes in pieces."""
    ends = sorted({0, *(cut % len(body) for cut in cuts), len(body)})
    pieces = [body[start:end] for start, end in pairwise(ends)]
    messages = [{"type": "http.request", "body": one, "more_body": True} for one in pieces]
    messages.append({"type": "http.request"})
    fields = {
        "Content-Type": "multipart/form-data; boundary=e-e",
        "Content-Length": str(len(body)),
    }
    headers = [(name.lower().encode(), value.encode()) for name, value in fields.items()]

    async def receive():
        return messages.pop(0)

    parts = kind(ClassifyOptions, most_files)
    asyncio.run(read_parts(Request({"type": "http", "headers": headers}, receive), parts, 1))
    return parts


def found(body: bytes, cuts: list[int], kind: type[Parts]) -> object:
    try:
        parts = read(body, cuts, kind=kind)
        return parts.files(), parts.texts
    except RequestError as error:
        return type(error), str(error)


# What resembles a delimiter, whole or in part, more often than chance would have it.
beginnings = [(DELIMITER + b"-")[:length] for length in range(1, len(DELIMITER) + 2)]
pieces = [*beginnings, DELIMITER + b" ", DELIMITER + b"\r", b"\n", b"-", b"e", b"x" * 9]
contents = st.lists(st.sampled_from(pieces) | st.binary(max_size=40), max_size=30).map(b"".join)
cuts = st.lists(st.integers(min_value=0, max_value=2000), max_size=20)


@settings(max_examples=600)
@given(content=contents, cuts=cuts)
# The parser gives back as many bytes as it keeps: within a delimiter, and behind one.
@example(content=b"\r\r\r\r\r\n--\r\n--\r\n--e\0\0\0\0\r\r", cuts=[93, 94, 255])
@example(content=b"abcd\r\n--e-e-x\r\n--e-e-YYY", cuts=[len(BEFORE) + n for n in (3, 12, 21, 24)])
def test_a_file_is_what_the_parser_takes_for_it(content, cuts):
    body = BEFORE + content + DELIMITER + AFTER

    assert found(body, cuts, Parts) == found(body, cuts, ByParser)


@settings(max_examples=200)
@given(content=st.binary(min_size=1, max_size=500), cuts=cuts)
def test_the_file_is_what_was_sent(content, cuts):
    parts = read(BEFORE + content + DELIMITER + AFTER, cuts)

    assert parts.files() == [content]
    assert parts.texts == {"model": "skin"}


@settings(max_examples=100)
@given(cuts=cuts)
def test_a_second_file_is_never_taken_for_the_end_of_the_first(cuts):
    body = BEFORE + b"one" * 99 + DELIMITER + BEFORE[len(DELIMITER) - 2 :] + b"two" * 99

    with pytest.raises(BadForm, match="twice"):
        read(body + DELIMITER + b"--\r\n", cuts)
    both = read(body + DELIMITER + b"--\r\n", cuts, most_files=2)
    assert both.files() == [b"one" * 99, b"two" * 99]


def test_a_form_that_has_been_read_is_gone_with_its_last_user():
    gc.disable()  # films may not wait for the collector
    try:
        parts = read(BEFORE + b"x" * 5000 + DELIMITER + AFTER, [1000, 2000, 3000])
        gone = weakref.ref(parts)
        del parts
        assert gone() is None
    finally:
        gc.enable()
