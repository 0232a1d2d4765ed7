"""What PNG, JPEG, TIFF and BMP have in common: limits, decoding by OpenCV, which way is up."""

from collections.abc import Callable
from functools import partial

import cv2
import numpy as np

from imaging import icc
from imaging.complaints import listen
from imaging.errors import ImageTooLarge, UnreadableImage, WindowNotFound
from imaging.image import Facts, ImageFile, Window, check_pixels

# OpenCV's complaints fill the log, and may quote the file. Ours say enough.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)

# The decoder's own limit, in pixels.
LONGEST_PNG_SIDE = 1_000_000

# How to bring a picture upright, by EXIF orientation (tag 0x0112); 1 is upright already.
UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: lambda pixels: cv2.flip(pixels, 1),
    3: lambda pixels: cv2.rotate(pixels, cv2.ROTATE_180),
    4: lambda pixels: cv2.flip(pixels, 0),
    5: cv2.transpose,
    6: lambda pixels: cv2.rotate(pixels, cv2.ROTATE_90_CLOCKWISE),
    7: lambda pixels: cv2.flip(cv2.transpose(pixels), -1),
    8: lambda pixels: cv2.rotate(pixels, cv2.ROTATE_90_COUNTERCLOCKWISE),
}


def still(
    *,
    kind: str,
    data: bytes,
    width: int,
    height: int,
    orientation: int,
    max_megapixels: float,
    fragile: bool = False,
    transparent: int | None = None,
    profile: bytes = b"",
) -> ImageFile:
    """A file that OpenCV can decode to one still picture.

    Args:
        kind: Its format, as `Facts` names it.
        data: The whole file; what it says of its orientation is not seen by OpenCV.
        width: Columns as stored.
        height: Rows as stored.
        orientation: How to bring the picture upright, one of `UPRIGHT`; any other is upright.
        max_megapixels: Most pixels allowed, in millions.
        fragile: See `ImageFile`.
        transparent: Which gray, as OpenCV decodes it, stands for transparency; None if none does.
        profile: The ICC profile embedded in it.

    Raises:
        ImagingError: No pixels, or too many of them.
    """
    if not width or not height:
        raise UnreadableImage(f"a {kind.upper()} of {width}x{height} pixels")
    check_pixels(width, height, max_megapixels)
    if kind == "png" and max(width, height) > LONGEST_PNG_SIDE:
        raise ImageTooLarge(f"{width}x{height}: a side may have {LONGEST_PNG_SIDE} pixels")
    foreign = icc.other_than_srgb(profile)
    decode = partial(_decode, data, kind, (height, width), orientation, transparent, foreign)
    if orientation >= 5:
        width, height = height, width

    def read(_frame: int, window: Window | int | None) -> tuple[np.ndarray, None]:
        if window is not None:
            raise WindowNotFound(f"a {kind.upper()} has no windows")
        return decode(), None

    fragile = fragile or foreign is not None
    return ImageFile(Facts(kind=kind, width=width, height=height), read, fragile=fragile)


def _decode(
    data: bytes,
    kind: str,
    shape: tuple[int, int],
    orientation: int,
    transparent: int | None,
    profile: bytes | None,
) -> np.ndarray:
    """Decode to uint8, gray (H, W) or sRGB (H, W, 3), and turn upright."""
    source = np.frombuffer(data, np.uint8)
    try:
        pixels, loss = listen(lambda: cv2.imdecode(source, cv2.IMREAD_UNCHANGED))
    except cv2.error as error:
        raise UnreadableImage(f"a damaged {kind.upper()}") from error
    if loss:
        raise UnreadableImage(f"a damaged {kind.upper()}: {loss}")
    if pixels is None or pixels.shape[:2] != shape:
        raise UnreadableImage(f"a damaged {kind.upper()}")
    if transparent is not None:
        pixels[pixels == transparent] = 0  # over black, as `_over_black` lays the others
    if pixels.dtype == np.uint16:
        pixels = cv2.convertScaleAbs(pixels, alpha=255 / _white(pixels))
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[..., 0]
    if pixels.ndim == 3:
        alpha = pixels[..., 3] if pixels.shape[2] == 4 else None
        pixels = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
        if profile is not None:
            pixels = icc.to_srgb(pixels, profile)
        if alpha is not None:
            pixels = _over_black(pixels, alpha)
    return UPRIGHT[orientation](pixels) if orientation in UPRIGHT else pixels


def _white(pixels: np.ndarray) -> int:
    """Which of 16-bit numbers means white.

    Who turns a film into a PNG or TIFF often leaves a detector's 8, 10 or 12 bits as they are. As
    a part of 16 bits that is black to the eye and to a model, so gray that uses no more is of
    these; a picture that is all but black either way loses nothing by it.
    """
    if pixels.ndim == 3 and pixels.shape[2] > 1:
        return 0xFFFF
    bits = int(pixels.max()).bit_length()
    return (1 << next(held for held in (8, 10, 12, 16) if bits <= held)) - 1


def _over_black(pixels: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Lay colors of an opacity over black, the background of a film."""
    return cv2.multiply(pixels, cv2.cvtColor(alpha, cv2.COLOR_GRAY2RGB), scale=1 / 255)
