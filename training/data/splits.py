"""Train, validation and test lists: whole groups, classes in proportion, written down, reused."""

import csv
import hashlib
import warnings
from collections import defaultdict
from pathlib import Path

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

from training.data.samples import SampleList
from training.data.tables import read_rows
from training.errors import ConfigError, DataError
from training.files import complete

PARTS = ("train", "validation", "test")
MOST_FOLDS = 20  # shares are multiples of 1/20 at the finest


def load_or_make_split(
    samples: SampleList,
    path: Path | None,
    *,
    validation: float,
    test: float,
    seed: int,
    keep: dict[str, int] | None = None,
    complete: bool = True,
) -> dict[str, SampleList]:
    """Read the split's list; where there is none, make it and write it down.

    Args:
        samples: All pictures.
        path: CSV `image,split`; None to make one without writing it.
        validation: Share for validation, a multiple of 0.05.
        test: Share for test, likewise.
        seed: Of the draw.
        keep: Training pictures to keep of a class, to make it rare. It is drawn from the list,
            which stays as it is: runs with different `keep` share validation and test.
        complete: Whether a list that was read has to have pictures of every class in each part; one
            that is made has.

    Returns:
        The pictures of "train", "validation" and "test".

    Raises:
        DataError: The list does not fit the pictures, tears a group apart, or leaves a class out.
    """
    written = path if path is not None and path.exists() else None
    if written:
        assigned = _read(written, samples)
    else:
        assigned = make_split(samples, validation=validation, test=test, seed=seed)
    parts = {
        part: samples.subset({name for name, where in assigned.items() if where == part})
        for part in PARTS
    }
    if keep and parts["train"].samples:  # a list of pictures of elsewhere trains nothing
        parts["train"] = make_rare(parts["train"], keep, seed)
    for part, subset in parts.items():
        if written and not complete:
            break
        if not subset.samples and part == "test" and test == 0:
            continue
        for label, count in zip(samples.labels, subset.counts(), strict=True):
            if not count:
                groups = {
                    item.group for item in samples.samples if samples.labels[item.label] == label
                }
                raise DataError(
                    f"{f'{written.name}: ' if written else ''}{part}: no picture of "
                    f"{label!r}; it has {len(groups)} group(s) (patients, lesions) in all, and "
                    "each can be in one list only"
                )
    if path and not written:  # a list that is of no use is not left behind
        path.parent.mkdir(parents=True, exist_ok=True)
        write_split(assigned, path)
    return parts


def split_sha256(parts: dict[str, SampleList]) -> str:
    """Digest of which picture is in which list, as cards have it."""
    listed = "".join(
        f"{item.name},{part}\n" for part in sorted(parts) for item in parts[part].samples
    )
    return hashlib.sha256(listed.encode()).hexdigest()


def make_split(samples: SampleList, *, validation: float, test: float, seed: int) -> dict[str, str]:
    """Draw a split: whole groups, stratified by class. Returns name → part.

    Every list gets some of every class, as far as its groups allow: see `fill_gaps`.
    """
    labels = np.array([item.label for item in samples.samples])
    names, groups = np.unique([item.group for item in samples.samples], return_inverse=True)
    number_of_folds = fewest_folds(validation, test)
    for_test, for_validation = round(test * number_of_folds), round(validation * number_of_folds)
    folds = StratifiedGroupKFold(number_of_folds, shuffle=True, random_state=seed)
    try:
        with warnings.catch_warnings():
            # a class with fewer pictures than folds is fine as long as every list gets some
            warnings.filterwarnings("ignore", "The least populated class")
            drawn = list(folds.split(labels, labels, groups))
    except ValueError as error:
        raise DataError(
            f"cannot split {len(labels)} pictures: validation {validation} and test {test} need "
            f"{number_of_folds} parts, and no class has as many pictures; shares of 0.2 need 5, "
            "those of 0.25 need 4"
        ) from error
    for_train = number_of_folds - for_test - for_validation
    of_fold = np.repeat(("test", "validation", "train"), (for_test, for_validation, for_train))
    places = np.empty(len(names), of_fold.dtype)
    for part, (_, held) in zip(of_fold, drawn, strict=True):
        places[groups[held]] = part
    counts = np.zeros((len(names), len(samples.labels)), int)
    np.add.at(counts, (groups, labels), 1)
    fill_gaps(counts, places, np.unique(of_fold))
    return {
        item.name: str(places[group]) for item, group in zip(samples.samples, groups, strict=True)
    }


def fill_gaps(counts: np.ndarray, places: np.ndarray, parts: np.ndarray) -> None:
    """Move groups until every list has a picture of every class, or no group can be spared.

    The smallest group that has what is lacking goes, of those whose own list keeps some of every
    class without it.

    Args:
        counts: Pictures of each group by class, (G, C).
        places: The list of each group, (G,); changed here.
        parts: The lists there are.
    """
    while True:
        held = {part: counts[places == part].sum(0) for part in parts}
        left = np.stack([held[part] for part in places]) - counts
        spared = ((left > 0) | (counts == 0)).all(1)
        for part, label in ((part, label) for part in parts for label in range(counts.shape[1])):
            fitting = np.flatnonzero(spared & (counts[:, label] > 0))
            if not held[part][label] and len(fitting):
                places[fitting[counts[fitting].sum(1).argmin()]] = part
                break
        else:
            return


def fewest_folds(validation: float, test: float) -> int:
    """The smallest number of folds that makes both shares whole.

    Raises:
        ConfigError: They are no multiples of 0.05, or leave nothing to train on.
    """
    shares = (validation, test)
    sound = validation > 0 and test >= 0 and validation + test < 1
    for folds in range(2, MOST_FOLDS + 1):
        if sound and all(abs(share * folds - round(share * folds)) < 1e-6 for share in shares):
            return folds
    raise ConfigError(
        f"validation {validation} and test {test}: expected multiples of 0.05, validation above 0, "
        "below 1 together"
    )


def make_rare(train: SampleList, keep: dict[str, int], seed: int) -> SampleList:
    """Keep only so many training pictures of a class, group after group in random order.

    Raises:
        DataError: There is no such class, or it has fewer pictures than that.
    """
    names = {item.name for item in train.samples}
    for label, wanted in keep.items():
        if label not in train.labels:
            raise DataError(f"keep: no label {label!r}; there are {', '.join(train.labels)}")
        own = [item for item in train.samples if train.labels[item.label] == label]
        if not 0 < wanted <= len(own):
            raise DataError(f"keep: {label} has {len(own)} training pictures, {wanted} wanted")
        order = {
            group: place
            for place, group in enumerate(
                np.random.default_rng(seed)
                .permutation(sorted({item.group for item in own}))
                .tolist()
            )
        }
        own.sort(key=lambda item: (order[item.group], item.name))
        names -= {item.name for item in own[wanted:]}
    return train.subset(names)


def write_split(assigned: dict[str, str], path: Path) -> None:
    """Write name → part as CSV, sorted by name; complete or not at all."""
    with complete(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["image", "split"])
        writer.writerows(sorted(assigned.items()))


def _read(path: Path, samples: SampleList) -> dict[str, str]:
    assigned: dict[str, str] = {}
    for row in read_rows(path, "image", "split"):
        if row["image"] in assigned:
            raise DataError(f"{path.name}: {row['image']} is listed twice")
        assigned[row["image"]] = row["split"]
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
