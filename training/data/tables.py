"""CSV files that people wrote: read strictly, with the line named where something is wrong."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from training.errors import DataError

FARTHEST_SHARE = 1.5  # that x + w can be in shares of a side, where x is the middle, as in YOLO's


def numbered_rows(path: Path, *columns: str) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows of a CSV that must have certain columns and at least one row, each with its line.

    Raises:
        DataError: It cannot be read, is empty, or lacks a column.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            found = reader.fieldnames or []
            if missing := [column for column in columns if column not in found]:
                raise DataError(
                    f"{path.name}: no column {', '.join(missing)}; found {', '.join(found)}"
                )
            empty = True
            for row in reader:
                empty = False
                if any(row[column] is None for column in columns):
                    raise DataError(f"{path.name}, line {reader.line_num}: too few values")
                if any(row.pop(None, [])):  # empty ones, as spreadsheets leave them, say nothing
                    raise DataError(
                        f"{path.name}, line {reader.line_num}: too many values; quote what has a "
                        "comma, and write numbers with a point"
                    )
                yield reader.line_num, row
            if empty:
                raise DataError(f"{path.name}: no rows")
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path.name}: not UTF-8 text") from error
    except csv.Error as error:  # such as a quote that is never closed
        raise DataError(f"{path.name}, line {reader.line_num}: {error}") from error


def read_rows(path: Path, *columns: str) -> Iterator[dict[str, str]]:
    """The rows of `numbered_rows`, without their lines."""
    return (row for _, row in numbered_rows(path, *columns))


def read_boxes(path: Path) -> dict[str, np.ndarray]:
    """Read `image,x,y,w,h` (picture pixels) into [x0, y0, x1, y1] per picture, float64 (M, 4).

    Raises:
        DataError: A box is no box: not numbers, or without width or height; or all are shares of
            a picture's sides.
    """
    boxes: dict[str, list[list[float]]] = {}
    for number, row in numbered_rows(path, "image", "x", "y", "w", "h"):
        where = f"{path.name}, line {number}"
        boxes.setdefault(row["image"], []).append(
            box_of(where, row["x"], row["y"], row["w"], row["h"])
        )
    found = {name: np.array(rows) for name, rows in boxes.items()}
    if (farthest := max(rows.max() for rows in found.values())) <= FARTHEST_SHARE:
        raise DataError(
            f"{path.name}: no box reaches beyond {farthest:g}, as in shares of a picture's sides; "
            "expected pixels of the picture"
        )
    return found


class MadeBoxes(NamedTuple):
    """A list of boxes made by machine, by picture. One drawn by people can be read as such, too.

    Attributes:
        boxes: [x0, y0, x1, y1] in picture pixels, float64 (M, 4).
        methods: What made them; the list's name where it does not say.
        confidences: As far as it says them, box by box; 0 marks a fallback.
    """

    boxes: dict[str, np.ndarray]
    methods: dict[str, str]
    confidences: dict[str, list[float]]


def read_made_boxes(path: Path) -> MadeBoxes:
    """Read `image,x,y,w,h` with `method` and `confidence`, if they are there.

    Raises:
        DataError: A box is no box, or a confidence no number.
    """
    methods: dict[str, str] = {}
    confidences: dict[str, list[float]] = {}
    for row in read_rows(path, "image"):
        name, sure = row["image"], row.get("confidence")
        methods[name] = row.get("method") or path.stem
        told = confidences.setdefault(name, [])
        if sure:
            try:
                told.append(float(sure))
            except ValueError as error:
                raise DataError(
                    f"{path.name}: confidence of {name} must be a number, found {sure!r}"
                ) from error
    return MadeBoxes(read_boxes(path), methods, confidences)


def box_of(where: str, *numbers: str) -> list[float]:
    """[x0, y0, x1, y1] of the texts x, y, w, h.

    Raises:
        DataError: They are no numbers, or the box has no width or height.
    """
    try:
        x, y, w, h = (float(number) for number in numbers)
    except ValueError as error:
        raise DataError(f"{where}: x, y, w, h must be numbers, found {numbers}") from error
    if not (w > 0 and h > 0 and np.isfinite([x, y, w, h]).all()):
        raise DataError(
            f"{where}: x, y, w, h must be finite, w and h above 0; found {w} x {h} at {x}, {y}"
        )
    return [x, y, x + w, y + h]
