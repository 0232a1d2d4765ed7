"""A multipart body → its parts, in memory, each refused as soon as it is known to be wrong."""

from functools import cache
from io import BytesIO
from typing import Any, get_origin

import stringzilla as sz
from fastapi import Request
from pydantic import BaseModel
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from service.errors import BadForm, BadOption, EncodedBody, UploadTooLarge
from service.options import MAX_REPEATS
from service.server.intake import take_body

TEXT = b"text/plain"
"""What a part is that does not say (RFC 7578, section 4.4)."""

MAX_OPTION_BYTES = 1000

AS_IT_IS = {"Content-Encoding": {"", "identity"}, "Transfer-Encoding": {"", "chunked"}}
"""What the fields of the head may say of a body that is sent as it is."""

BYTES_AS_THEY_ARE = {b"", b"binary", b"8bit", b"7bit"}
"""Of a part's Content-Transfer-Encoding (RFC 2045, section 6.2)."""


async def read_parts(request: Request, parts: "Parts", max_upload_mb: float) -> None:
    """Collect the parts of a request's form.

    Raises:
        RequestError: The body is no form, or it or a part of it is not as it should be.
        ClientDisconnect: It ends before it is complete.
    """
    for field, known in AS_IT_IS.items():
        said = ",".join(request.headers.getlist(field)).lower().split(",")
        if {coding.strip() for coding in said} - known:
            raise EncodedBody(f"the body is encoded by {field}, expected a form sent as it is")
    kind, parameters = parse_options_header(request.headers.get("Content-Type"))
    if kind != b"multipart/form-data":
        raise BadForm(
            "there is no `image`: send a form, Content-Type multipart/form-data, with the picture "
            "as the file `image`; addresses are never fetched"
        )
    boundary = parameters.get(b"boundary")
    if not boundary:
        raise BadForm("the Content-Type names no boundary")
    limit = max_upload_mb * 1_000_000

    def check(size: int) -> None:
        if size > limit:
            raise UploadTooLarge(
                f"the request is larger than {max_upload_mb:g} MB, the most accepted"
            )

    announced = request.headers.get("Content-Length", "")
    if announced.isdecimal():
        check(int(announced))
        parts.room = int(announced)
    received = 0

    def take(memory: bytes | bytearray, size: int) -> None:
        # What was announced may be a lie, so what comes is counted.
        nonlocal received
        received += size
        check(received)
        parts.read(memory, size, parser)

    try:
        # Kept nowhere: it knows the parts, and they would wait for each other to be forgotten.
        parser = MultipartParser(boundary, parts.callbacks())
        parts.delimiter = b"\r\n--" + boundary
        await take_body(request, take)
    except FormParserError as error:
        raise BadForm("the form is malformed") from error
    if not parts.complete:
        raise BadForm("the form ends before its last boundary")


class Parts:
    """Collects the parts of one form, and refuses one as soon as its name is known.

    Attributes:
        texts: Options as they were sent.
        lists: Those that may be there several times.
        room: Bytes that all parts have together at most; 0 where that is not known.
        delimiter: What stands before a part.
        complete: Whether the last boundary has been seen.
    """

    def __init__(self, options: type[BaseModel], most_files: int) -> None:
        self.texts: dict[str, str] = {}
        self._known, several = _fields(options)
        self.lists: dict[str, list[str]] = {name: [] for name in several}
        self.room = 0
        self.delimiter = b""
        self.complete = False
        self._most_files = most_files
        self._files: list[bytes] = []
        self._header_name, self._header_value = b"", b""
        self._disposition, self._kind = b"", TEXT
        self._name = ""
        self._content = BytesIO()
        self._size = 0
        self._within_file = False

    def read(self, memory: bytes | bytearray, size: int, parser: MultipartParser) -> None:
        """Read the next `size` bytes of the form, at the beginning of a piece of memory.

        The parser, which has these callbacks, is not told of what can only be a file's content.

        Raises:
            RequestError: A part is not as it should be.
            FormParserError: They are not those of a form.
        """
        plain = 0
        if self._within_file and sz.find(memory, self.delimiter, 0, size) < 0:
            # All but what may be the beginning of a delimiter: no other byte of it is a CR.
            begun = memory.rfind(b"\r", max(0, size - len(self.delimiter)), size)
            plain = size if begun < 0 else begun
            self._on_data(memory, 0, plain)
        if plain < size:
            known, rest = self._size, bytes(memoryview(memory)[plain:size])
            parser.write(rest)
            # Such a beginning, or a delimiter and `-`, it keeps back; so it may have before.
            keeps_nothing = self._within_file or b"\r" not in rest[-len(self.delimiter) - 1 :]
            all_content = self._size - known == len(rest) and self._name == "image"
            self._within_file = keeps_nothing and all_content

    def files(self) -> list[bytes]:
        """The files, in the order in which they were sent.

        Raises:
            BadForm: There is none, or the only one there may be is empty.
        """
        if not self._files:
            raise BadForm("there is no `image`: send the picture as a file in this form field")
        if self._most_files == 1 and not self._files[0]:
            raise BadForm("`image` is empty")
        return self._files

    def callbacks(self) -> Any:
        """What the parser calls, in the order of the bytes."""
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._on_header_name,
            "on_header_value": self._on_header_value,
            "on_header_end": self._on_header_end,
            "on_headers_finished": self._on_headers,
            "on_part_data": self._on_data,
            "on_part_end": self._end,
            "on_end": self._finish,
        }

    def _begin(self) -> None:
        self._disposition, self._kind = b"", TEXT
        self._content, self._size = BytesIO(), 0

    def _on_header_name(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _on_header_end(self) -> None:
        match self._header_name.lower():
            case b"content-disposition":
                self._disposition = self._header_value
            case b"content-type":
                self._kind = self._header_value.lower()
            case b"content-transfer-encoding":
                if self._header_value.strip().lower() not in BYTES_AS_THEY_ARE:
                    raise EncodedBody(
                        "a part of the form has a Content-Transfer-Encoding, expected its bytes as "
                        "they are (RFC 7578, section 4.7)"
                    )
        self._header_name, self._header_value = b"", b""

    def _on_headers(self) -> None:
        kind, parameters = parse_options_header(self._disposition)
        if kind != b"form-data" or b"name" not in parameters:
            raise BadForm("a part of the form has no name")
        self._name = _text(parameters[b"name"], "the name of a form field")
        if self._name not in self._known:
            known = ", ".join(sorted(self._known))
            raise BadOption(f"unknown form field {self._name[:40]!r}; there are {known}")
        if self._name == "image" and len(self._files) == self._most_files:
            most = f", at most {self._most_files} are read" if self._most_files > 1 else ""
            raise BadForm(f"`image` is there {'too often' if most else 'twice'}{most}")
        if self._name in self.texts:
            raise BadOption(f"`{self._name}` is there twice")
        if len(self.lists.get(self._name, ())) == MAX_REPEATS:
            raise BadOption(f"`{self._name}` is there more than {MAX_REPEATS} times")
        # Some clients send only the extended spelling, `filename*=`, for names beyond ASCII.
        named = b"filename" in parameters or b"filename*=" in self._disposition
        if self._name != "image":
            if named:
                raise BadOption(f"`{self._name}` is a file, expected a text")
            return
        # Those that have no name at hand may leave it out (RFC 7578, section 4.2).
        if not named and self._kind.startswith(b"text/"):
            raise BadForm(
                "`image` is a text, expected a file: it has neither a file name nor a Content-Type "
                "of one; addresses are never fetched"
            )
        if self._most_files == 1 and self.room:
            self._content = _Piece(self.room)

    def _on_data(self, data: bytes | bytearray, start: int, end: int) -> None:
        self._size += end - start
        if self._name != "image" and self._size > MAX_OPTION_BYTES:
            raise BadOption(f"`{self._name}` is longer than {MAX_OPTION_BYTES} bytes")
        self._content.write(memoryview(data)[start:end])

    def _end(self) -> None:
        content = self._content.getvalue()
        if self._name == "image":
            self._files.append(content)
            return
        text = _text(content, f"`{self._name}`")
        if self._name in self.lists:
            self.lists[self._name].append(text)
        else:
            self.texts[self._name] = text

    def _finish(self) -> None:
        self.complete = True


class _Piece(BytesIO):
    """A part in one piece from the beginning: each byte is moved once, while it is at hand."""

    def __init__(self, room: int) -> None:
        super().__init__(bytes(room))

    def getvalue(self) -> bytes:
        self.truncate()
        return super().getvalue()


@cache
def _fields(options: type[BaseModel]) -> tuple[frozenset[str], tuple[str, ...]]:
    """The names that a form may have, and those that may be there several times."""
    fields = options.model_fields
    several = tuple(name for name in fields if get_origin(fields[name].annotation) is tuple)
    return frozenset({"image", *fields}), several


def _text(content: bytes, what: str) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        raise BadOption(f"{what} is no UTF-8 text") from None
