"""Classic JPEG inside DICOM: every process, lossy to lossless, 8 to 16 bits, through GDCM."""

import gdcm
import numpy as np

from imaging.codestream import START_OF_SCAN, Codestream, jpeg_segments
from imaging.errors import UnreadableImage

SEQUENTIAL = (0xC0, 0xC1)


def decode_jpeg(source: bytes, stream: Codestream) -> np.ndarray:
    """Decode one frame; colors stay what they are in the codestream, mostly YCbCr.

    GDCM is called at its codec, not at its image as pydicom does: so it decodes 12-bit and
    progressive pictures too, and does not first try, complaining, with the wrong precision.

    Args:
        source: The compressed frame.
        stream: What its header says.

    Returns:
        Unsigned codes, uint8 or uint16, shape (H, W) or (H, W, 3).
    """
    if source.rfind(b"\xff\xd9") < 0:
        raise UnreadableImage("truncated pixel data: the JPEG has no end")
    if stream.process in SEQUENTIAL:
        source = _whole_spectrum(source)
    # GDCM holds three libraries, for up to 8, 12 and 16 bits, and chooses by the bits allocated.
    bits = next(bits for bits in (8, 12, 16) if stream.precision <= bits)
    codec = gdcm.JPEGCodec()
    codec.SetNumberOfDimensions(2)
    codec.SetDimensions((stream.width, stream.height, 1))
    codec.SetPlanarConfiguration(0)
    codec.SetPhotometricInterpretation(
        gdcm.PhotometricInterpretation(
            gdcm.PhotometricInterpretation.RGB
            if stream.components == 3
            else gdcm.PhotometricInterpretation.MONOCHROME2
        )
    )
    codec.SetPixelFormat(gdcm.PixelFormat(stream.components, bits, bits, bits - 1, 0))
    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(source)
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    encoded = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    encoded.SetValue(fragments.__ref__())
    decoded = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    if not codec.Decode(encoded, decoded):
        raise UnreadableImage("damaged pixel data (JPEG)")
    # GDCM's wrapper hands bytes out as text.
    content = decoded.GetByteValue().GetBuffer().encode("utf-8", "surrogateescape")
    count = stream.height * stream.width * stream.components  # one byte less where that is odd
    codes = np.frombuffer(content, np.uint8 if bits == 8 else np.uint16, count)
    color = (3,) if stream.components == 3 else ()
    return codes.reshape(stream.height, stream.width, *color)


def _whole_spectrum(source: bytes) -> bytes:
    """Let a sequential scan say that it holds all 64 coefficients, as it must (T.81 B.2.3).

    Some encoders write zeros there, and the decoder complains on stderr.
    """
    for marker, body, start in jpeg_segments(source):
        if marker == START_OF_SCAN and body[-3:] != b"\0\x3f\0":
            end = start + len(body)
            return source[: end - 3] + b"\0\x3f\0" + source[end:]
    return source
