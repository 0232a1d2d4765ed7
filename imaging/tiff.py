"""TIFF → display-ready pixels: one still picture of 8 or 16 bits, gray, palette or RGB."""

import struct
from dataclasses import dataclass, replace

import numpy as np

from imaging.errors import ImageTooLarge, UnreadableImage, UnsupportedImage
from imaging.image import ImageFile, Window
from imaging.still import still
from imaging.tiff_packed import COMPRESSIONS, NONE, unpacks_to

ORDERS = {b"II*\0": "<", b"MM\0*": ">"}

# Tags (TIFF 6.0, appendix A)
WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, FILL_ORDER = 256, 257, 258, 259, 262, 266
STRIPS, ORIENTATION, SAMPLES, STRIP_ROWS, STRIP_BYTES, PLANES = 273, 274, 277, 278, 279, 284
TILE_WIDTH, TILE_HEIGHT, TILES, TILE_BYTES = 322, 323, 324, 325
SAMPLE_FORMAT = 339
ICC_PROFILE = 34675  # ISO 15076-1, annex B

WANTED = {
    *(WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, FILL_ORDER, STRIPS, ORIENTATION, SAMPLES),
    *(STRIP_ROWS, STRIP_BYTES, PLANES, TILE_WIDTH, TILE_HEIGHT, TILES, TILE_BYTES, SAMPLE_FORMAT),
    ICC_PROFILE,
}

NUMBERS = {1: "u1", 3: "u2", 4: "u4", 7: "u1"}
"""Types of values that are whole numbers, or bytes of any meaning, as NumPy names them."""

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE = 0, 1, 2, 3
COLORS = {WHITE_IS_ZERO: 1, BLACK_IS_ZERO: 1, RGB: 3, PALETTE: 1}
"""Samples per pixel, by what they mean. With a transparent one OpenCV's pixels differ by depth."""

LOWEST_FIRST = 2
"""Order of the bits in each byte, if it is not the usual one."""
REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))

MOST_PAGES = 10_000
MOST_VALUES = 1 << 22


@dataclass(frozen=True, slots=True)
class _Page:
    """The tags of one page that are wanted.

    Attributes:
        values: Whole numbers of each tag, as they lie in the file.
        places: Where in the file the values of each tag are.
        following: Where the next page is; 0 after the last.
    """

    values: dict[int, np.ndarray]
    places: dict[int, int]
    following: int

    def numbers(self, tag: int) -> np.ndarray:
        """Values of a tag, int64; none where it is missing."""
        return self.values.get(tag, np.empty(0)).astype(np.int64)

    def number(self, tag: int, otherwise: int = 0) -> int:
        """First value of a tag."""
        return int(next(iter(self.values.get(tag, ())), otherwise))


def looks_like_tiff(data: bytes) -> bool:
    """Say whether the first bytes are those of a TIFF of at most 4 GB."""
    return data[:4] in ORDERS


def open_tiff(data: bytes, max_megapixels: float) -> ImageFile:
    """Read the header of a TIFF.

    Args:
        data: The whole file.
        max_megapixels: Most pixels allowed, in millions.

    Raises:
        ImagingError: Damaged, truncated, several pages, too large, or a rare variant not read.
    """
    order = ORDERS[data[:4]]
    try:
        page = _page(data, order, *struct.unpack_from(order + "I", data, 4))
        pages = _count(data, order, page)
    except struct.error as error:
        raise UnreadableImage("a truncated TIFF") from error
    if pages > 1:
        raise UnsupportedImage(f"a TIFF of {pages} pages, expected one still picture")
    _check_kind(page)
    width, height, orientation = page.number(WIDTH), page.number(HEIGHT), page.number(ORIENTATION)
    plain = {}  # what OpenCV minds in some kinds of TIFF and not in others: it need not know
    if orientation > 1:
        plain[ORIENTATION] = 1
    if inverted := page.number(PHOTOMETRIC) == WHITE_IS_ZERO:
        plain[PHOTOMETRIC] = BLACK_IS_ZERO
    if plain:
        data = _with(data, order, {page.places[tag]: number for tag, number in plain.items()})
    file = still(
        kind="tiff",
        data=data,
        width=width,
        height=height,
        orientation=orientation,
        max_megapixels=max_megapixels,
        fragile=True,
        profile=page.values.get(ICC_PROFILE, np.empty(0, np.uint8)).tobytes(),
    )
    parts = _parts(page, width, height, len(data), max_megapixels)

    def decode(frame: int, window: Window | int | None) -> tuple[np.ndarray, None]:
        _check_parts(data, page, parts)
        pixels, _ = file.decode(frame, window)
        return (255 - pixels if inverted else pixels), None

    return replace(file, decode=decode)


def _with(data: bytes, order: str, numbers: dict[int, int]) -> bytes:
    """The file with other 16-bit numbers at some places."""
    copy = bytearray(data)
    for place, number in numbers.items():
        struct.pack_into(order + "H", copy, place, number)
    return bytes(copy)


def _page(data: bytes, order: str, at: int) -> _Page:
    """Read one directory (TIFF 6.0, section 2).

    Raises:
        struct.error: It is not all there.
        UnreadableImage: Neither are the values of its tags.
    """
    (count,) = struct.unpack_from(order + "H", data, at)
    values, places = {}, {}
    for entry in range(at + 2, at + 2 + 12 * count, 12):
        tag, kind, length = struct.unpack_from(order + "HHI", data, entry)
        # of a tag that is there twice, OpenCV too sees the first
        if tag not in WANTED or tag in values or kind not in NUMBERS or length > MOST_VALUES:
            continue
        numbers = np.dtype(order + NUMBERS[kind])
        place = entry + 8
        if length * numbers.itemsize > 4:
            (place,) = struct.unpack_from(order + "I", data, place)
        if place + length * numbers.itemsize > len(data):
            raise UnreadableImage("a truncated TIFF")
        values[tag] = np.frombuffer(data, numbers, length, place)
        places[tag] = place
    (following,) = struct.unpack_from(order + "I", data, at + 2 + 12 * count)
    return _Page(values, places, following)


def _count(data: bytes, order: str, page: _Page) -> int:
    """How many pages there are."""
    pages, at, seen = 1, page.following, set()
    while at and pages < MOST_PAGES:
        if at in seen:
            raise UnreadableImage("a damaged TIFF: its pages go round in a circle")
        seen.add(at)
        (count,) = struct.unpack_from(order + "H", data, at)
        (at,) = struct.unpack_from(order + "I", data, at + 2 + 12 * count)
        pages += 1
    return pages


def _check_kind(page: _Page) -> None:
    bits, samples = set(page.numbers(BITS).tolist()) or {1}, page.number(SAMPLES, 1)
    photometric = page.number(PHOTOMETRIC, -1)
    if page.number(COMPRESSION, NONE) not in COMPRESSIONS:
        raise UnsupportedImage(
            f"a TIFF of compression {page.number(COMPRESSION)}; "
            "expected none, LZW, deflate or PackBits"
        )
    if samples != COLORS.get(photometric):
        raise UnsupportedImage(
            f"a TIFF of {samples} colors, kind {photometric}; expected gray, palette or RGB"
        )
    if len(bits) != 1 or not bits <= {8, 16} or page.number(SAMPLE_FORMAT, 1) != 1:
        raise UnsupportedImage("a TIFF of rare numbers; expected whole ones of 8 or 16 bits")
    if samples > 1 and bits == {16} and page.number(PLANES, 1) != 1:
        # OpenCV would take each plane for whole pixels
        raise UnsupportedImage("a TIFF of 16 bits in planes; expected red, green and blue together")


def _parts(page: _Page, width: int, height: int, size: int, max_megapixels: float) -> np.ndarray:
    """See that all strips or tiles are in the file.

    Returns:
        Of each its place, its bytes in the file, and the bytes of its pixels; int64, (n, 3).
    """
    tiled = TILES in page.values
    starts = page.numbers(TILES if tiled else STRIPS)
    lengths = page.numbers(TILE_BYTES if tiled else STRIP_BYTES)
    if not len(starts) or len(starts) != len(lengths):
        raise UnreadableImage("a damaged TIFF: it does not say where its pixels are")
    if (starts + lengths > size).any():
        raise UnreadableImage("a truncated TIFF")
    samples = page.number(SAMPLES, 1)
    planes = samples if page.number(PLANES, 1) == 2 else 1
    if tiled:
        columns, rows = page.number(TILE_WIDTH), page.number(TILE_HEIGHT)
        if not 0 < columns * rows <= max(max_megapixels * 1e6, 1 << 20):
            raise ImageTooLarge(f"a TIFF in tiles of {columns * rows / 1e6:.0f} megapixels")
    else:
        columns, rows = width, min(page.number(STRIP_ROWS) or height, height)
    count = -(-width // columns) * -(-height // rows) * planes
    if len(starts) < count:
        raise UnreadableImage(f"a truncated TIFF: {len(starts)} strips or tiles, expected {count}")
    sizes = np.full(count, columns * rows)
    if not tiled and height % rows:
        sizes[count // planes - 1 :: count // planes] = columns * (height % rows)
    sizes *= samples // planes * page.number(BITS, 1) // 8
    if page.number(COMPRESSION, NONE) == NONE and (lengths[:count] < sizes).any():
        raise UnreadableImage("a truncated TIFF")
    return np.stack([starts[:count], lengths[:count], sizes], axis=1)


def _check_parts(data: bytes, page: _Page, parts: np.ndarray) -> None:
    """See that each strip or tile unpacks to all of its pixels."""
    compression = page.number(COMPRESSION, NONE)
    lowest_first = page.number(FILL_ORDER) == LOWEST_FIRST
    for index, (start, length, size) in enumerate(parts.tolist(), 1):
        packed = data[start : start + length]
        if lowest_first:
            packed = packed.translate(REVERSED)
        if not unpacks_to(packed, compression, size):
            raise UnreadableImage(
                f"a damaged TIFF: strip or tile {index} of {len(parts)} "
                f"does not unpack to {size} bytes"
            )
