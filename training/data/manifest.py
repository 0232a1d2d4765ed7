"""A manifest CSV and a boxes CSV → samples."""

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from training.config import DataSettings
from training.data.samples import Sample, SampleList
from training.errors import DataError


def load_samples(data: DataSettings) -> SampleList:
    """Read what a run's `[data]` names.

    Raises:
        DataError: A file, column, picture or label is missing, listed twice or unknown.
    """
    root = Path(data.root)
    images = root / data.images
    rows = list(read_rows(root / data.manifest, data.image_column, data.label_column))
    found = {row[data.label_column] for row in rows}
    labels = data.labels or tuple(sorted(found))
    if unknown := sorted(found - set(labels)):
        raise DataError(
            f"{data.manifest}: label {', '.join(unknown)} is not among {', '.join(labels)}"
        )
    if absent := [label for label in labels if label not in found]:
        raise DataError(f"{data.manifest}: no picture has the label {', '.join(absent)}")
    if data.group_column and data.group_column not in rows[0]:
        raise DataError(f"{data.manifest}: no column {data.group_column!r}")
    boxes = read_boxes(root / data.boxes) if data.boxes else {}
    samples, seen = [], set()
    for row in rows:
        name = row[data.image_column]
        if name in seen:
            raise DataError(f"{data.manifest}: {name} is listed twice")
        if not (images / name).is_file():
            raise DataError(f"{data.manifest}: {name} is not in {images}")
        seen.add(name)
        samples.append(
            Sample(
                name=name,
                path=images / name,
                label=labels.index(row[data.label_column]),
                group=row[data.group_column] if data.group_column else name,
                boxes=boxes.get(name, np.zeros((0, 4))),
            )
        )
    if strangers := sorted(set(boxes) - seen):
        raise DataError(
            f"{data.boxes}: boxes for {strangers[0]}, which {data.manifest} does not list"
        )
    return SampleList(labels, tuple(samples))


def read_rows(path: Path, *columns: str) -> Iterator[dict[str, str]]:
    """Rows of a CSV that must have certain columns and at least one row.

    Raises:
        DataError: It cannot be read, is empty, or lacks a column.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            if missing := [column for column in columns if column not in (reader.fieldnames or [])]:
                raise DataError(
                    f"{path.name}: no column {', '.join(missing)}; found {reader.fieldnames}"
                )
            empty = True
            for row in reader:
                empty = False
                yield row
            if empty:
                raise DataError(f"{path.name}: no rows")
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from error


def read_boxes(path: Path) -> dict[str, np.ndarray]:
    """Read `image,x,y,w,h` (picture pixels) into [x0, y0, x1, y1] per picture, float64 (M, 4).

    Raises:
        DataError: A box is no box: not numbers, or without width or height.
    """
    boxes: dict[str, list[list[float]]] = {}
    for number, row in enumerate(read_rows(path, "image", "x", "y", "w", "h"), start=2):
        try:
            x, y, w, h = (float(row[key]) for key in ("x", "y", "w", "h"))
        except ValueError as error:
            raise DataError(f"{path.name}, line {number}: x, y, w, h must be numbers") from error
        if not (w > 0 and h > 0 and np.isfinite([x, y, w, h]).all()):
            raise DataError(f"{path.name}, line {number}: w and h must be above 0, found {w} x {h}")
        boxes.setdefault(row["image"], []).append([x, y, x + w, y + h])
    return {name: np.array(rows) for name, rows in boxes.items()}
