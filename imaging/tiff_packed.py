"""Whether a strip or tile of a TIFF unpacks to all of its pixels, which OpenCV does not say.

Of 8 bits it leaves black what does not unpack, and it looks at no checksum.
"""

import zlib

import numpy as np

NONE, LZW, PACKBITS = 1, 5, 32773
DEFLATES = {8, 32946}
COMPRESSIONS = {NONE, LZW, PACKBITS, *DEFLATES}
"""Those that lose nothing and everybody writes, as tag 259 names them."""

PIECE = 1 << 14
"""Bytes inflated at once, to at most a thousand times as many."""

CLEAR, END, FIRST = 256, 257, 258
"""Codes of LZW: start a new table, the end, and the first that stands for several bytes."""

# Lengths and ends, in bits, of the codes behind a CLEAR: each can name all that were read before
# it (TIFF 6.0, section 13). There are 4096; libtiff bears with a thousand more that nothing names.
INDICES = np.arange(5119 - FIRST)
BITS = 9 + np.searchsorted([(1 << bits) - FIRST for bits in (9, 10, 11)], INDICES, "right")
ENDS = np.cumsum(BITS)
SPAN = int(ENDS[-1]) // 8 + 4
# Where they are, by the bit of a byte at which the first of them starts: which byte, and how far
# to the left in the three bytes from there on.
STARTS = ENDS - BITS + np.arange(8)[:, None]
PLACES, SHIFTS = STARTS // 8, (24 - STARTS % 8 - BITS).astype(np.int32)
MASKS = ((1 << BITS) - 1).astype(np.int32)


def unpacks_to(packed: bytes, compression: int, size: int) -> bool:
    """Say whether a strip or tile unpacks to so many bytes or more, and its checksum is right.

    Args:
        packed: As it is in the file, the first bit of each byte the highest.
        compression: One of `COMPRESSIONS`.
        size: Bytes of its pixels.
    """
    if compression == NONE:
        return len(packed) >= size
    if compression == LZW:
        return _expands(packed, size)
    return _repeats(packed, size) if compression == PACKBITS else _inflates(packed, size)


def _inflates(packed: bytes, size: int) -> bool:
    """Go through deflate to its end, where the checksum is."""
    inflater, found = zlib.decompressobj(), 0
    try:
        for at in range(0, len(packed), PIECE):
            found += len(inflater.decompress(packed[at : at + PIECE]))
            if inflater.eof:
                return found >= size
    except zlib.error:
        pass
    return False


def _repeats(packed: bytes, size: int) -> bool:
    """Count the bytes of PackBits (section 9): so many as they are, or one so many times."""
    at = found = 0
    while at < len(packed) and found < size:
        head = packed[at]
        at += 2 + head if head < 128 else 1 + (head > 128)
        if at <= len(packed) and head != 128:
            found += 1 + head if head < 128 else 257 - head
    return found >= size


def _expands(packed: bytes, size: int) -> bool:
    """Count the bytes of LZW (section 13): a code is a byte, or an earlier code and a byte."""
    if len(packed) > 1 and packed[0] == 0 and packed[1] & 1:
        return True  # bits the other way round, as before 1992: libtiff reads them, we do not
    data = np.frombuffer(packed + bytes(SPAN), np.uint8)
    at = found = 0
    while found < size:
        inside = int(np.searchsorted(ENDS, 8 * len(packed) - at, "right"))
        near = data[at // 8 : at // 8 + SPAN].astype(np.int32)
        words = near[:-2] << 16 | near[1:-1] << 8 | near[2:]
        codes = (words[PLACES[at % 8]] >> SHIFTS[at % 8] & MASKS)[:inside]
        earlier = codes - END  # which code of this table it continues, counted from 1
        unknown = earlier > INDICES[:inside]
        stops = np.flatnonzero((codes == CLEAR) | (codes == END) | unknown)
        count = int(stops[0]) if stops.size else inside
        earlier = np.append(0, np.maximum(earlier[:count], 0))
        lengths = np.minimum(np.arange(count + 1), 1)
        while earlier.any():  # twice as far back each time
            lengths += lengths[earlier]
            earlier = earlier[earlier]
        found += int(lengths.sum())
        if count == inside or codes[count] != CLEAR:
            break
        at += int(ENDS[count])
    return found >= size
