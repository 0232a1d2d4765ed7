"""Train, validation and test lists: whole groups, classes in proportion, written down, reused."""

import csv
from collections import defaultdict
from pathlib import Path

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

from training.data.manifest import read_rows
from training.data.samples import SampleList
from training.errors import DataError

PARTS = ("train", "validation", "test")
FOLDS = 20  # shares are multiples of 1/20


def load_or_make_split(
    samples: SampleList, path: Path | None, *, validation: float, test: float, seed: int
) -> dict[str, SampleList]:
    """Read the split's list; where there is none, make it and write it down.

    Args:
        samples: All pictures.
        path: CSV `image,split`; None to make one without writing it.
        validation: Share for validation, a multiple of 0.05.
        test: Share for test, likewise.
        seed: Of the draw.

    Returns:
        The pictures of "train", "validation" and "test".

    Raises:
        DataError: The list does not fit the pictures, tears a group apart, or leaves a class out.
    """
    if path is not None and path.exists():
        assigned = _read(path, samples)
    else:
        assigned = make_split(samples, validation=validation, test=test, seed=seed)
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_split(assigned, path)
    parts = {
        part: samples.subset({name for name, where in assigned.items() if where == part})
        for part in PARTS
    }
    for part, subset in parts.items():
        if not subset.samples and part == "test" and test == 0:
            continue
        for label, count in zip(samples.labels, subset.counts(), strict=True):
            if not count:
                groups = {
                    item.group for item in samples.samples if samples.labels[item.label] == label
                }
                raise DataError(
                    f"{part}: no picture of {label!r}; it has {len(groups)} group(s) "
                    "(patients, lesions) in all, and each can be in one list only"
                )
    return parts


def make_split(samples: SampleList, *, validation: float, test: float, seed: int) -> dict[str, str]:
    """Draw a split: whole groups, stratified by class. Returns name → part."""
    labels = np.array([item.label for item in samples.samples])
    groups = np.array([item.group for item in samples.samples])
    for_test, for_validation = round(test * FOLDS), round(validation * FOLDS)
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
    assigned: dict[str, str] = {}
    try:
        drawn = list(folds.split(labels, labels, groups))
    except ValueError as error:
        raise DataError(f"cannot split {len(labels)} pictures: {error}") from error
    for number, (_, held_out) in enumerate(drawn):
        if number < for_test:
            part = "test"
        elif number < for_test + for_validation:
            part = "validation"
        else:
            part = "train"
        assigned |= {samples.samples[index].name: part for index in held_out}
    return assigned


def write_split(assigned: dict[str, str], path: Path) -> None:
    """Write name → part as CSV, sorted by name."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["image", "split"])
        writer.writerows(sorted(assigned.items()))


def _read(path: Path, samples: SampleList) -> dict[str, str]:
    assigned = {row["image"]: row["split"] for row in read_rows(path, "image", "split")}
    if strange := sorted(set(assigned.values()) - {*PARTS, "unused"}):
        raise DataError(f"{path.name}: split {strange[0]!r}; expected {', '.join(PARTS)} or unused")
    names = {item.name for item in samples.samples}
    if unlisted := sorted(names - set(assigned)):
        raise DataError(
            f"{path.name}: {len(unlisted)} pictures are not listed, {unlisted[0]} first"
        )
    if unknown := sorted(set(assigned) - names):
        raise DataError(f"{path.name}: lists {unknown[0]}, which the data set does not have")
    parts = defaultdict(set)
    for item in samples.samples:
        if assigned[item.name] != "unused":
            parts[item.group].add(assigned[item.name])
    if torn := sorted(group for group, where in parts.items() if len(where) > 1):
        raise DataError(
            f"{path.name}: group {torn[0]} is in {' and '.join(sorted(parts[torn[0]]))}"
        )
    return assigned
