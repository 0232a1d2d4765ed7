"""ICC profiles (ISO 15076-1): the colors of other spaces, such as Display P3 and Adobe RGB, → sRGB.

What the bytes of a color picture mean is said by the profile embedded in it; models and screens
take them for sRGB. As in any viewer, a profile that is damaged, or not one of RGB, is ignored, and
so is every profile of a gray picture. Pictures of 16 bits are converted in the 8 that are kept of
them. What else may speak of color (gAMA, cHRM and cICP of a PNG, EXIF's ColorSpace, the profile of
a BMP) is not looked at.
"""

import io
import struct
import zlib

import numpy as np

MOST_BYTES = 4 << 20
"""Of a profile; those that hold tables have some hundred thousand, the others a few thousand."""
MOST_TAGS = 100

CLASSES = {b"scnr", b"mntr", b"prtr", b"spac"}
"""Profiles of devices and color spaces, those that lead to PCS (section 7.2.5)."""

TABLES = {b"A2B0", b"A2B1", b"A2B2", b"D2B0", b"D2B1", b"D2B2", b"D2B3"}
"""Tags that are used in place of matrix and curves (section 8.10)."""

XYZ_FROM_SRGB = np.array(
    [
        [0.4360747, 0.3850649, 0.1430804],
        [0.2225045, 0.7168786, 0.0606169],
        [0.0139322, 0.0971045, 0.7141733],
    ]
)
"""Linear light of sRGB (IEC 61966-2-1) to XYZ, its white brought from D65 to D50 by Bradford."""

SAMPLES = np.linspace(0, 1, 18)
"""Of each channel, where a profile is compared with sRGB: every 15th level."""

PIXELS_AT_ONCE = 1 << 16
"""How many pixels are converted at a time; Pillow holds 8 bytes more of each."""


def of_jpeg(chunks: list[bytes]) -> bytes:
    """The profile of a JPEG (ISO 15076-1, annex B).

    Args:
        chunks: Its APP2 segments in any order, behind their "ICC_PROFILE" and its zero: which one
            of how many, each a byte, and a part.

    Returns:
        All parts together; b"" if one is missing or there twice.
    """
    chunks = sorted(chunks)
    numbered = [[number, len(chunks)] for number in range(1, len(chunks) + 1)]
    if [list(chunk[:2]) for chunk in chunks] != numbered:
        return b""
    return b"".join(chunk[2:] for chunk in chunks)


def of_png(chunk: bytes) -> bytes:
    """The profile in an iCCP chunk (ISO 15948, 11.3.3.3); b"" if it is damaged."""
    _, _, packed = chunk.partition(b"\0")  # its name is free text
    try:
        return zlib.decompressobj().decompress(packed[1:], MOST_BYTES + 1)
    except zlib.error:
        return b""


def other_than_srgb(profile: bytes) -> bytes | None:
    """The profile, if colors have to be converted through it; None if it is ignored, or sRGB's.

    No native code sees it here.
    """
    if len(profile) > MOST_BYTES or profile[36:40] != b"acsp":
        return None
    if profile[12:16] not in CLASSES or profile[16:20] != b"RGB ":
        return None
    try:
        return None if _is_srgb(profile) else profile
    except (KeyError, ValueError, struct.error):
        return profile  # of another kind than we know, or damaged: the library will see


def to_srgb(pixels: np.ndarray, profile: bytes) -> np.ndarray:
    """Convert a picture to sRGB: relative to white (relative colorimetric) and to black.

    Args:
        pixels: RGB as uint8, (H, W, 3).
        profile: What they mean, as `other_than_srgb` has it.

    Returns:
        uint8, (H, W, 3); the picture itself if the profile is damaged.
    """
    # Here and not above: few pictures need it, and so the service itself never loads it.
    from PIL import Image, ImageCms

    try:
        transform = ImageCms.buildTransform(
            ImageCms.ImageCmsProfile(io.BytesIO(profile)),
            ImageCms.createProfile("sRGB"),
            "RGB",
            "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            # the latter: a profile of tables is made one table, which would be coarse
            ImageCms.Flags.BLACKPOINTCOMPENSATION | ImageCms.Flags.HIGHRESPRECALC,
        )
    except (OSError, ImageCms.PyCMSError):
        return pixels
    converted = np.empty_like(pixels)
    step = max(1, PIXELS_AT_ONCE // pixels.shape[1])
    for first in range(0, len(pixels), step):
        rows = slice(first, first + step)
        converted[rows] = np.asarray(transform.apply(Image.fromarray(pixels[rows])))
    return converted


def _is_srgb(profile: bytes) -> bool:
    """Whether a profile, one of matrix and curves, moves no color by more than a level of 255.

    Raises:
        KeyError, ValueError, struct.error: It has other tags, or is cut.
    """
    tags = _tags(profile)
    if profile[20:24] != b"XYZ " or tags.keys() & TABLES:
        return False
    matrix = np.stack([_fixed(tags[name], 8, 3) for name in (b"rXYZ", b"gXYZ", b"bXYZ")], axis=1)
    with np.errstate(all="ignore"):  # a hostile curve may lead anywhere
        light = [_linear(tags[name]) for name in (b"rTRC", b"gTRC", b"bTRC")]
        primaries = np.linalg.inv(XYZ_FROM_SRGB) @ matrix
        linear = np.clip(np.stack(np.meshgrid(*light), axis=-1) @ primaries.T, 0, 1)
        levels = np.where(linear > 0.0031308, 1.055 * linear ** (1 / 2.4) - 0.055, 12.92 * linear)
        moved = np.abs(levels - np.stack(np.meshgrid(*[SAMPLES] * 3), axis=-1))
        return bool(moved.max() <= 1 / 255)


def _tags(profile: bytes) -> dict[bytes, memoryview]:
    """Content of each tag, by its signature (section 7.3)."""
    (count,) = struct.unpack_from(">I", profile, 128)
    view, tags = memoryview(profile), {}
    for entry in range(min(count, MOST_TAGS)):
        name, start, size = struct.unpack_from(">4sII", profile, 132 + 12 * entry)
        tags[name] = view[start : start + size]
    return tags


def _linear(curve: memoryview) -> np.ndarray:
    """Light, 0 to 1, of the `SAMPLES`: curveType, or a parametricCurveType that may be sRGB's."""
    kind, (function,) = curve[:4], struct.unpack_from(">H", curve, 8)
    if kind == b"para" and function in (3, 4):
        g, a, b, c, d, e, f = (*_fixed(curve, 12, 2 * function - 1), 0, 0)[:7]
        return np.where(d <= SAMPLES, (a * SAMPLES + b) ** g + e, c * SAMPLES + f)
    if kind != b"curv":
        raise ValueError("a curve that is not sRGB's")
    (count,) = struct.unpack_from(">I", curve, 8)
    table = np.frombuffer(curve, ">u2", count, 12)
    return np.interp(SAMPLES, np.linspace(0, 1, count), table / 65535)


def _fixed(tag: memoryview, start: int, count: int) -> np.ndarray:
    """Numbers of type s15Fixed16, float64."""
    return np.frombuffer(tag, ">i4", count, start) / 65536
