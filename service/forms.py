"""A multipart request → the bytes of its file and its checked options, in memory.

Frameworks' own parsers spool files to the disk, turn text into whatever it looks like, and one of
them fetches a file from an address that a client names. This one knows a file and a few short
texts, and refuses the rest.
"""

import asyncio
import re
from collections.abc import Mapping
from typing import Annotated, Literal, Self, TypeVar

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

from imaging.image import Window
from imaging.overlay import COLORMAPS
from service.errors import BadOption, UploadTooSlow
from service.parts import MAX_REPEATS, Parts, read_parts
from service.settings import Settings


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
    if request.scope["query_string"]:
        for name in options.model_fields.keys() & request.query_params.keys():
            raise BadOption(f"`{name}` is in the address, expected in the form")
    try:
        async with asyncio.timeout(settings.upload_timeout_s):
            parts = Parts(options, most_files)
            await read_parts(request, parts, settings.max_upload_mb)
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
