"""What a JPEG, JPEG-LS or JPEG 2000 codestream says about itself, before anything is decoded.

Native decoders believe the codestream, our limits were checked on the DICOM header: the two must
agree before a decoder is let loose.
"""

import struct
from dataclasses import dataclass
from typing import Self

from imaging.errors import UnreadableImage


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
    """

    width: int
    height: int
    components: int
    precision: int
    process: int
    component_ids: bytes = b""
    jfif: bool = False
    adobe: int | None = None

    @classmethod
    def parse(cls, source: bytes) -> Self:
        """Read the first lines of a codestream.

        Raises:
            UnreadableImage: It has none.
        """
        try:
            if source.startswith(b"\xff\xd8"):
                return cls._jpeg(source)
            return cls._jpeg_2000(source)
        except (struct.error, IndexError) as error:
            raise UnreadableImage("damaged pixel data: truncated codestream") from error

    @classmethod
    def _jpeg(cls, source: bytes) -> Self:
        """Walk the marker segments up to the frame header (ITU-T T.81 B.2.2, T.87 C.2.2)."""
        at, jfif, adobe = 2, False, None
        while True:
            if source[at] != 0xFF:
                raise UnreadableImage("damaged pixel data: no JPEG marker where one should be")
            marker = source[at + 1]
            if marker == 0xFF:
                at += 1
                continue
            (length,) = struct.unpack_from(">H", source, at + 2)
            body = source[at + 4 : at + 2 + length]
            if marker == 0xE0 and body.startswith(b"JFIF"):
                jfif = True
            elif marker == 0xEE and body.startswith(b"Adobe") and len(body) >= 12:
                adobe = body[11]
            elif marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):
                precision, height, width, components = struct.unpack_from(">BHHB", body)
                ids = bytes(body[6 : 6 + 3 * components : 3])
                return cls(width, height, components, precision, marker, ids, jfif, adobe)
            elif marker in (0xD9, 0xDA):
                raise UnreadableImage("damaged pixel data: no frame header")
            at += 2 + length

    @classmethod
    def _jpeg_2000(cls, source: bytes) -> Self:
        """Read the SIZ segment (ITU-T T.800 A.5.1), also when it is inside a JP2 file."""
        at = source.find(b"\xff\x4f\xff\x51", 0, 4096)
        if at < 0:
            raise UnreadableImage("damaged pixel data: no codestream")
        _, right, bottom, left, top = struct.unpack_from(">HIIII", source, at + 6)
        components, depth = struct.unpack_from(">HB", source, at + 40)
        return cls(right - left, bottom - top, components, (depth & 0x7F) + 1, 0x4F)
