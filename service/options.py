"""What a request may ask for beside its picture: the fields of its form, and what they may say."""

import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from imaging.image import Window
from imaging.overlay import COLORMAPS

MAX_REPEATS = 16
"""How often a field may be there that may be repeated."""

NOT_THE_LOOK = {"model", "target", "output", "format", "force"}
"""Fields that do not change what an overlay shows of one label."""


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

    @property
    def look(self) -> str:
        """What an overlay looks like, in words that are the same for the same look."""
        return self.model_dump_json(exclude=NOT_THE_LOOK)
