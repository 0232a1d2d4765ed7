"""Pictures made up for tests: DICOM data sets and photo files. No patient, unless asked for one."""

import io
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.filewriter import write_file_meta_info
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

DIGITAL_X_RAY = "1.2.840.10008.5.1.4.1.1.1.1"
# the same for every file made, so that a file is a function of what it was asked to be
INSTANCE = "1.2.826.0.1.3680043.8.498.1"


def make_film(rows: int = 64, columns: int = 48, *, bits: int = 12, seed: int = 0) -> np.ndarray:
    """Gray stored values that look a little like a film: shades, noise, and both extremes."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:rows, 0:columns].astype(np.float32)
    shade = 0.5 + 0.35 * np.sin(5 * x / columns) * np.cos(4 * y / rows)
    film = (shade + rng.normal(0, 0.02, shade.shape)).clip(0, 1) * (2**bits - 1)
    film = film.astype(np.uint8 if bits <= 8 else np.uint16 if bits <= 16 else np.uint32)
    film[0, 0], film[-1, -1] = 0, 2**bits - 1
    return film


def make_color(rows: int = 48, columns: int = 64, *, seed: int = 0) -> np.ndarray:
    """A soft RGB picture, uint8."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return cv2.resize(coarse, (columns, rows), interpolation=cv2.INTER_CUBIC)


def bright_square(
    rows: int, columns: int, *, top: int, left: int, side: int, dark: int = 40, bright: int = 220
) -> np.ndarray:
    """A dark gray picture with one bright square, uint8."""
    picture = np.full((rows, columns), dark, np.uint8)
    picture[top : top + side, left : left + side] = bright
    return picture


def make_dicom(
    pixels: np.ndarray,
    *,
    photometric: str | None = None,
    bits_stored: int | None = None,
    frames: int | None = None,
    planar: int = 0,
    syntax: str = ExplicitVRLittleEndian,
    encapsulated: list[bytes] | None = None,
    **attributes: object,
) -> Dataset:
    """Wrap stored values as a DX image.

    Args:
        pixels: Stored values in native byte order: (H, W), (H, W, 3), or with the frames in front.
        photometric: MONOCHROME2 or RGB if None.
        bits_stored: All of them if None.
        frames: Number of frames, if the first axis is frames.
        planar: 1 stores color as three planes.
        syntax: Transfer syntax of the file.
        encapsulated: Compressed frames to store in place of the pixels.
        attributes: Anything else, by keyword; None deletes an attribute.
    """
    shape = pixels.shape[1:] if frames else pixels.shape
    color = len(shape) == 3
    allocated = pixels.dtype.itemsize * 8
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.file_meta.MediaStorageSOPClassUID = DIGITAL_X_RAY
    dataset.file_meta.MediaStorageSOPInstanceUID = INSTANCE
    dataset.SOPClassUID = DIGITAL_X_RAY
    dataset.SOPInstanceUID = INSTANCE
    dataset.Modality = "DX"
    dataset.BodyPartExamined = "CHEST"
    dataset.ViewPosition = "PA"
    dataset.Rows, dataset.Columns = shape[:2]
    dataset.SamplesPerPixel = 3 if color else 1
    dataset.PhotometricInterpretation = photometric or ("RGB" if color else "MONOCHROME2")
    dataset.BitsAllocated = allocated
    dataset.BitsStored = bits_stored or allocated
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    if color:
        dataset.PlanarConfiguration = planar
    if frames:
        dataset.NumberOfFrames = frames
    if encapsulated is not None:
        dataset.PixelData = encapsulate(encapsulated)
        dataset["PixelData"].VR = "OB"
        dataset["PixelData"].is_undefined_length = True
    else:
        if color and planar:
            pixels = np.moveaxis(pixels, -1, -3)
        order = ">" if syntax == ExplicitVRBigEndian else "<"
        content = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
        dataset.PixelData = content + b"\0" * (len(content) % 2)
        dataset["PixelData"].VR = "OB" if allocated == 8 else "OW"
    for keyword, value in attributes.items():
        if value is None:
            dataset.pop(keyword, None)
        else:
            setattr(dataset, keyword, value)
    return dataset


def lut_item(entries: np.ndarray, *, first: int = 0, bits: int = 16) -> Sequence:
    """An LUT sequence of one item, its entries stored as words."""
    item = Dataset()
    item.LUTDescriptor = [len(entries) % (1 << 16), first, bits]
    item.LUTData = np.asarray(entries, "<u2").tobytes()
    item["LUTData"].VR = "OW"
    return Sequence([item])


def group(**sequences: Dataset) -> Dataset:
    """A functional group: one sequence of one item each."""
    holder = Dataset()
    for keyword, item in sequences.items():
        setattr(holder, keyword, Sequence([item]))
    return holder


def as_bytes(dataset: Dataset) -> bytes:
    """The data set as a file."""
    stream = io.BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def as_bytes_without_preamble(dataset: Dataset) -> bytes:
    """The data set as old systems write it: no preamble and no meta header."""
    stream = io.BytesIO()
    syntax = dataset.file_meta.TransferSyntaxUID
    bare = Dataset(dataset)
    bare.save_as(
        stream,
        implicit_vr=syntax == ImplicitVRLittleEndian,
        little_endian=syntax != ExplicitVRBigEndian,
        enforce_file_format=False,
    )
    return stream.getvalue()


def as_bytes_deflated(dataset: Dataset) -> bytes:
    """The data set as one deflated stream behind its meta header."""
    dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1.99"
    meta = io.BytesIO()
    write_file_meta_info(meta, dataset.file_meta)
    body = io.BytesIO()
    Dataset(dataset).save_as(body, implicit_vr=False, little_endian=True, enforce_file_format=False)
    deflater = zlib.compressobj(wbits=-15)
    packed = deflater.compress(body.getvalue()) + deflater.flush()
    return bytes(128) + b"DICM" + meta.getvalue() + packed


def as_png(pixels: np.ndarray) -> bytes:
    """A PNG of gray, RGB or RGBA, 8 or 16 bits."""
    if pixels.ndim == 3:
        code = cv2.COLOR_RGB2BGR if pixels.shape[2] == 3 else cv2.COLOR_RGBA2BGRA
        pixels = cv2.cvtColor(pixels, code)
    return cv2.imencode(".png", pixels)[1].tobytes()


def png_chunk(name: bytes, body: bytes) -> bytes:
    """One chunk with its checksum."""
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def raw_png(header: bytes, rows: list[bytes], *more: bytes) -> bytes:
    """A PNG put together by hand, for kinds that OpenCV does not write.

    Args:
        header: IHDR.
        rows: Scan lines, without their filter byte.
        more: Chunks between the header and the pixels.
    """
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    return (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", header)
        + b"".join(more)
        + png_chunk(b"IDAT", pixels)
        + png_chunk(b"IEND", b"")
    )


def as_jpeg(pixels: np.ndarray, *, orientation: int | None = None, quality: int = 95) -> bytes:
    """A JPEG of gray or RGB, with an EXIF orientation if asked."""
    if pixels.ndim == 3:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
    if orientation is None:
        return data
    exif = b"Exif\0\0MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:]


def as_progressive_jpeg(pixels: np.ndarray) -> bytes:
    """A JPEG of several scans."""
    return cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()


def endless_jpeg() -> bytes:
    """A JPEG of 9 megapixels whose last scan comes again and again."""
    data = as_progressive_jpeg(np.zeros((3000, 3000), np.uint8))
    last = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + last * 1000 + data[-2:]


def with_profile(jpeg: bytes, profile: bytes, *, parts: int = 1) -> bytes:
    """A JPEG with an ICC profile embedded, in so many segments."""
    step = -(-len(profile) // parts)
    segments = b""
    for number in range(parts):
        part = profile[number * step : (number + 1) * step]
        body = b"ICC_PROFILE\0" + bytes([number + 1, parts]) + part
        segments += b"\xff\xe2" + struct.pack(">H", len(body) + 2) + body
    return jpeg[:2] + segments + jpeg[2:]


def make_dicomdir(path: Path, files: list[tuple[str, ...]]) -> None:
    """Write a DICOMDIR with an image record for each of the files, given as parts of its path."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.1.3.10"
    dataset.file_meta.MediaStorageSOPInstanceUID = INSTANCE
    patient = Dataset()
    patient.DirectoryRecordType = "PATIENT"
    records = [patient]
    for parts in files:
        record = Dataset()
        record.DirectoryRecordType = "IMAGE"
        record.ReferencedFileID = list(parts)
        records.append(record)
    dataset.DirectoryRecordSequence = Sequence(records)
    dataset.save_as(path, enforce_file_format=True)
