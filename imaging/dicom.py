"""DICOM → display-ready pixels: gate on the header, decode, rescale, window, invert, color."""

from contextlib import suppress

import numpy as np

from imaging import icc
from imaging.dicom_display import color, grayscale
from imaging.dicom_header import Header, check, facts, packed, read_header
from imaging.dicom_stored import NATIVE, PixelFormat, pixel_format, stored_values
from imaging.errors import ImagingError, WindowNotFound
from imaging.image import ImageFile, Voi, Window

MONOCHROME = ("MONOCHROME1", "MONOCHROME2")


def open_dicom(data: bytes, max_megapixels: float) -> ImageFile:
    """Read the header of a DICOM file.

    Args:
        data: The whole file.
        max_megapixels: Most pixels that one frame may have, in millions.

    Raises:
        ImagingError: No picture, not readable, or too large.
    """
    header = read_header(data, most_bytes=int(max_megapixels * 1e6) * 12)
    try:
        check(header, max_megapixels)
        form = pixel_format(header)
    except ImagingError as error:
        with suppress(ImagingError):
            error.facts = facts(header)
        raise
    known = facts(header)
    profile = None
    if form.photometric not in MONOCHROME:  # PS3.3 C.11.15; an optical path's own is not looked at
        profile = icc.other_than_srgb(packed(header.dataset, "ICCProfile"))
    return ImageFile(
        known,
        lambda frame, window: _decode(header, form, profile, known.frames, frame, window),
        fragile=header.syntax not in NATIVE or profile is not None,
    )


def _decode(
    header: Header,
    form: PixelFormat,
    profile: bytes | None,
    frames: int,
    index: int,
    window: Window | int | None,
) -> tuple[np.ndarray, Voi | None]:
    codes, form = stored_values(header, form, frames, index)
    if form.photometric in MONOCHROME:
        return grayscale(codes, form, header, index, window)
    if window is not None:
        raise WindowNotFound("a color picture has no windows")
    pixels = color(codes, form, header)
    return pixels if profile is None else icc.to_srgb(pixels, profile), None
