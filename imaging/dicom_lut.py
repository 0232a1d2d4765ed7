"""Look-up tables of DICOM: modality, VOI and palette, whole or in segments."""

from collections.abc import Callable

import numpy as np
from pydicom.dataset import Dataset

from imaging.dicom_header import Header, numbers, sequence, value
from imaging.errors import UnreadableImage

Transform = Callable[[np.ndarray], np.ndarray]

DISCRETE, LINEAR, INDIRECT = 0, 1, 2
"""Kinds of segments."""


def first_table(dataset: Dataset, keyword: str) -> Dataset | None:
    """First item of an LUT sequence that has one in it."""
    items = sequence(dataset, keyword)
    return items[0] if items and value(items[0], "LUTData") else None


def look_up_table(item: Dataset, header: Header, signed: bool, name: str = "LUT") -> Transform:
    """The table that `item` keeps under `name` (PS3.3 C.11.1.1, C.7.6.3.1.5).

    Values before its first entry have that one, values beyond its last that.

    Args:
        item: The data set, or the item of a sequence, that holds descriptor and data.
        header: For the order of the bytes.
        signed: Whether the values looked up may be negative.
        name: How the keywords of descriptor and data begin.

    Raises:
        UnreadableImage: It is incomplete or damaged.
    """
    descriptor = [int(number) for number in numbers(item, f"{name}Descriptor")]
    data, segments = value(item, f"{name}Data"), value(item, f"Segmented{name}Data")
    if len(descriptor) != 3 or not (data or segments):
        raise UnreadableImage("a look-up table without descriptor or data")
    count, first, bits = descriptor
    count = count or 1 << 16
    first &= 0xFFFF  # US or SS; implicit VR does not say which
    if signed and first >= 1 << 15:
        first -= 1 << 16
    order = "<" if header.little_endian else ">"
    if not data:
        entries = _expanded(segments, count, 8 if bits <= 8 else 16, order)
    elif isinstance(data, bytes):
        entries = _unpacked(data, 16 if len(data) >= 2 * count else 8, order)[:count]
    else:
        entries = np.array(data).reshape(-1)[:count]
    if not entries.size:
        raise UnreadableImage("an empty look-up table")
    entries, last = entries.astype(np.float64), entries.size - 1
    return lambda values: entries[np.clip(np.rint(values) - first, 0, last).astype(np.int64)]


def white(item: Dataset, brightest: int) -> int:
    """The entry of a VOI LUT that is shown as white: all of its bits (PS3.3 C.11.2.1.1).

    Many files say 16 bits whatever they use, and some fewer than they use.
    """
    needed = max(8, brightest.bit_length())
    bits = int(numbers(item, "LUTDescriptor")[2])
    return (1 << (bits if needed <= bits < 16 else needed)) - 1


def _unpacked(data: bytes, bits: int, order: str) -> np.ndarray:
    """Words, or the bytes that are packed in them: in big endian these come swapped."""
    words = np.frombuffer(data + bytes(len(data) % 2), f"{order}u2")
    return words if bits == 16 else words.astype("<u2").view(np.uint8)[: len(data)]


def _expanded(data: bytes, count: int, bits: int, order: str) -> np.ndarray:
    """The entries of a table in segments, no more than `count` (PS3.3 C.7.9.2)."""
    words = _unpacked(data, bits, order)
    size = words.itemsize
    stream = words.astype(f"<u{size}").tobytes()
    entries: list[int] = []
    steps = 0

    def expand(at: int, segments: float, kinds: int) -> None:
        """Add so many segments, of one of the first kinds, from one word on."""
        nonlocal steps
        while segments and at + 2 < words.size and len(entries) < count:
            segments, steps = segments - 1, steps + 1
            kind, length, end = words[at : at + 3].tolist()
            if kind >= kinds or steps > 2 * count or (kind != DISCRETE and not entries):
                raise UnreadableImage("a damaged look-up table: its segments do not add up")
            at += 2
            if kind == DISCRETE:
                entries.extend(words[at : at + length].tolist())
                at += length
            elif kind == LINEAR:
                line = np.linspace(entries[-1], end, length + 1)[1:]
                entries.extend(np.rint(line).astype(int).tolist())
                at += 1
            else:
                first = int.from_bytes(stream[at * size : at * size + 4], "little") // size
                expand(first, length, INDIRECT)
                at += 4 // size

    expand(0, np.inf, INDIRECT + 1)
    return np.array(entries[:count])
