"""Data sets as people have them → samples: a manifest, folders, ISIC 2018, RSNA pneumonia."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from training.config import DataSettings
from training.data.samples import Sample, SampleList
from training.data.tables import box_of, numbered_rows, read_boxes, read_rows
from training.errors import ConfigError, DataError

SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".dcm", ".dicom")


class Listed(NamedTuple):
    """A picture as a layout lists it.

    Attributes:
        name: Path below the images folder, POSIX.
        label: Class name.
        group: Patient or lesion.
        boxes: [x0, y0, x1, y1] rows in picture pixels.
    """

    name: str
    label: str
    group: str
    boxes: list[list[float]]


def load_samples(data: DataSettings, *, complete: bool = True) -> SampleList:
    """Read what a run's `[data]` names.

    Args:
        data: The settings.
        complete: Whether every label has to have pictures, also those that `merge` names.

    Raises:
        ConfigError: There is no such layout, or it has no columns to group by.
        DataError: A file, column, picture or label is missing, listed twice or unknown.
    """
    if data.layout not in LAYOUTS:
        raise ConfigError(f"layout {data.layout!r}: expected {', '.join(LAYOUTS)}")
    if data.group_column and data.layout != "manifest":
        raise ConfigError(
            f"group_column is set, but layout = {data.layout!r}: it would have no effect; name the "
            "groups in a CSV of the layout 'manifest'"
        )
    usual_images, read = LAYOUTS[data.layout]
    images = Path(data.root) / (data.images or usual_images)
    listed = list(read(data, images))
    if not listed:
        raise DataError(f"{images}: no pictures in the layout {data.layout!r}")
    absent = sorted(set(data.merge) - {picture.label for picture in listed})
    if absent and complete:
        raise DataError(f"merge: no picture has the label {', '.join(absent)}")
    listed = [
        picture._replace(label=data.merge.get(picture.label, picture.label)) for picture in listed
    ]
    found = {picture.label for picture in listed}
    labels = data.labels or tuple(sorted(found))
    if unknown := sorted(found - set(labels)):
        raise DataError(f"label {', '.join(unknown)} is not among {', '.join(labels)}")
    if absent := [label for label in labels if complete and label not in found]:
        raise DataError(f"no picture has the label {', '.join(absent)}")
    if reserved := sorted({"all", "minority"} & set(labels)):
        raise DataError(
            f"a class is called {reserved[0]!r}, a word of attention.attend: count it under "
            f'another name with data.merge = {{ {reserved[0]} = "..." }}'
        )
    boxes = read_boxes(Path(data.root) / data.boxes) if data.boxes else {}
    samples, seen = [], set()  # paths: ./1.png is 1.png
    for picture in listed:
        path = images / picture.name
        if path in seen:
            raise DataError(f"{picture.name} is listed twice")
        if not path.is_file():
            raise DataError(f"{picture.name} is listed, but not in {images}")
        seen.add(path)
        own = boxes.get(picture.name, np.array(picture.boxes, np.float64).reshape(-1, 4))
        samples.append(
            Sample(
                name=picture.name,
                path=path,
                label=labels.index(picture.label),
                group=picture.group,
                boxes=own,
            )
        )
    if strangers := sorted(set(boxes) - {item.name for item in samples}):
        raise DataError(f"{data.boxes}: boxes for {strangers[0]}, which is not listed")
    return SampleList(labels, tuple(samples))


def group_of(data: DataSettings) -> str:
    """What the pictures of a group show, such as "patient"; "" where each stands for itself."""
    return "lesion" if data.layout == "isic2018" else data.group_column.removesuffix("_id")


def manifest(data: DataSettings, images: Path) -> Iterator[Listed]:
    """One CSV row a picture; columns as the run names them.

    Spaces around a label or group are none of it.
    """
    wanted = [data.image_column, data.label_column, *filter(None, [data.group_column])]
    for number, row in numbered_rows(Path(data.root) / data.manifest, *wanted):
        told = {column: row[column].strip() for column in wanted}
        if empty := [column for column in wanted if not told[column]]:
            raise DataError(f"{data.manifest}, line {number}: no {empty[0]}")
        name = row[data.image_column]
        yield Listed(name, told[data.label_column], told.get(data.group_column, name), [])


def folders(data: DataSettings, images: Path) -> Iterator[Listed]:
    """A folder per class; every picture stands for itself, as nothing says whose it is.

    Hidden files and folders are left out; a folder with files, but no picture, is an error.
    """
    if not images.is_dir():
        raise DataError(f"{images}: no such folder")
    for folder in sorted(path for path in images.glob("[!.]*") if path.is_dir()):
        names = [path.relative_to(images) for path in sorted(folder.rglob("*")) if path.is_file()]
        files = [name for name in names if not any(part.startswith(".") for part in name.parts)]
        pictures = [name for name in files if name.suffix.lower() in SUFFIXES]
        if files and not pictures:
            raise DataError(
                f"{folder}: no picture of this class, expected names that end in "
                f"{', '.join(SUFFIXES)}; found {files[0].as_posix()}"
            )
        for picture in pictures:
            name = picture.as_posix()
            yield Listed(name, folder.name, name, [])


def isic2018(data: DataSettings, images: Path) -> Iterator[Listed]:
    """ISIC 2018 task 3: the official ground truth, and HAM10000's metadata for lesion groups.

    Files in the root: ISIC2018_Task3_Training_GroundTruth.csv, and HAM10000_metadata.csv (or
    without suffix, as the Dataverse gives it) or ISIC2018_Task3_Training_LesionGroupings.csv.
    """
    root = Path(data.root)
    lesions: dict[str, str] = {}
    for name, key in (
        ("HAM10000_metadata.csv", "image_id"),
        ("HAM10000_metadata", "image_id"),
        ("ISIC2018_Task3_Training_LesionGroupings.csv", "image"),
    ):
        if (root / name).exists():
            lesions = {
                row[key]: row["lesion_id"] for row in read_rows(root / name, key, "lesion_id")
            }
            break
    else:
        raise DataError(
            f"{root}: no HAM10000_metadata.csv, which says what pictures show the same lesion"
        )
    classes = ("MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC")
    truth = root / "ISIC2018_Task3_Training_GroundTruth.csv"
    for row in read_rows(truth, "image", *classes):
        named = [label.lower() for label in classes if row[label].strip() in ("1", "1.0")]
        if len(named) != 1:
            raise DataError(f"{truth.name}: {row['image']} has {len(named)} classes, expected 1")
        if row["image"] not in lesions:
            raise DataError(f"{truth.name}: {row['image']} has no lesion in the metadata")
        yield Listed(f"{row['image']}.jpg", named[0], lesions[row["image"]], [])


def rsna(data: DataSettings, images: Path) -> Iterator[Listed]:
    """RSNA pneumonia detection challenge, stage 2: DICOM films, three classes, one row per box.

    Files in the root: stage_2_detailed_class_info.csv (patientId, class) and
    stage_2_train_labels.csv (patientId, x, y, width, height, Target). Both repeat a film for each
    of its boxes. `keep` makes Lung Opacity rare, as the CARE paper has it.
    """
    root = Path(data.root)
    labels: dict[str, str] = {}
    for row in read_rows(root / "stage_2_detailed_class_info.csv", "patientId", "class"):
        if labels.setdefault(row["patientId"], row["class"]) != row["class"]:
            raise DataError(f"stage_2_detailed_class_info.csv: {row['patientId']} has two classes")
    boxes: dict[str, list[list[float]]] = {name: [] for name in labels}
    table = root / "stage_2_train_labels.csv"
    columns = ("patientId", "x", "y", "width", "height", "Target")
    for number, row in numbered_rows(table, *columns):
        if row["patientId"] not in boxes:
            raise DataError(f"{table.name}, line {number}: a film without class")
        if row["Target"] == "1":
            numbers = [row[column] for column in columns[1:5]]
            boxes[row["patientId"]].append(box_of(f"{table.name}, line {number}", *numbers))
    for patient, label in labels.items():
        yield Listed(f"{patient}.dcm", label, patient, boxes[patient])


LAYOUTS: dict[str, tuple[str, Callable[[DataSettings, Path], Iterator[Listed]]]] = {
    "manifest": ("images", manifest),
    "folders": ("", folders),
    "isic2018": ("ISIC2018_Task3_Training_Input", isic2018),
    "rsna": ("stage_2_train_images", rsna),
}
