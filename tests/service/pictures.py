"""Pictures for the service to read, made here."""

import io

import cv2
import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    RLELossless,
    generate_uid,
)

from tests.factories import as_bytes


def square(height: int, width: int, top: int, left: int, side: int = 48) -> np.ndarray:
    """Black, uint8, with one bright square."""
    pixels = np.zeros((height, width), np.uint8)
    pixels[top : top + side, left : left + side] = 255
    return pixels


def png(pixels: np.ndarray) -> bytes:
    return cv2.imencode(".png", pixels)[1].tobytes()


def jpeg(pixels: np.ndarray, *, orientation: int = 1) -> bytes:
    """A JPEG whose EXIF block says how it was held."""
    plain = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
    tiff = b"MM\x00*\x00\x00\x00\x08" + b"\x00\x01"  # big-endian, one entry
    tiff += b"\x01\x12\x00\x03\x00\x00\x00\x01" + bytes([0, orientation, 0, 0]) + bytes(4)
    exif = b"Exif\x00\x00" + tiff
    return plain[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + plain[2:]


def film(pixels: np.ndarray, *, photometric: str = "MONOCHROME2", **attributes: object) -> bytes:
    """An 8-bit chest film; MONOCHROME1 stores the same picture with larger meaning darker."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = DigitalXRayImageStorageForPresentation
    dataset.SOPInstanceUID = generate_uid()
    dataset.Modality, dataset.BodyPartExamined, dataset.ViewPosition = "DX", "CHEST", "PA"
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.SamplesPerPixel, dataset.PixelRepresentation = 1, 0
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit = 7
    dataset.PhotometricInterpretation = photometric
    stored = 255 - pixels if photometric == "MONOCHROME1" else pixels
    content = stored.tobytes()
    dataset.PixelData = content + b"\x00" * (len(content) % 2)
    for name, value in attributes.items():
        setattr(dataset, name, value)
    return as_bytes(dataset)


def compressed(data: bytes) -> bytes:
    """The same film with its pixels compressed: a decoder of its own is given it."""
    dataset = dcmread(io.BytesIO(data))
    dataset.compress(RLELossless)
    return as_bytes(dataset)
