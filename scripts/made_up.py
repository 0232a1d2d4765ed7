"""Write a made-up chest film and mole, to try things out: real ones may not be given away.

python -m scripts.made_up [FOLDER]
"""

import argparse
from pathlib import Path

import cv2
import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian, generate_uid

FILM, MOLE = "film.dcm", "mole.jpg"

BITS = 12


def generated_film(seed: int = 2) -> np.ndarray:
    """Something a little like a frontal chest film; 12 bits in uint16, shape (600, 500)."""
    height, width = 600, 500
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    y, x = rows / height * 2.4 - 1.2, columns / width * 2 - 1

    def within(right: float, down: float, wide: float, high: float, soft: float) -> np.ndarray:
        """1 inside an ellipse, 0 outside, with a soft rim."""
        radius = np.hypot((x - right) / wide, (y - down) / high)
        return (1 - np.tanh((radius - 1) / (2 * soft))) / 2

    clouds = cv2.GaussianBlur(random.normal(size=(height, width)).astype(np.float32), (0, 0), 7)
    lungs = np.maximum(within(-0.42, -0.1, 0.36, 0.76, 0.05), within(0.44, -0.1, 0.34, 0.76, 0.05))
    lungs *= 1 - np.maximum(within(-0.45, 1.0, 0.5, 0.5, 0.04), within(0.5, 1.1, 0.5, 0.5, 0.04))
    lungs *= 1 - 0.9 * within(0.1, 0.22, 0.38, 0.34, 0.06)  # the heart
    spine = within(0, 0, 0.12, 3, 0.2)
    arches = y - 0.55 * np.abs(x) ** 1.5
    ribs = np.clip(np.sin(arches * 24), 0, 1) ** 1.5 * (1 - spine)
    body = within(0, 0.25, 0.97, 1.7, 0.02)
    shade = body * (0.68 - 0.42 * lungs + 0.1 * spine + 0.1 * ribs + 0.6 * lungs * clouds)
    shade += random.normal(0, 0.008, shade.shape)
    return (shade.clip(0, 1) * (2**BITS - 1)).astype(np.uint16)


def generated_lesion(seed: int = 2) -> np.ndarray:
    """Something a little like a dermoscopic picture of a dark lesion; uint8 RGB (360, 440, 3)."""
    height, width = 360, 440
    random = np.random.default_rng(seed)

    def clouds(size: float) -> np.ndarray:
        noise = random.normal(size=(height, width, 1)).astype(np.float32)
        return cv2.GaussianBlur(noise, (0, 0), size)[..., None] * size * 3.5

    y, x = np.mgrid[:height, :width].astype(np.float32)[..., None]
    skin = np.array([208, 155, 142]) + 7 * clouds(30)
    radius = np.hypot((x - 235) / 1.25, y - 185) + 9 * clouds(14) + 2 * clouds(5)
    inside, core = (1 / (1 + np.exp((radius - r) / soft)) for r, soft in ((82, 5), (40, 14)))
    lesion = (np.array([125, 74, 52]) + 12 * clouds(6)) * (1 - 0.5 * core)
    picture = skin * (1 - inside) + lesion * inside + random.normal(size=(height, width, 3)) * 3
    return cv2.GaussianBlur(picture.clip(0, 255).astype(np.uint8), (0, 0), 0.8)


def film_as_dicom() -> Dataset:
    """The film as a CR image (PS3.3, A.2) of nobody."""
    pixels = generated_film()
    film = Dataset()
    film.file_meta = FileMetaDataset()
    film.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    film.SOPClassUID = ComputedRadiographyImageStorage
    for name in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"):
        setattr(film, name, generate_uid(entropy_srcs=["made up", name]))
    film.ImageType = ["DERIVED", "SECONDARY"]
    film.DerivationDescription = "Made up by a program, shows nobody"
    film.PatientName, film.PatientID = "Made^Up", "MADE-UP"
    # type 2: has to be there, may be empty
    for name in (
        *("PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID"),
        *("AccessionNumber", "ReferringPhysicianName", "Manufacturer", "SeriesNumber"),
    ):
        setattr(film, name, None)
    film.Modality, film.BodyPartExamined, film.ViewPosition = "CR", "CHEST", "PA"
    film.PatientOrientation = ["L", "F"]
    film.InstanceNumber = 1
    film.SamplesPerPixel, film.PhotometricInterpretation = 1, "MONOCHROME2"
    film.Rows, film.Columns = pixels.shape
    film.BitsAllocated, film.BitsStored, film.HighBit = 16, BITS, BITS - 1
    film.PixelRepresentation = 0
    film.WindowCenter, film.WindowWidth = 1700, 3400
    film.PixelData = pixels.astype("<u2").tobytes()
    return film


def write(folder: Path) -> None:
    """Write both."""
    folder.mkdir(parents=True, exist_ok=True)
    film_as_dicom().save_as(folder / FILM, enforce_file_format=True)
    cv2.imwrite(str(folder / MOLE), cv2.cvtColor(generated_lesion(), cv2.COLOR_RGB2BGR))


def main() -> None:
    """Write them where the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=Path())
    folder = parser.parse_args().folder
    for name in (FILM, MOLE):
        if (folder / name).exists():
            parser.error(f"{folder / name} is there already")
    write(folder)


if __name__ == "__main__":
    main()
