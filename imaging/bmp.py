"""BMP → display-ready pixels."""

import struct
from dataclasses import replace

import cv2
import numpy as np

from imaging.errors import UnreadableImage, UnsupportedImage
from imaging.image import ImageFile, Window
from imaging.still import still

HEADER_SIZES = (40, 52, 56, 108, 124)
BIT_MASKS = 3
DEPTHS = {0: (1, 4, 8, 16, 24, 32), BIT_MASKS: (16, 32)}
"""Bits per pixel, by compression: 0 none, or bit masks. Run lengths are rare, and refused."""

WITH_ALPHA = 56
"""Size of the shortest header that has a mask for transparency."""

MASKS = slice(54, 66)
"""Where those of red, green and blue are, in a header or behind the shortest one."""

SIXTEEN_BITS = {(0x7C00, 0x3E0, 0x1F): (5, 5, 5), (0xF800, 0x7E0, 0x1F): (5, 6, 5)}
"""Bits of red, green and blue, by their masks, in a pixel of 16 bits."""


def looks_like_bmp(data: bytes) -> bool:
    """Say whether the first bytes are those of a BMP, and not of a text that starts with BM."""
    return data.startswith(b"BM") and len(data) >= 18 and data[14] in (12, *HEADER_SIZES)


def open_bmp(data: bytes, max_megapixels: float) -> ImageFile:
    """Read the header of a BMP.

    Args:
        data: The whole file.
        max_megapixels: Most pixels allowed, in millions.

    Raises:
        ImagingError: Damaged, truncated, too large, or a rare variant not read.
    """
    start, size = struct.unpack_from("<II", data, 10)
    if size not in HEADER_SIZES:
        raise UnsupportedImage("a BMP of OS/2, expected one of Windows")
    if len(data) < 14 + size:
        raise UnreadableImage("a truncated BMP")
    width, height, _, depth, compression = struct.unpack_from("<iiHHI", data, 18)
    height = abs(height)  # negative: the upper row comes first
    if width <= 0 or not height:
        raise UnreadableImage(f"a BMP of {width}x{height} pixels")
    if depth not in DEPTHS.get(compression, ()):
        raise UnsupportedImage(
            f"a BMP of {depth} bits, compression {compression}; expected an uncompressed one"
        )
    row = (width * depth + 31) // 32 * 4
    whole = 14 + size <= start and start + row * height <= len(data)
    if compression == BIT_MASKS and depth == 32 and size < WITH_ALPHA:
        data = _opaque(data, start)
    bits = (5, 5, 5)
    if compression == BIT_MASKS and depth == 16:
        bits = _bits(data, size)
        data = _shortest_header(data, start)
    file = still(
        kind="bmp",
        data=data,
        width=width,
        height=height,
        orientation=1,
        max_megapixels=max_megapixels,
    )
    if not whole:
        raise UnreadableImage("a truncated BMP")
    return _spread(file, bits) if depth == 16 else file


def _bits(data: bytes, size: int) -> tuple[int, int, int]:
    """Bits of red, green and blue in a pixel of 16 bits with masks."""
    masks = struct.unpack("<3I", data[MASKS].ljust(12, b"\0"))
    transparent = size >= WITH_ALPHA and any(data[MASKS.stop : MASKS.stop + 4])
    if masks not in SIXTEEN_BITS or transparent:
        found = " ".join(f"{mask:x}" for mask in masks)
        raise UnsupportedImage(
            f"a BMP of 16 bits, masks {found}{' and one for transparency' * transparent}; "
            "expected 7c00 3e0 1f or f800 7e0 1f"
        )
    return SIXTEEN_BITS[masks]


def _shortest_header(data: bytes, start: int) -> bytes:
    """The file with the header that OpenCV expects where a pixel has 16 bits."""
    return data[:10] + struct.pack("<II", MASKS.stop, 40) + data[18 : MASKS.stop] + data[start:]


def _spread(file: ImageFile, bits: tuple[int, int, int]) -> ImageFile:
    """The file with its colors up to 255: of so few bits, OpenCV leaves the lower ones 0."""
    most = (1 << np.array(bits)) - 1
    table = np.rint((np.arange(256)[:, None] >> (8 - np.array(bits))) * 255 / most)

    def decode(frame: int, window: Window | int | None) -> tuple[np.ndarray, None]:
        pixels, _ = file.decode(frame, window)
        return cv2.LUT(pixels, table.astype(np.uint8)[None]), None

    return replace(file, decode=decode)


def _opaque(data: bytes, start: int) -> bytes:
    """The file with a header that says that nothing is transparent.

    OpenCV takes the fourth byte of a pixel, which is mostly 0, for transparency where the header
    is silent about it.
    """
    header = struct.pack("<II", 14 + WITH_ALPHA, WITH_ALPHA) + data[18:66] + bytes(4)
    return data[:10] + header + data[start:]
