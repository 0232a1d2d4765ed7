"""BMP → display-ready pixels."""

import struct

from imaging.errors import UnreadableImage, UnsupportedImage
from imaging.image import ImageFile
from imaging.photo import still

HEADER_SIZES = (40, 52, 56, 108, 124)
BIT_MASKS = 3
DEPTHS = {0: (1, 4, 8, 16, 24, 32), BIT_MASKS: (16, 32)}
"""Bits per pixel, by compression: 0 none, or bit masks. Run lengths are rare, and refused."""

WITH_ALPHA = 56
"""Size of the shortest header that has a mask for transparency."""


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
    file = still("bmp", data, width, height, 1, max_megapixels)
    if not whole:
        raise UnreadableImage("a truncated BMP")
    return file


def _opaque(data: bytes, start: int) -> bytes:
    """The file with a header that says that nothing is transparent.

    OpenCV takes the fourth byte of a pixel, which is mostly 0, for transparency where the header
    is silent about it.
    """
    header = struct.pack("<II", 14 + WITH_ALPHA, WITH_ALPHA) + data[18:66] + bytes(4)
    return data[:10] + header + data[start:]
