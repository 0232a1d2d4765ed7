"""From the bytes of a chest film to a model's input, ours and the usual way.

    python -m benchmarks.film_to_input [--quick]

The film is generated: 3000 x 2500 pixels, 12 bits, with a window; and smaller and larger ones. Each
way has one core, as in the service. The last line says how many times faster ours is than pydicom's
functions on float arrays, for an uncompressed film of that size.
"""

import argparse
import io
from functools import partial

import cv2
import highdicom
import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.pixels import apply_modality_lut, apply_voi_lut, pixel_array
from pydicom.uid import (
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    generate_uid,
)

from benchmarks.measure import Ratio, growth, interleaved, ratio_table, show
from imaging.preprocessing import Preprocessing
from imaging.reading import read_image, use_one_core

SIZE = 224
FULL = (3000, 2500)
SIZES = ((750, 625), (1500, 1250), FULL, (6000, 5000))
"""Rows and columns, each four times as many pixels as the one before."""
TARGET = 5.0  # how many times as fast ours has to be, for an uncompressed film


def film(rows: int = FULL[0], columns: int = FULL[1]) -> Dataset:
    """A generated film: soft shades and the grain of a detector."""
    y, x = np.mgrid[0:rows, 0:columns].astype(np.float32)
    grain = np.random.default_rng(0).normal(0, 30, (rows, columns))
    shades = 2000 + 1500 * np.sin(x / 300) * np.cos(y / 400) + grain
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = DigitalXRayImageStorageForPresentation
    dataset.SOPInstanceUID = generate_uid(entropy_srcs=["film_to_input"])
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.Modality = "DX"
    dataset.Rows, dataset.Columns = rows, columns
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME1"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.PixelRepresentation = 0
    dataset.RescaleSlope, dataset.RescaleIntercept = 1, 0
    dataset.WindowCenter, dataset.WindowWidth = 2048, 3500
    dataset.PixelData = shades.clip(0, 4095).astype("<u2").tobytes()
    dataset["PixelData"].VR = "OW"
    return dataset


def to_bytes(dataset: Dataset) -> bytes:
    """The data set as a file."""
    stream = io.BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def ours(data: bytes) -> np.ndarray:
    """The way of this project."""
    pixels, _ = Preprocessing(size=SIZE, fit="squash", color="gray")(read_image(data))
    return pixels


def by_pydicom_and_numpy(data: bytes) -> np.ndarray:
    """What most projects write."""
    dataset = pydicom.dcmread(io.BytesIO(data))
    values = apply_modality_lut(pixel_array(dataset), dataset)
    gray = apply_voi_lut(values, dataset) / (2**dataset.BitsStored - 1)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        gray = 1 - gray
    return _to_input((gray * 255).round().astype(np.uint8))


def by_highdicom(data: bytes) -> np.ndarray:
    """The carefully correct way."""
    image = highdicom.Image.from_dataset(pydicom.dcmread(io.BytesIO(data)), copy=False)
    gray = image.get_frame(1, apply_voi_transform=True, apply_presentation_lut=True)
    return _to_input((gray * 255).round().astype(np.uint8))


def _to_input(gray: np.ndarray) -> np.ndarray:
    small = cv2.resize(gray, (SIZE, SIZE), interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(small, cv2.COLOR_GRAY2RGB)


WAYS = {"ours": ours, "pydicom + NumPy": by_pydicom_and_numpy, "highdicom": by_highdicom}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    rounds = 3 if parser.parse_args().quick else 15
    use_one_core()
    dataset = film()
    plain = to_bytes(dataset)
    dataset.compress(JPEG2000Lossless, encoding_plugin="pylibjpeg")
    compressed = to_bytes(dataset)
    for name, way in WAYS.items():
        difference = np.abs(way(plain).astype(int) - ours(plain)).max()
        print(f"{name}: differs from ours by at most {difference}/255")
    found = []
    for title, data, count in (("uncompressed", plain, rounds), ("JPEG 2000", compressed, 3)):
        medians = interleaved(
            {name: partial(way, data) for name, way in WAYS.items()}, rounds=count
        )
        show(f"3000 x 2500, 12 bits, {title} → {SIZE} x {SIZE}", medians)
        found += [
            Ratio(
                f"film to input, {title}",
                name,
                medians[name] / medians["ours"],
                "as fast",
                at_least=TARGET if title == "uncompressed" else None,
            )
            for name in WAYS
            if name != "ours"
        ]
    sizes = {}
    for rows, columns in SIZES:
        data = to_bytes(film(rows, columns))
        calls = {name: partial(way, data) for name, way in WAYS.items()}
        sizes[f"{rows} x {columns}"] = interleaved(calls, rounds=max(3, rounds // 3))
    print(growth("pixels", sizes, "ours"), ratio_table(found), sep="\n\n")
    print(f"ratio: {found[0].times:.1f}")


if __name__ == "__main__":
    main()
