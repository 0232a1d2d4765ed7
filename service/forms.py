"""A multipart request → the bytes of its file and its checked options, in memory.

Frameworks' own parsers spool files to the disk, turn text into whatever it looks like, and one of
them fetches a file from an address that a client names. This one knows a file and a few short
texts, and refuses the rest.
"""

import asyncio
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, TypeVar, get_origin

from fastapi import Request
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from imaging.image import Window
from imaging.overlay import COLORMAPS
from service.errors import BadForm, BadOption, UploadTooLarge, UploadTooSlow
from service.settings import Settings

MAX_OPTION_BYTES = 1000
MAX_REPEATS = 16


def _whole(text: object) -> object:
    if isinstance(text, str) and not re.fullmatch(r"[0-9]{1,9}", text):
        raise ValueError("expected a whole number")
    return text


def _switch(text: object) -> object:
    if isinstance(text, str):
        known = {"true": True, "1": True, "false": False, "0": False}
        if text.lower() not in known:
            raise ValueError("expected true or false")
        return known[text.lower()]
    return text


def _colormap(name: str) -> str:
    if name not in COLORMAPS:
        raise ValueError(f"expected one of {', '.join(COLORMAPS)}")
    return name


def _different(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(names)) < len(names):
        raise ValueError("expected each label once")
    return names


Name = Annotated[str, Field(min_length=1, max_length=200)]
Names = Annotated[
    tuple[Name, ...],
    Field(max_length=MAX_REPEATS, json_schema_extra={"uniqueItems": True}),
    AfterValidator(_different),
]
Number = Annotated[int, Field(ge=1, le=999_999_999), BeforeValidator(_whole)]


class ReadOptions(BaseModel):
    """Form fields that say what to read of a file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    frame: Number | None = Field(default=None, description="Frame to read, counted from 1.")
    window: Number | None = Field(
        default=None,
        description="Which of the windows in a DICOM file to read it with, counted from 1, look-up "
        "tables first; the first if left out. Model and people see the picture through it.",
    )


class ClassifyOptions(ReadOptions):
    """Form fields of /classify beside `image`."""

    model: Name | None = Field(
        default=None, description="Model to ask; may be left out for a DICOM file that fits one."
    )
    force: Annotated[bool, BeforeValidator(_switch)] = Field(
        default=False,
        description="Ask the model even if the file's header speaks against it: true or false.",
    )


class PictureOptions(ReadOptions):
    """Form fields of /picture beside `image`."""

    model_config = ConfigDict(
        json_schema_extra={
            "dependentRequired": {
                "window_center": ["window_width"],
                "window_width": ["window_center"],
            }
        }
    )

    format: Literal["png", "jpeg", "webp"] = Field(
        default="png", description="How pictures are encoded; layers are always PNG."
    )
    window_center: Annotated[float, Field(ge=-1e9, le=1e9)] | None = Field(
        default=None,
        description="With window_width: show a DICOM file through this window. The model does not.",
    )
    window_width: Annotated[float, Field(ge=1e-3, le=1e9)] | None = Field(default=None)
    max_side: Annotated[int, Field(ge=64, le=4096), BeforeValidator(_whole)] = Field(
        default=1024, description="Longer side of the picture sent back, in pixels, at most."
    )

    @model_validator(mode="after")
    def _whole_window(self) -> Self:
        if (self.window_center is None) != (self.window_width is None):
            raise ValueError("expected window_center and window_width together")
        return self

    @property
    def display_window(self) -> Window | int | None:
        """Through which window the picture is shown."""
        if self.window_center is None or self.window_width is None:
            return self.window
        return Window(self.window_center, self.window_width)


class ExplainOptions(ClassifyOptions, PictureOptions):
    """Form fields of /explain beside `image`."""

    target: Names = Field(
        default=(),
        description="Label to explain, the most probable one if left out; repeat the field for "
        "several, which are drawn side by side.",
    )
    output: Literal["overlay", "heatmap", "json", "layers", "dicom"] = Field(
        default="overlay",
        description="overlay: the picture under its heatmap. heatmap: the map alone, gray. "
        "json: the answer of /classify with target, peak and overlay. layers: the answer of "
        "/classify with picture and heatmap of every label apart. dicom: the overlay as a "
        "Secondary Capture in the study of the file sent.",
    )
    style: Literal["heat", "contour"] = Field(
        default="heat", description="Color the evidence, or draw lines at 25, 50 and 75 %."
    )
    opacity: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = Field(
        default=0.4, description="Opacity of the hottest place, from 0 to 1."
    )
    colormap: Annotated[str, AfterValidator(_colormap)] = Field(
        default="turbo", json_schema_extra={"enum": list(COLORMAPS)}
    )


Options = TypeVar("Options", bound=ReadOptions)


async def read_form(
    request: Request, options: type[Options], settings: Settings, *, most_files: int = 1
) -> tuple[list[bytes], Options]:
    """Read a request's files, at least one, and its options.

    Raises:
        RequestError: The form is not as it should be; see its kinds.
    """
    try:
        async with asyncio.timeout(settings.upload_timeout_s):
            parts = _Parts(options, most_files)
            await _read_parts(request, parts, settings)
    except TimeoutError:
        raise UploadTooSlow(
            f"the upload took longer than {settings.upload_timeout_s:g} seconds"
        ) from None
    return parts.files(), _checked(options, {**parts.texts, **parts.lists})


def _checked(options: type[Options], texts: Mapping[str, object]) -> Options:
    try:
        return options.model_validate(texts)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        problem = first["msg"].removeprefix("Value error, ")
        where = f"{first['loc'][0]}: " if first["loc"] else ""
        raise BadOption(f"{where}{problem}") from None


async def _read_parts(request: Request, parts: "_Parts", settings: Settings) -> None:
    kind, parameters = parse_options_header(request.headers.get("Content-Type"))
    if kind != b"multipart/form-data":
        raise BadForm(
            "there is no `image`: send a form, Content-Type multipart/form-data, with the picture "
            "as the file `image`; addresses are never fetched"
        )
    boundary = parameters.get(b"boundary")
    if not boundary:
        raise BadForm("the Content-Type names no boundary")
    limit = settings.max_upload_mb * 1_000_000
    too_large = UploadTooLarge(
        f"the request is larger than {settings.max_upload_mb:g} MB, the most accepted"
    )
    announced = request.headers.get("Content-Length", "")
    if announced.isdecimal() and int(announced) > limit:
        raise too_large
    received = 0
    try:
        parser = MultipartParser(boundary, parts.callbacks())
        async for chunk in request.stream():
            # What was announced may be a lie, so what comes is counted.
            received += len(chunk)
            if received > limit:
                raise too_large
            parser.write(chunk)
    except FormParserError as error:
        raise BadForm("the form is malformed") from error
    if not parts.complete:
        raise BadForm("the form ends before its last boundary")


class _Parts:
    """Collects the parts of one form, and refuses one as soon as its name is known.

    Attributes:
        texts: Options as they were sent.
        lists: Those that may be there several times.
        complete: Whether the last boundary has been seen.
    """

    def __init__(self, options: type[ReadOptions], most_files: int) -> None:
        self.texts: dict[str, str] = {}
        self.lists: dict[str, list[str]] = {
            name: []
            for name, field in options.model_fields.items()
            if get_origin(field.annotation) is tuple
        }
        self.complete = False
        self._known = {"image", *options.model_fields}
        self._most_files = most_files
        self._files: list[bytes] = []
        self._header_name, self._header_value = b"", b""
        self._disposition = b""
        self._name = ""
        self._chunks: list[bytes] = []
        self._size = 0

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
        self._disposition, self._chunks, self._size = b"", [], 0

    def _on_header_name(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _on_header_end(self) -> None:
        if self._header_name.lower() == b"content-disposition":
            self._disposition = self._header_value
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
        is_file = b"filename" in parameters or b"filename*=" in self._disposition
        if is_file and self._name != "image":
            raise BadOption(f"`{self._name}` is a file, expected a text")
        if not is_file and self._name == "image":
            raise BadForm("`image` is a text, expected a file; addresses are never fetched")

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        self._size += end - start
        if self._name != "image" and self._size > MAX_OPTION_BYTES:
            raise BadOption(f"`{self._name}` is longer than {MAX_OPTION_BYTES} bytes")
        self._chunks.append(data[start:end])

    def _end(self) -> None:
        content = b"".join(self._chunks)
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


def _text(content: bytes, what: str) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        raise BadOption(f"{what} is no UTF-8 text") from None
