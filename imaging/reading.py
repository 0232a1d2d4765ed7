"""From a file to a picture: looks at the first bytes, never at the name."""

import io
import os
import stat
from pathlib import Path

import cv2

from imaging.bmp import looks_like_bmp, open_bmp
from imaging.errors import ImageTooLarge, InaccessibleFile, UnreadableImage, UnsupportedImage
from imaging.image import ImageFile, MedicalImage
from imaging.photo import looks_like_photo, open_photo
from imaging.tiff import looks_like_tiff, open_tiff

READING_VERSION = 2
"""Goes up when some file is read to other pixels than before: pictures kept of files are stale."""

# Beyond this a path is not read into memory; whole-slide scans come in such files.
LARGEST_FILE = 2 << 30

EXPECTED = "DICOM, PNG, JPEG, TIFF or BMP"

NO_FILES = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)

# First bytes of kinds we know but do not read, so that the refusal can name them.
OTHER_KINDS = {
    b"GIF8": "a GIF",
    b"II+\0": "a BigTIFF",
    b"MM\0+": "a BigTIFF",
    b"%PDF": "a PDF",
    b"PK\3\4": "a ZIP archive",
    b"\x1f\x8b": "a gzip archive",
    b"\xff\x4f\xff\x51": "a bare JPEG 2000 codestream",
    b"\0\0\0\x0cjP  ": "a JPEG 2000 file",
    b"\xff\x0a": "a JPEG XL",
    b"8BPS": "a Photoshop file",
    b"\x93NUMPY": "a NumPy array",
    b"<?xml": "an XML text",
    b"<svg": "an SVG drawing",
    b"<!DOCTYPE": "a web page",
    b"<html": "a web page",
    b"n+1\0": "a NIfTI volume",
    b"NRRD": "an NRRD volume",
}


def open_image(source: Path | bytes, *, max_megapixels: float = 100) -> ImageFile:
    """Read the header of a DICOM, PNG, JPEG, TIFF or BMP file; decode nothing.

    Args:
        source: Where the file is, or its bytes.
        max_megapixels: Most pixels that one frame may have, in millions.

    Raises:
        ImagingError: The file is damaged, too large, or of a kind this project does not read.
    """
    data = source if isinstance(source, bytes) else read_file(source)
    if looks_like_photo(data):
        return open_photo(data, max_megapixels)
    if looks_like_dicom(data):
        # Here and not above: who trains on PNGs and JPEGs needs none of the DICOM libraries.
        from imaging.dicom import open_dicom

        return open_dicom(data, max_megapixels)
    # after DICOM, whose preamble may be the header of a TIFF (PS3.10 7.1)
    if looks_like_tiff(data):
        return open_tiff(data, max_megapixels)
    if looks_like_bmp(data):
        return open_bmp(data, max_megapixels)
    raise _not_ours(data)


def read_image(
    source: Path | bytes, *, frame: int | None = None, max_megapixels: float = 100
) -> MedicalImage:
    """Read one picture from a file that `open_image` reads, upright and display-ready.

    Colors are sRGB: those of another space are converted by the profile that the file embeds.

    Args:
        source: Where the file is, or its bytes.
        frame: Which frame of several, counted from 1.
        max_megapixels: Most pixels that one frame may have, in millions.

    Raises:
        ImagingError: There is no such picture in the file.
    """
    return open_image(source, max_megapixels=max_megapixels).read(frame)


def looks_like_dicom(data: bytes) -> bool:
    """Say whether the first bytes are those of a DICOM file, with or without its preamble."""
    if data[128:132] == b"DICM":
        return True
    # Without preamble the file starts with an element of group 0002 or 0008, small element number.
    little = data[:2] in (b"\x02\0", b"\x08\0") and data[3:4] == b"\0"
    big = data[:2] == b"\0\x08" and data[2:3] == b"\0" and data[4:6].isalpha()
    return len(data) > 8 and (little or big)


def use_one_core() -> None:
    """Read each picture on one core: for programs that read several at once.

    OpenCV's own threads work for one caller at a time, so that callers beside each other would
    wait: without them, two threads read twice as many films.
    """
    cv2.setNumThreads(1)


def read_file(path: Path) -> bytes:
    """Read a whole file. A path may name a patient, so no message repeats it.

    Raises:
        InaccessibleFile: It cannot be opened or read, or is no regular file.
        ImageTooLarge: It is larger than any picture.
    """
    try:
        # without waiting: a pipe without a writer would keep us for ever
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with io.FileIO(file) as stream:
            status = os.fstat(file)
            check_kind(status.st_mode)
            check_size(status.st_size)
            return stream.read()
    except OSError as error:
        raise cannot_open(error) from error


def check_kind(mode: int) -> None:
    """Refuse what is no regular file.

    Args:
        mode: As `os.stat` has it.

    Raises:
        InaccessibleFile: With what it is instead.
    """
    if not stat.S_ISREG(mode):
        kind = next((name for is_one, name in NO_FILES if is_one(mode)), "something else")
        raise InaccessibleFile(f"{kind}, expected a regular file")


def check_size(size: int) -> None:
    """Refuse a file of more bytes than are read into memory.

    Raises:
        ImageTooLarge: With both numbers.
    """
    if size > LARGEST_FILE:
        raise ImageTooLarge(f"file of {size >> 20} MB, at most {LARGEST_FILE >> 20} are read")


def cannot_open(error: OSError) -> InaccessibleFile:
    """What to say of a file that the system does not let us read."""
    return InaccessibleFile(f"cannot be opened: {error.strerror or 'I/O error'}")


def _not_ours(data: bytes) -> UnreadableImage | UnsupportedImage:
    """Say what the bytes are instead of a picture we read."""
    if not data.strip(b"\0"):
        return UnreadableImage(f"{'only zeros' if data else 'empty file'}, expected {EXPECTED}")
    kind = next((kind for magic, kind in OTHER_KINDS.items() if data.startswith(magic)), None)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        kind = "a WebP"
    if data[4:8] == b"ftyp":
        kind = "a HEIF, AVIF or video file"
    if kind:
        return UnsupportedImage(f"{kind}; expected {EXPECTED}")
    return UnreadableImage(f"not a picture of a known kind; expected {EXPECTED}")
