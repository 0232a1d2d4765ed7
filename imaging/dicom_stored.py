"""Stored values of one DICOM frame: out of native bytes, or through a decoder library."""

import zlib
from contextlib import suppress
from dataclasses import dataclass, replace
from io import BytesIO
from typing import Any

import numpy as np
from pydicom import uid
from pydicom.encaps import get_frame
from pydicom.pixels import get_decoder

from imaging.codestream import Codestream
from imaging.dicom_header import Header, value
from imaging.dicom_jpeg import decode_jpeg
from imaging.errors import UnreadableImage, UnsupportedImage, foreign_errors

DEFLATED_FRAMES = "1.2.840.10008.1.2.8.1"

# The libraries that decode. Named, so that a computer with others on it (Pillow) does not read
# other pictures, and chosen to survive damaged files: pylibjpeg panics on bad RLE runs, GDCM ends
# the program on bad JPEG-LS.
PLUGINS = {
    **dict.fromkeys(uid.JPEG2000TransferSyntaxes, "pylibjpeg"),
    **dict.fromkeys((uid.HTJ2K, uid.HTJ2KLossless, uid.HTJ2KLosslessRPCL), "pylibjpeg"),
    **dict.fromkeys(uid.JPEGLSTransferSyntaxes, "pyjpegls"),
    **dict.fromkeys(uid.RLETransferSyntaxes, "pydicom"),
}
NATIVE = {uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian, uid.ExplicitVRBigEndian}
# JPEG processes that pydicom does not hand to GDCM, though GDCM decodes them.
JPEG = {
    "1.2.840.10008.1.2.4.50",
    "1.2.840.10008.1.2.4.51",
    "1.2.840.10008.1.2.4.53",
    "1.2.840.10008.1.2.4.55",
    "1.2.840.10008.1.2.4.57",
    "1.2.840.10008.1.2.4.70",
}


# Of the standard, though pydicom has no name for them (PS3.6 table A-1).
UNNAMED = {
    "1.2.840.10008.1.2.4.110": "JPEG XL Lossless",
    "1.2.840.10008.1.2.4.111": "JPEG XL JPEG Recompression",
    "1.2.840.10008.1.2.4.112": "JPEG XL",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PixelFormat:
    """How to understand stored values (PS3.3 C.7.6.3).

    Attributes:
        rows: Height of the frame.
        columns: Width of the frame.
        samples: 1, or 3 for color.
        photometric: PhotometricInterpretation; after decoding, that of the decoded values.
        allocated: Bits that one value occupies: 1, 8, 16, 32 or 64.
        stored: Bits of these that are valid.
        shift: Unused bits below the valid ones.
        signed: Whether the valid bits are a two's complement.
        planar: Whether color comes as three planes instead of triples.
        floating: Whether values are floating-point numbers.
    """

    rows: int
    columns: int
    samples: int
    photometric: str
    allocated: int
    stored: int
    shift: int = 0
    signed: bool = False
    planar: bool = False
    floating: bool = False


GRAY = {"MONOCHROME1", "MONOCHROME2", "PALETTE COLOR"}
COLOR = {
    "RGB",
    "YBR_FULL",
    "YBR_FULL_422",
    "YBR_PARTIAL_422",
    "YBR_PARTIAL_420",
    "YBR_ICT",
    "YBR_RCT",
}


def pixel_format(header: Header) -> PixelFormat:
    """Read the image pixel module and refuse what contradicts itself.

    Raises:
        UnsupportedImage: A kind of pixel that is not read.
        UnreadableImage: Attributes are missing or impossible together.
    """
    photometric = header.text("PhotometricInterpretation")
    samples = header.integer("SamplesPerPixel", 1) or 0
    floating = header.keyword != "PixelData"
    if photometric not in GRAY | COLOR:
        if not photometric:
            raise UnreadableImage("PhotometricInterpretation is missing")
        raise UnsupportedImage("a color model that is not read; expected gray, palette, RGB or YBR")
    if samples != (1 if photometric in GRAY else 3):
        raise UnreadableImage(f"{photometric} with {samples} samples per pixel")
    if floating:
        allocated = stored = 32 if header.keyword == "FloatPixelData" else 64
        shift = 0
    else:
        allocated = header.integer("BitsAllocated") or 0
        stored = header.integer("BitsStored", allocated) or 0
        if allocated not in (1, 8, 16, 32):
            raise UnsupportedImage(f"{allocated} bits allocated, expected 1, 8, 16 or 32")
        if not 1 <= stored <= allocated:
            raise UnreadableImage(f"{stored} of {allocated} bits stored")
        high = header.integer("HighBit", stored - 1) or 0
        shift = high + 1 - stored if stored - 1 <= high < allocated else 0
    signed = header.integer("PixelRepresentation", 0) or 0
    if signed not in (0, 1):
        raise UnreadableImage("PixelRepresentation is neither 0 nor 1")
    return PixelFormat(
        rows=header.integer("Rows") or 0,
        columns=header.integer("Columns") or 0,
        samples=samples,
        photometric=photometric,
        allocated=allocated,
        stored=stored,
        shift=shift,
        signed=bool(signed),
        planar=samples == 3 and header.integer("PlanarConfiguration", 0) == 1,
        floating=floating,
    )


def stored_values(
    header: Header, form: PixelFormat, frames: int, index: int
) -> tuple[np.ndarray, PixelFormat]:
    """One frame as it is stored, unused bits and all.

    Returns:
        Unsigned codes as uint8, uint16 or uint32 (or floating-point numbers), shape (H, W) or
        (H, W, 3); and how to understand them, which decoding may have changed.

    Raises:
        ImagingError: Too few bytes, damaged, or a syntax that no library here decodes.
    """
    syntax = header.syntax
    if syntax in NATIVE:
        return _native(header, form, frames, index)
    if syntax == DEFLATED_FRAMES:
        source = _encoded_frame(header, form, frames, index)
        size = (form.rows * form.columns * form.samples * form.allocated + 7) // 8
        with foreign_errors("damaged pixel data (Deflated Image Frame)"):
            body = zlib.decompressobj(-zlib.MAX_WBITS).decompress(source, size)
        return _native(replace(header, body=body, start=0, length=len(body)), form, 1, 0)
    if syntax in PLUGINS or syntax in JPEG:
        return _decoded(_encoded_frame(header, form, frames, index), syntax, form)
    # a UID that is no transfer syntax may be anything, so only known names are repeated
    name = syntax.name if syntax in uid.AllTransferSyntaxes else UNNAMED.get(syntax)
    name = name or "an unknown transfer syntax"
    raise UnsupportedImage(f"pixels encoded as {name}, which no decoder here reads")


def _native(
    header: Header, form: PixelFormat, frames: int, index: int
) -> tuple[np.ndarray, PixelFormat]:
    """One frame of uncompressed pixels; a view of the file's bytes where that is possible."""
    count = form.rows * form.columns * form.samples
    complete = frames * count * form.allocated // 8
    if form.photometric.endswith("_422") and header.length in (complete, complete + 1):
        # what decompressed a JPEG has often left its color model as it was
        form = replace(form, photometric=form.photometric.removesuffix("_422"))
    if form.photometric.endswith("_422"):
        if form.columns % 2:
            raise UnreadableImage(f"{form.photometric} with an odd number of columns")
        count = count // 3 * 2
    elif form.photometric.endswith("_420"):
        raise UnsupportedImage("uncompressed YBR_PARTIAL_420")
    bits = count * form.allocated
    first, last = index * bits, (index + 1) * bits
    # bytes in 16-bit words (OW) come swapped in big endian (PS3.5 8.1.1)
    swapped = form.allocated == 8 and not header.little_endian and _is_word(header)
    end = (last + 15) // 16 * 2 if swapped else (last + 7) // 8
    present = len(header.body) - header.start
    if header.length is None:
        raise UnreadableImage(f"encapsulated pixel data, but the syntax is {header.syntax.name}")
    if end > min(header.length, present):
        raise UnreadableImage(
            f"truncated: {min(header.length, present)} of {end} bytes of pixel data"
        )
    if form.allocated == 1:
        packed = np.frombuffer(header.body, np.uint8, end - first // 8, header.start + first // 8)
        codes = np.unpackbits(packed, bitorder="little")[first % 8 :][:count]
        return _shaped(codes, form), replace(form, shift=0)
    kind = "f" if form.floating else "u"
    order = "<" if header.little_endian else ">"
    start = header.start + first // 8
    if swapped:
        odd = first // 8 % 2  # the frame begins within a word
        words = np.frombuffer(header.body, ">u2", -(-(odd + count) // 2), start - odd)
        codes = words.astype("<u2").view(np.uint8)[odd:][:count]
    else:
        codes = np.frombuffer(header.body, f"{order}{kind}{form.allocated // 8}", count, start)
        if not header.little_endian:
            codes = codes.astype(codes.dtype.newbyteorder("="))
    if form.photometric.endswith("_422"):
        # Y1 Y2 Cb Cr → Y1 Cb Cr, Y2 Cb Cr (PS3.3 C.7.6.3.1.2)
        codes = codes.reshape(-1, 4)[:, [0, 2, 3, 1, 2, 3]].reshape(-1)
    return _shaped(codes, form), form


def _is_word(header: Header) -> bool:
    return header.body[header.start - 8 : header.start - 6] == b"OW"


def _shaped(codes: np.ndarray, form: PixelFormat) -> np.ndarray:
    if form.samples == 1:
        return codes.reshape(form.rows, form.columns)
    if form.planar:
        planes = codes.reshape(3, form.rows, form.columns)
        return np.ascontiguousarray(planes.transpose(1, 2, 0))
    return codes.reshape(form.rows, form.columns, 3)


class _Whole(BytesIO):
    """Bytes that never give fewer than asked for: a cut fragment would be half a picture."""

    def read(self, size: int | None = -1) -> bytes:
        found = super().read(size)
        if size and len(found) < size:
            raise EOFError("cut fragment")
        return found


def _encoded_frame(header: Header, form: PixelFormat, frames: int, index: int) -> bytes:
    """The compressed bytes of one frame, put together from its fragments."""
    if header.length is not None:
        raise UnreadableImage(f"pixel data are not encapsulated, but {header.syntax.name} is")
    tables = [
        value(header.dataset, keyword)
        for keyword in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths")
    ]
    stream = _Whole(header.body)
    stream.seek(header.start)
    with foreign_errors("damaged pixel data: its fragments do not add up"):
        return get_frame(
            stream,
            index,
            number_of_frames=frames,
            extended_offsets=(tables[0], tables[1]) if all(tables) else None,
        )


def _decoded(source: bytes, syntax: uid.UID, form: PixelFormat) -> tuple[np.ndarray, PixelFormat]:
    """Decode one compressed frame, once its own header agrees with the DICOM header."""
    if syntax in uid.RLETransferSyntaxes:
        # all bits, wherever the valid ones are; pydicom would keep the lowest
        codes, _ = _through_pydicom(source, syntax, replace(form, stored=form.allocated))
        return codes, replace(form, allocated=codes.itemsize * 8, planar=False)
    stream = Codestream.parse(source)
    found, expected = stream.size, (form.columns, form.rows, form.samples)
    if found != expected:
        raise UnreadableImage(
            "the compressed picture has {}x{} pixels of {} samples, ".format(*found)
            + "the header says {}x{} of {}".format(*expected)
        )
    if syntax in JPEG:
        codes, photometric = decode_jpeg(source, stream, form.photometric)
    else:
        codes, photometric = _through_pydicom(source, syntax, form)
        if stream.transformed:  # whatever the DICOM header still says
            photometric = "RGB"
    # some encoders write the valid bits, some all that are allocated
    whole = stream.precision >= form.stored + form.shift
    return codes, replace(
        form,
        photometric=photometric,
        allocated=codes.itemsize * 8,
        stored=min(form.stored, stream.precision),
        shift=form.shift if whole else 0,
        planar=False,
    )


def _through_pydicom(source: bytes, syntax: uid.UID, form: PixelFormat) -> tuple[np.ndarray, str]:
    """Decode with the libraries that pydicom knows how to call.

    Returns:
        Unsigned codes, shape (H, W) or (H, W, 3), and their photometric interpretation.
    """
    options: dict[str, Any] = {
        "rows": form.rows,
        "columns": form.columns,
        "number_of_frames": 1,
        "samples_per_pixel": form.samples,
        "bits_allocated": max(8, form.allocated),
        "bits_stored": form.stored,
        "pixel_representation": int(form.signed),
        "photometric_interpretation": form.photometric,
        "planar_configuration": int(form.planar),
        "pixel_keyword": "PixelData",
    }
    decoder = get_decoder(syntax)

    def decode(frame: bytes) -> tuple[np.ndarray, str]:
        fragment = _as_fragment(frame)
        with foreign_errors(f"damaged pixel data ({syntax.name})"):
            values, properties = decoder.as_array(
                fragment,
                index=0,
                raw=True,
                validate=False,
                decoding_plugin=PLUGINS[syntax],
                **options,
            )
        return values.view(f"u{values.itemsize}"), str(properties["photometric_interpretation"])

    *first, last = _ended(source) if syntax in uid.JPEGLSTransferSyntaxes else [source]
    for attempt in first:
        with suppress(UnreadableImage):
            return decode(attempt)
    return decode(last)


def _ended(source: bytes) -> list[bytes]:
    """A JPEG-LS codestream that has an end, and what to try if that does not decode.

    Without an end the decoder never stops; with a zero in front of it, as old encoders write to
    have even lengths, it refuses.
    """
    end = source.rfind(b"\xff\xd9")
    if end < 0:
        raise UnreadableImage("truncated pixel data: the JPEG-LS has no end")
    padded = source[end - 1 : end] == b"\0"
    return [source[:cut] + b"\xff\xd9" for cut in (end, end - 1)[: 1 + padded]]


def _as_fragment(frame: bytes) -> bytes:
    """Wrap one frame as pydicom's decoders expect it: an empty offset table and one fragment."""
    return (
        b"\xfe\xff\x00\xe0\0\0\0\0\xfe\xff\x00\xe0"
        + len(frame).to_bytes(4, "little")
        + frame
        + b"\xfe\xff\xdd\xe0\0\0\0\0"
    )
