"""What a JPEG, JPEG-LS or JPEG 2000 codestream says about itself, before anything is decoded.

Native decoders believe the codestream, our limits were checked on the DICOM header: the two must
agree before a decoder is let loose.
"""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

from imaging.errors import UnreadableImage

# SOF0 to SOF15 without DHT, JPG and DAC; and the one of JPEG-LS.
FRAME_HEADERS = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
START_OF_SCAN = 0xDA

# of a JPEG 2000
CODING_STYLE, START_OF_TILE = 0xFF52, 0xFF90

FILL = re.compile(rb"\xff{2,}")
"""Bytes that may stand before a marker, and its own first byte."""

MOST_SEGMENTS = 10_000
"""Of a JPEG before its first scan. Real ones have a few dozen; each costs time to look at."""


@dataclass(frozen=True, slots=True)
class Codestream:
    """Size and format of a compressed frame.

    Attributes:
        width: Columns.
        height: Rows.
        components: Samples per pixel.
        precision: Bits per sample.
        process: JPEG marker 0xC0 to 0xCF, 0xF7 for JPEG-LS, 0x4F for JPEG 2000.
        component_ids: Names of a JPEG's components; b"RGB" says that they are no YCbCr.
        jfif: Whether the JPEG has a JFIF header, which means YCbCr.
        adobe: Color transform of the Adobe header, 0 RGB, 1 YCbCr; None where there is none.
        transformed: Whether a JPEG 2000 holds a color transform, which its decoder undoes.
    """

    width: int
    height: int
    components: int
    precision: int
    process: int
    component_ids: bytes = b""
    jfif: bool = False
    adobe: int | None = None
    transformed: bool = False

    @property
    def size(self) -> tuple[int, int, int]:
        """Columns, rows and samples per pixel."""
        return self.width, self.height, self.components

    @property
    def photometric(self) -> str:
        """What the codestream says about its color, in DICOM's words; "" where it is silent.

        Component names and JFIF or Adobe headers outrank the DICOM header, which is often left
        as it was before the picture was compressed.
        """
        if self.components != 3:
            return ""
        if self.component_ids.upper() == b"RGB" or self.adobe == 0 or self.transformed:
            return "RGB"
        return "YBR_FULL" if self.jfif or self.adobe == 1 else ""

    @classmethod
    def parse(cls, source: bytes) -> Self:
        """Read the first lines of a codestream.

        Raises:
            UnreadableImage: It has none.
        """
        try:
            return cls._jpeg(source) if source.startswith(b"\xff\xd8") else cls._jpeg_2000(source)
        except struct.error as error:
            raise UnreadableImage("damaged pixel data: truncated codestream") from error

    @classmethod
    def _jpeg(cls, source: bytes) -> Self:
        """Read the marker segments up to the frame header (ITU-T T.81 B.2.2, T.87 C.2.2)."""
        jfif, adobe = False, None
        for marker, body, _ in jpeg_segments(source):
            if marker == 0xE0 and body.startswith(b"JFIF"):
                jfif = True
            elif marker == 0xEE and body.startswith(b"Adobe") and len(body) >= 12:
                adobe = body[11]
            elif marker in FRAME_HEADERS:
                precision, height, width, components = struct.unpack_from(">BHHB", body)
                ids = body[6 : 6 + 3 * components : 3]
                return cls(width, height, components, precision, marker, ids, jfif, adobe)
        raise UnreadableImage("a damaged JPEG: no size before its pixels")

    @classmethod
    def _jpeg_2000(cls, source: bytes) -> Self:
        """Read the main header (ITU-T T.800 A.5.1, A.6.1), also when it is inside a JP2 file."""
        at = source.find(b"\xff\x4f\xff\x51", 0, 4096)
        if at < 0:
            raise UnreadableImage("damaged pixel data: no codestream")
        right, bottom, left, top = struct.unpack_from(">IIII", source, at + 8)
        components, depth = struct.unpack_from(">HB", source, at + 40)
        size = right - left, bottom - top, components
        transformed = False
        after = at + 2
        for _ in range(MOST_SEGMENTS):
            marker, length = struct.unpack_from(">HH", source, after)
            if marker == START_OF_TILE:
                break
            if marker == CODING_STYLE:
                transformed = source[after + 8 : after + 9] == b"\1"
            after += 2 + length
        return cls(*size, (depth & 0x7F) + 1, 0x4F, transformed=transformed)


def jpeg_segments(source: bytes) -> Iterator[tuple[int, bytes, int]]:
    """Walk the marker segments of a JPEG up to its first scan.

    Yields:
        Marker (second byte), content, and where the content starts in `source`.

    Raises:
        UnreadableImage: Damaged or truncated, or of very many segments.
    """
    at = 2
    for _ in range(MOST_SEGMENTS):
        if fill := FILL.match(source, at):
            at = fill.end() - 1
        if at + 4 > len(source):
            raise UnreadableImage("a truncated JPEG")
        marker = source[at + 1]
        if source[at] != 0xFF or marker in (0x00, 0xD9):
            raise UnreadableImage("a damaged JPEG")
        end = at + 2 + max(2, int.from_bytes(source[at + 2 : at + 4], "big"))
        if end > len(source):
            raise UnreadableImage("a truncated JPEG")
        yield marker, source[at + 4 : end], at + 4
        if marker == START_OF_SCAN:
            return
        at = end
    raise UnreadableImage(f"a JPEG of more than {MOST_SEGMENTS:,} segments")
