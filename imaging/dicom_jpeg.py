"""Classic JPEG inside DICOM: every process, lossy to lossless, 8 to 16 bits.

8 bits lossy go through OpenCV (libjpeg-turbo), all else through GDCM, the only library with a
free licence that decodes it. GDCM ends the whole program on some damaged headers, so decoders see
a header made anew, of nothing but the segments that matter.
"""

import struct

import cv2
import gdcm
import numpy as np

from imaging.codestream import START_OF_SCAN, Codestream, jpeg_segments
from imaging.complaints import listen
from imaging.errors import UnreadableImage, UnsupportedImage, foreign_errors

DAMAGED = "damaged pixel data (JPEG)"

SEQUENTIAL, LOSSY, LOSSLESS = (0xC0, 0xC1), (0xC0, 0xC1, 0xC2), (0xC3,)
# Quantization and Huffman tables, restart interval; frame and scan headers.
NEEDED = {0xDB, 0xC4, 0xDD, START_OF_SCAN, *LOSSY, *LOSSLESS}


def decode_jpeg(source: bytes, stream: Codestream, photometric: str) -> tuple[np.ndarray, str]:
    """Decode one frame.

    Args:
        source: The compressed frame.
        stream: What its header says.
        photometric: What the DICOM header says about color; used where the frame is silent.

    Returns:
        Unsigned codes, uint8 or uint16, shape (H, W) or (H, W, 3); and their photometric
        interpretation.

    Raises:
        ImagingError: Truncated, damaged, or a process that no decoder here knows.
    """
    lossy = stream.process in LOSSY
    if not lossy and stream.process not in LOSSLESS:
        raise UnsupportedImage(f"JPEG process SOF{stream.process & 0xF}, expected SOF0 to SOF3")
    if stream.precision not in ((8, 12) if lossy else range(2, 17)):
        raise UnreadableImage(f"a JPEG of {stream.precision} bits")
    if source.rfind(b"\xff\xd9") < 0:
        raise UnreadableImage("truncated pixel data: the JPEG has no end")
    photometric = stream.photometric or photometric
    if not (lossy and stream.precision == 8):
        return _by_gdcm(_header_made_anew(source, stream), stream), photometric
    if stream.components == 1:
        return _by_opencv(_header_made_anew(source, stream)), photometric
    transform = 1 if photometric.startswith("YBR") else 0
    adobe = b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0" + bytes([transform])
    bgr = _by_opencv(_header_made_anew(source, stream, adobe))
    if bgr.ndim != 3:
        raise _damaged()
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), "RGB"


def _header_made_anew(source: bytes, stream: Codestream, extra: bytes = b"") -> bytes:
    """Copy a JPEG with the segments that decoding needs, and with `extra` in front of them."""
    parts = [b"\xff\xd8", extra]
    for marker, body, start in jpeg_segments(source):
        if marker == START_OF_SCAN:
            if stream.process in SEQUENTIAL:
                # A sequential scan holds all 64 coefficients (T.81 B.2.3). Some encoders write
                # zeros here, and decoders complain on stderr.
                body = body[:-3] + b"\0\x3f\0"
            parts += [_segment(marker, body), source[start + len(body) :]]
        elif marker in NEEDED:
            parts.append(_segment(marker, body))
    return b"".join(parts)


def _segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def _by_opencv(source: bytes) -> np.ndarray:
    data = np.frombuffer(source, np.uint8)
    with foreign_errors(DAMAGED):
        pixels, loss = listen(lambda: cv2.imdecode(data, cv2.IMREAD_UNCHANGED))
    if pixels is None or loss:
        raise _damaged(loss)
    return pixels


def _by_gdcm(source: bytes, stream: Codestream) -> np.ndarray:
    """Call GDCM at its codec, not at its image as pydicom does.

    So it decodes 12-bit and progressive pictures too, and does not first try, complaining, with
    the wrong precision. Colors stay what they are in the codestream.
    """
    # GDCM holds three libraries, for up to 8, 12 and 16 bits, and chooses by the bits allocated.
    bits = next(bits for bits in (8, 12, 16) if stream.precision <= bits)
    color = stream.components == 3
    codec = gdcm.JPEGCodec()
    codec.SetNumberOfDimensions(2)
    codec.SetDimensions((stream.width, stream.height, 1))
    codec.SetPlanarConfiguration(0)
    named = gdcm.PhotometricInterpretation.GetPIType("RGB" if color else "MONOCHROME2")
    codec.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(named))
    codec.SetPixelFormat(gdcm.PixelFormat(stream.components, bits, bits, bits - 1, 0))
    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(source)
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    encoded = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    encoded.SetValue(fragments.__ref__())
    decoded = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    with foreign_errors(DAMAGED):
        done, loss = listen(lambda: codec.Decode(encoded, decoded))
    if not done or loss:
        raise _damaged(loss)
    with foreign_errors(DAMAGED):
        # GDCM's wrapper hands bytes out as text.
        content = decoded.GetByteValue().GetBuffer().encode("utf-8", "surrogateescape")
    count = stream.height * stream.width * stream.components  # one byte less where that is odd
    kind = np.dtype(np.uint8 if bits == 8 else np.uint16)
    if len(content) < count * kind.itemsize:
        raise _damaged()
    codes = np.frombuffer(content, kind, count)
    return codes.reshape(stream.height, stream.width, *((3,) if color else ()))


def _damaged(loss: str = "") -> UnreadableImage:
    return UnreadableImage(f"{DAMAGED}{loss and f': {loss}'}")
