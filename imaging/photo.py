"""PNG and JPEG → display-ready pixels."""

import struct
import zlib
from collections.abc import Callable
from functools import partial

import cv2
import numpy as np

from imaging import icc
from imaging.codestream import START_OF_SCAN, Codestream, jpeg_segments
from imaging.complaints import listen
from imaging.errors import ImageTooLarge, UnreadableImage, UnsupportedImage, WindowNotFound
from imaging.image import Facts, ImageFile, Window, check_pixels

# OpenCV's complaints fill the log, and may quote the file. Ours say enough.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)

PNG = b"\x89PNG\r\n\x1a\n"
JPEG = b"\xff\xd8\xff"
PROGRESSIVE = 0xC2

# Bits per sample that a PNG may have, by its color type (ISO 15948, table 11.1).
PNG_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
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


def looks_like_photo(data: bytes) -> bool:
    """Say whether the first bytes are those of a PNG or a JPEG."""
    return data.startswith((PNG, JPEG))


def open_photo(data: bytes, max_megapixels: float) -> ImageFile:
    """Read the header of a PNG or JPEG.

    Args:
        data: The whole file.
        max_megapixels: Most pixels allowed, in millions.

    Raises:
        ImagingError: Damaged, truncated, animated, too large, or a rare variant not read.
    """
    return (_open_png if data.startswith(PNG) else _open_jpeg)(data, max_megapixels)


def still(
    kind: str,
    data: bytes,
    width: int,
    height: int,
    orientation: int,
    max_megapixels: float,
    *,
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


def _open_png(data: bytes, max_megapixels: float) -> ImageFile:
    """Read the header of a PNG whose every chunk is whole."""
    orientation, profile = 1, b""
    # where they are: the decoder would complain of a bad one, by its name
    profiles: list[int] = []
    width = height = depth = color = 0
    transparent = None
    seen: set[bytes] = set()
    at = len(PNG)
    while True:
        if at + 12 > len(data):
            raise UnreadableImage("a truncated PNG")
        length, name = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if end > len(data):
            raise UnreadableImage("a truncated PNG")
        body = memoryview(data)[at + 8 : end - 4]
        if zlib.crc32(body, zlib.crc32(name)) != struct.unpack_from(">I", data, end - 4)[0]:
            raise UnreadableImage("a damaged PNG: wrong checksum")
        if not seen and (name != b"IHDR" or length != 13):
            raise UnreadableImage("a damaged PNG: does not start with its size")
        if name == b"IHDR":
            if seen:
                raise UnreadableImage("a damaged PNG: says its size twice")
            width, height, depth, color = struct.unpack_from(">IIBB", body)
            if depth not in PNG_DEPTHS.get(color, ()):
                raise UnreadableImage(f"a damaged PNG: {depth} bits of color type {color}")
        elif name == b"acTL" and b"IDAT" not in seen:
            raise UnsupportedImage("an animated PNG, expected one still picture")
        elif name == b"eXIf":
            orientation = _exif_orientation(bytes(body))
        elif name == b"tRNS" and color == 0 and length == 2 and b"IDAT" not in seen:
            transparent = _decoded_gray(int.from_bytes(body), depth)
        elif name == b"iCCP":
            if not profiles and b"IDAT" not in seen:
                profile = icc.of_png(bytes(body))
            profiles += [at, end]
        elif name == b"IEND":
            break
        seen.add(name)
        at = end
    if b"IDAT" not in seen:
        raise UnreadableImage("a PNG without pixels")
    if profiles:
        ends = [0, *profiles, len(data)]
        data = b"".join(data[start:end] for start, end in zip(ends[::2], ends[1::2], strict=True))
    return still(
        *("png", data, width, height, orientation, max_megapixels),
        transparent=transparent,
        profile=profile,
    )


def _decoded_gray(value: int, depth: int) -> int:
    """A gray of so many bits, the lowest of 16 (ISO 15948, 11.3.2.1), as OpenCV decodes it."""
    most = (1 << depth) - 1
    return (value & most) * max(1, 255 // most)


def _open_jpeg(data: bytes, max_megapixels: float) -> ImageFile:
    """Read the header of a JPEG that has an end; one of several scans is fragile.

    A scan of a few bytes makes the decoder go through the whole picture, and there may be millions.
    """
    orientation = in_scan = 1
    profile: list[bytes] = []
    for marker, body, start in jpeg_segments(data):
        if marker == 0xE1 and body.startswith(b"Exif\0\0") and orientation == 1:
            orientation = _exif_orientation(body[6:])
        elif marker == 0xE2 and body.startswith(b"ICC_PROFILE\0"):
            profile.append(body[12:])
        elif marker == START_OF_SCAN:
            if data.rfind(b"\xff\xd9", start) < 0:
                raise UnreadableImage("a truncated JPEG")
            in_scan = body[0] if body else 0
    frame = Codestream.parse(data)
    if frame.process not in (0xC0, 0xC1, PROGRESSIVE) or frame.precision != 8:
        raise UnsupportedImage(
            f"a JPEG of {frame.precision} bits, process SOF{frame.process & 0xF}; "
            "expected 8 bits, baseline or progressive"
        )
    if frame.components not in (1, 3):
        raise UnsupportedImage(f"a JPEG of {frame.components} colors (CMYK), expected gray or RGB")
    return still(
        *("jpeg", data, frame.width, frame.height, orientation, max_megapixels),
        fragile=frame.process == PROGRESSIVE or in_scan != frame.components,
        profile=icc.of_jpeg(profile),
    )


def _exif_orientation(tiff: bytes) -> int:
    """Orientation 1 to 8 from an EXIF block; 1 where it is missing or damaged."""
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None or len(tiff) < 8:
        return 1
    (at,) = struct.unpack_from(order + "I", tiff, 4)
    if at + 2 > len(tiff):
        return 1
    (count,) = struct.unpack_from(order + "H", tiff, at)
    for entry in range(at + 2, min(at + 2 + 12 * count, len(tiff) - 11), 12):
        tag, kind, _, value = struct.unpack_from(order + "HHIH", tiff, entry)
        if tag == 0x0112 and kind == 3 and 1 <= value <= 8:
            return value
    return 1


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
        pixels = cv2.convertScaleAbs(pixels, alpha=1 / 257)
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


def _over_black(pixels: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Lay colors of an opacity over black, the background of a film."""
    return cv2.multiply(pixels, cv2.cvtColor(alpha, cv2.COLOR_GRAY2RGB), scale=1 / 255)
