"""PNG and JPEG → display-ready pixels."""

import struct
import zlib
from collections.abc import Iterator

from imaging import icc
from imaging.codestream import START_OF_SCAN, Codestream, jpeg_segments
from imaging.errors import UnreadableImage, UnsupportedImage
from imaging.image import ImageFile
from imaging.still import still

PNG = b"\x89PNG\r\n\x1a\n"
JPEG = b"\xff\xd8\xff"
PROGRESSIVE = 0xC2

# Bits per sample that a PNG may have, by its color type (ISO 15948, table 11.1).
PNG_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}


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


def _open_png(data: bytes, max_megapixels: float) -> ImageFile:
    """Read the header of a PNG whose every chunk is whole."""
    orientation, profile = 1, b""
    # where they are: the decoder would complain of a bad one, by its name
    profiles: list[int] = []
    width = height = depth = color = 0
    transparent = None
    pixels = False
    for name, body, start, end in _png_chunks(data):
        if name == b"IHDR":
            width, height, depth, color = struct.unpack_from(">IIBB", body)
            if depth not in PNG_DEPTHS.get(color, ()):
                raise UnreadableImage(f"a damaged PNG: {depth} bits of color type {color}")
        elif name == b"IDAT":
            pixels = True
        elif name == b"acTL" and not pixels:
            raise UnsupportedImage("an animated PNG, expected one still picture")
        elif name == b"eXIf":
            orientation = _exif_orientation(bytes(body))
        elif name == b"tRNS" and color == 0 and len(body) == 2 and not pixels:
            transparent = _decoded_gray(int.from_bytes(body), depth)
        elif name == b"iCCP":
            if not profiles and not pixels:
                profile = icc.of_png(bytes(body))
            profiles += [start, end]
    if not pixels:
        raise UnreadableImage("a PNG without pixels")
    if profiles:
        ends = [0, *profiles, len(data)]
        data = b"".join(data[start:end] for start, end in zip(ends[::2], ends[1::2], strict=True))
    return still(
        kind="png",
        data=data,
        width=width,
        height=height,
        orientation=orientation,
        max_megapixels=max_megapixels,
        transparent=transparent,
        profile=profile,
    )


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, memoryview, int, int]]:
    """Walk the chunks of a PNG up to its end, its size first and only there (ISO 15948, 5.3).

    Yields:
        Name, content, and where in the file the chunk begins and ends.

    Raises:
        UnreadableImage: Truncated, or damaged.
    """
    at = len(PNG)
    name = b""
    while name != b"IEND":
        first = at == len(PNG)
        if at + 12 > len(data):
            raise UnreadableImage("a truncated PNG")
        length, name = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if end > len(data):
            raise UnreadableImage("a truncated PNG")
        body = memoryview(data)[at + 8 : end - 4]
        if zlib.crc32(body, zlib.crc32(name)) != struct.unpack_from(">I", data, end - 4)[0]:
            raise UnreadableImage("a damaged PNG: wrong checksum")
        if first and (name != b"IHDR" or length != 13):
            raise UnreadableImage("a damaged PNG: does not start with its size")
        if name == b"IHDR" and not first:
            raise UnreadableImage("a damaged PNG: says its size twice")
        yield name, body, at, end
        at = end


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
        kind="jpeg",
        data=data,
        width=frame.width,
        height=frame.height,
        orientation=orientation,
        max_megapixels=max_megapixels,
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
