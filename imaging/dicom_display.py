"""Stored values → brightness: the grayscale and color pipelines of DICOM PS3.4 N.2.

Up to 16 bits the whole pipeline is computed once per possible stored value and written down as a
table; the picture is then one look-up per pixel. Beyond that it is computed for some rows at a
time: as numbers of 64 bits a whole film would take many times its memory.
"""

from collections.abc import Iterator
from dataclasses import replace
from math import isfinite
from typing import Literal, NamedTuple

import cv2
import numpy as np
from pydicom.dataset import Dataset

from imaging.dicom_header import Header, numbers, sequence, text, value
from imaging.dicom_lut import Transform, first_table, look_up_table, white
from imaging.dicom_stored import PixelFormat
from imaging.errors import UnreadableImage, WindowNotFound
from imaging.image import Voi, Window

# [R, G, B] from [Y, Cb, Cr, 1], values 0 to 255 (PS3.3 C.7.6.3.1.2).
YBR_FULL = np.array(
    [
        [1, 0, 1.402, -179.456],
        [1, -0.344136, -0.714136, 135.458816],
        [1, 1.772, 0, -226.816],
    ]
)
YBR_PARTIAL = np.array(
    [
        [1.164384, 0, 1.596027, -222.921544],
        [1.164384, -0.391762, -0.812968, 135.575295],
        [1.164384, 2.017232, 0, -276.835851],
    ]
)

PIXELS_AT_ONCE = 1 << 16
"""How many pixels of more than 16 bits are computed at a time, each in some 40 bytes."""


class _Shades(NamedTuple):
    """What makes shades of gray, in [0, 1], of values, and how `Voi` tells it."""

    transform: Transform
    window: Window
    source: Literal["file", "table", "range", "chosen"]


def grayscale(
    codes: np.ndarray,
    form: PixelFormat,
    header: Header,
    index: int,
    chosen: Window | int | None = None,
) -> tuple[np.ndarray, Voi]:
    """Turn the stored codes of a MONOCHROME frame into brightness, uint8, (H, W).

    Raises:
        ImagingError: Damaged tables, or the file has no such window as was chosen.
    """
    modality = _modality(header, index)
    shades = _window(header, index, chosen)
    inverted = _is_inverted(form, header)
    if codes.dtype.itemsize > 2:
        if shades is None:
            shades = _range(*_extremes(codes, form, header, modality), _shape(header, index))
        transform = shades.transform
        pixels = _in_blocks(
            codes,
            lambda some: _bytes(transform(np.nan_to_num(modality(_values(some, form)))), inverted),
        )
        return pixels, Voi(shades.window, shades.source, inverted)
    every = np.arange(1 << (8 * codes.itemsize), dtype=np.uint32).astype(codes.dtype)
    meaning = _values(every, form)
    brightness = modality(meaning)
    if shades is None:
        present = cv2.calcHist([codes], [0], None, [every.size], [0, every.size]).reshape(-1) > 0
        unpadded = present & ~_padding(meaning, form, header)
        shades = _range(brightness[unpadded], brightness[present], _shape(header, index))
    pixels = cv2.LUT(codes, _bytes(shades.transform(brightness), inverted))
    return pixels, Voi(shades.window, shades.source, inverted)


def _in_blocks(codes: np.ndarray, transform: Transform) -> np.ndarray:
    """What `transform` makes of all codes, uint8, in their shape; it sees some rows at a time."""
    pixels = np.empty(codes.shape, np.uint8)
    for rows in _blocks(codes):
        pixels[rows] = transform(codes[rows])
    return pixels


def _blocks(codes: np.ndarray) -> Iterator[slice]:
    """Rows of `PIXELS_AT_ONCE`, or one row that is longer."""
    step = max(1, PIXELS_AT_ONCE // codes.shape[1])
    for first in range(0, codes.shape[0], step):
        yield slice(first, first + step)


def _extremes(
    codes: np.ndarray, form: PixelFormat, header: Header, modality: Transform
) -> tuple[np.ndarray, np.ndarray]:
    """The smallest and the largest value of each block: without padding, and with it.

    No infinity and no NaN is among them; where there is no such pixel, there is no value.
    """
    film: list[float] = []
    every: list[float] = []
    for rows in _blocks(codes):
        meaning = _values(codes[rows], form)
        values = modality(meaning)
        finite = np.isfinite(values)
        unpadded = finite & ~_padding(meaning, form, header)
        for found, chosen in ((film, unpadded), (every, finite)):
            if chosen.any():
                found += [values[chosen].min(), values[chosen].max()]
    return np.array(film), np.array(every)


def _values(codes: np.ndarray, form: PixelFormat) -> np.ndarray:
    """What stored codes mean: valid bits only, with their sign; float64."""
    if form.floating:
        return codes.astype(np.float64)
    values = (codes.astype(np.int64) >> form.shift) & ((1 << form.stored) - 1)
    if form.signed:
        values -= (values >> (form.stored - 1)) << form.stored
    return values.astype(np.float64)


def _modality(header: Header, index: int) -> Transform:
    """The modality LUT, or rescale slope and intercept, or nothing (PS3.3 C.11.1)."""
    if lut := first_table(header.dataset, "ModalityLUTSequence"):
        return look_up_table(lut, header, _is_signed(header))
    slope, intercept = _rescale(header, index)
    return lambda values: values * slope + intercept


def _rescale(header: Header, index: int) -> tuple[float, float]:
    """Rescale slope and intercept, 1 and 0 where the file has none that make sense."""
    group = header.group("PixelValueTransformationSequence", index)
    slope, intercept = numbers(group, "RescaleSlope"), numbers(group, "RescaleIntercept")
    return (slope or [1.0])[0] or 1.0, (intercept or [0.0])[0]


def _shape(header: Header, index: int) -> str:
    return text(header.group("FrameVOILUTSequence", index), "VOILUTFunction")


def _window(header: Header, index: int, chosen: Window | int | None) -> _Shades | None:
    """A VOI LUT or window, to [0, 1] (PS3.3 C.11.2); None where the file has none.

    Those of the file are counted from 1, look-up tables first; without a choice it is the first
    that says something.
    """
    shape = _shape(header, index)
    if isinstance(chosen, Window):
        return _Shades(_ramp(chosen, shape), chosen, "chosen")
    group = header.group("FrameVOILUTSequence", index)
    tables = [item for item in sequence(group, "VOILUTSequence") if value(item, "LUTData")]
    centers, widths = (numbers(group, f"Window{name}", odd=True) for name in ("Center", "Width"))
    pairs = zip(centers, widths, strict=False)
    windows = [Window(*pair) if isfinite(sum(pair)) else None for pair in pairs]
    listed: list[Dataset | Window | None] = [*tables, *windows]
    count = len(listed)
    if chosen is not None and not 1 <= chosen <= count:
        raise WindowNotFound(f"has {count} window{'s'[: count != 1]}, there is no window {chosen}")
    asked = listed[chosen - 1 : chosen] if chosen else listed
    found = next((one for one in asked if one), None)
    if isinstance(found, Dataset):
        return _voi_table(found, header, index)
    if found is None and chosen:
        raise WindowNotFound(f"window {chosen} of {count} is no numbers, expected center and width")
    if found is None or found.width <= 0:
        return None
    return _Shades(_ramp(found, shape), found, "file")


def _voi_table(item: Dataset, header: Header, index: int) -> _Shades:
    _, intercept = _rescale(header, index)
    # what a modality LUT gives is never negative
    mapped = first_table(header.dataset, "ModalityLUTSequence")
    table = look_up_table(item, header, not mapped and (_is_signed(header) or intercept < 0))
    values = np.arange(-(1 << 16), 1 << 16, dtype=np.float64)
    entries = table(values)
    whitest = white(item, int(entries.max()))
    return _Shades(
        lambda values: table(values) / whitest, _as_window(values, entries / whitest), "table"
    )


def _as_window(values: np.ndarray, shades: np.ndarray) -> Window:
    """The window nearest to a table: the line through where it begins and where it ends."""
    [steps] = np.nonzero(np.diff(shades))
    if not steps.size:
        return _from_to(0, 0)
    ends = [steps[0], steps[-1] + 1]
    (low, high), (dark, bright) = values[ends], shades[ends]
    if bright <= dark:
        return _from_to(low, high)
    slope = (high - low) / (bright - dark)
    return _from_to(low - dark * slope, high + (1 - bright) * slope)


def _ramp(window: Window, shape: str) -> Transform:
    """A window of one of the shapes of PS3.3 C.11.2.1.2 and C.11.2.1.3."""
    center, width = window.center, window.width
    if shape == "SIGMOID":
        return lambda values: 1 / (1 + np.exp(np.clip(-4 * (values - center) / width, -700, 700)))
    if shape != "LINEAR_EXACT" and width >= 1:
        center, width = center - 0.5, width - 1
    if width == 0:
        return lambda values: (values > center).astype(np.float64)
    return lambda values: np.clip((values - center) / width + 0.5, 0, 1)


def _from_to(low: float, high: float, shape: str = "") -> Window:
    """The window whose darkest value and whose brightest one these are."""
    more = 0 if shape == "LINEAR_EXACT" else 1  # the end of `_ramp`, solved for the window
    return Window(float(low + high + more) / 2, float(high - low) + more)


def _range(values: np.ndarray, otherwise: np.ndarray, shape: str) -> _Shades:
    """Spread the values present over [0, 1]."""
    values = values if values.size else otherwise
    low, high = (values.min(), values.max()) if values.size else (0.0, 1.0)
    scale = 1 / (high - low) if high > low else 0.0
    return _Shades(
        lambda values: np.clip((values - low) * scale, 0, 1), _from_to(low, high, shape), "range"
    )


def _padding(values: np.ndarray, form: PixelFormat, header: Header) -> np.ndarray:
    """Which stored values only fill the frame (PS3.3 C.7.5.1.1.2, C.7.6.24 and C.7.6.25)."""
    name = header.keyword.removesuffix("Data") + "Padding"
    first = numbers(header.dataset, f"{name}Value", odd=form.floating)
    if not first:
        return np.zeros(values.shape, bool)
    last = numbers(header.dataset, f"{name}RangeLimit", odd=form.floating) or first
    ends = np.array([first[0], last[0]])
    if not form.floating:
        # written signed or unsigned, whatever the pixels are, and maybe more than an int64 holds
        codes = [int(end) & ((1 << form.stored) - 1) for end in (first[0], last[0])]
        ends = _values(np.array(codes), replace(form, shift=0))
    return (values >= np.fmin(*ends)) & (values <= np.fmax(*ends))


def _is_inverted(form: PixelFormat, header: Header) -> bool:
    # MONOCHROME1 with the shape IDENTITY contradicts itself (PS3.3 C.8.11.3.1.2 wants INVERSE):
    # like most viewers, trust the photometric interpretation, without which pixels mean nothing.
    return form.photometric == "MONOCHROME1" or header.text("PresentationLUTShape") == "INVERSE"


def _is_signed(header: Header) -> bool:
    return header.integer("PixelRepresentation", 0) == 1


def _bytes(brightness: np.ndarray, inverted: bool) -> np.ndarray:
    """Scale [0, 1] to uint8; inverting is the last thing done."""
    if inverted:
        brightness = 1 - brightness
    return np.rint(brightness * 255).astype(np.uint8)


def color(codes: np.ndarray, form: PixelFormat, header: Header) -> np.ndarray:
    """Turn the stored codes of a color frame into RGB, uint8, (H, W, 3)."""
    if form.photometric == "PALETTE COLOR":
        return _palette(codes, form, header)
    if codes.dtype != np.uint8 or form.stored != 8 or form.shift:
        codes = _to_bytes(codes, form)
    if form.photometric in ("YBR_FULL", "YBR_FULL_422"):
        return cv2.transform(codes, YBR_FULL)
    if form.photometric.startswith("YBR_PARTIAL"):
        return cv2.transform(codes, YBR_PARTIAL)
    return codes


def _to_bytes(codes: np.ndarray, form: PixelFormat) -> np.ndarray:
    """Scale codes of any depth to uint8."""
    top = (1 << form.stored) - 1
    if codes.dtype.itemsize > 2:
        return _in_blocks(
            codes, lambda some: np.rint(_values(some, form) * (255 / top)).astype(np.uint8)
        )
    every = np.arange(1 << (8 * codes.itemsize), dtype=np.uint32).astype(codes.dtype)
    return cv2.LUT(codes, np.rint(_values(every, form) * (255 / top)).astype(np.uint8))


def _palette(codes: np.ndarray, form: PixelFormat, header: Header) -> np.ndarray:
    """Look colors up (PS3.3 C.7.6.3.1.5, segmented C.7.9.2)."""
    if codes.dtype.itemsize > 2:
        raise UnreadableImage("PALETTE COLOR with more than 16 bits")
    every = np.arange(1 << (8 * codes.itemsize), dtype=np.uint32).astype(codes.dtype)
    indices = _values(every, form)
    tables = [
        look_up_table(header.dataset, header, form.signed, f"{name}PaletteColorLookupTable")
        for name in ("Red", "Green", "Blue")
    ]
    colors = np.stack([table(indices) for table in tables], axis=-1)
    # some files keep 8-bit colors in 16-bit entries
    scale = 1 / 257 if colors.max() > 255 else 1.0
    return np.take(np.rint(colors * scale).astype(np.uint8), codes, axis=0)
