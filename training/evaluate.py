"""How good a model is, measured through the exported file: the very code the service runs."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypeVar

import numpy as np
from tqdm import tqdm

from imaging.image import MedicalImage
from imaging.reading import read_image
from models.classifier import Classifier, Prediction
from training.bootstrap import (
    RESAMPLES,
    exact_at_ends,
    holds_every_class,
    interval,
    resample,
)
from training.data.samples import Sample, SampleList
from training.errors import DataError
from training.metrics import (
    at_operating_points,
    average_precision,
    calibration_error,
    confusion_matrix,
    f1_scores,
    mean_class_accuracy,
    mean_over_classes,
    precisions,
    recalls,
    reliability,
    reliability_bins,
    roc_areas,
)

BATCH = 16
RELIABILITY_BINS = 10
OVER_CLASSES = ("mean_class_accuracy", "macro_f1", "macro_auroc")
"""Figures that are means over the classes."""

Item = TypeVar("Item")
Figure = dict[str, float | None]
"""{"value", "low", "high"} as plain data; see `figure`."""


@dataclass(frozen=True, slots=True, eq=False)
class Results:
    """What a model said of a list of pictures.

    Attributes:
        labels: Class names, in the order of the probabilities.
        names: Names of the pictures, (N,).
        truth: True classes, int64 (N,).
        groups: Patient or lesion of each picture, as numbers, int64 (N,).
        probabilities: Calibrated, float64 (N, C).
        attention: Per picture with boxes, where the map of its true class falls.
        embeddings: Pooled features, float32 (N, K); None where the list was read from a file.
        in_distribution: Whether each picture is like the training pictures, bool (N,); None where
            the model does not know.
        operating_points: Probability from which on each class counts as found, (C,); None where
            there is no card yet that says so.
    """

    labels: tuple[str, ...]
    names: tuple[str, ...]
    truth: np.ndarray
    groups: np.ndarray
    probabilities: np.ndarray
    attention: dict[int, "AttentionFigures"] = field(default_factory=dict)
    embeddings: np.ndarray | None = None
    in_distribution: np.ndarray | None = None
    operating_points: np.ndarray | None = None


@dataclass(frozen=True, slots=True)
class AttentionFigures:
    """Where the exported, ReLU'd map of the true class falls on one picture with lesion boxes.

    Attributes:
        pointing: Whether its maximum lies in a box (pointing game).
        energy: Share of its sum that lies in the boxes, in [0, 1].
        iou: Of the region above half of its maximum with the boxes, in [0, 1].
        blank: Whether there is no positive evidence at all; the others are then 0.
    """

    pointing: float
    energy: float
    iou: float
    blank: float


def classify_list(
    classifier: Classifier,
    samples: SampleList,
    *,
    change: Callable[[MedicalImage], MedicalImage] = lambda image: image,
) -> Results:
    """Run a model over pictures, from the files on.

    Args:
        classifier: The model.
        samples: The pictures. Their boxes are those of the unchanged ones.
        change: What to do to each picture before the model sees it.

    Raises:
        DataError: The model's labels are not those of the list.
        ImagingError: A picture cannot be read.
    """
    if classifier.card.labels != samples.labels:
        raise DataError(
            f"the model knows {', '.join(classifier.card.labels)}; "
            f"the pictures are labelled {', '.join(samples.labels)}"
        )
    probabilities: list[np.ndarray] = []
    embeddings: list[np.ndarray] = []
    known: list[bool | None] = []
    attention: dict[int, AttentionFigures] = {}
    progress = tqdm(
        total=len(samples.samples), desc="evaluating", unit="picture", leave=False, disable=None
    )
    for batch in _batches(samples.samples, BATCH):
        predictions = classifier.classify([change(read_image(item.path)) for item in batch])
        for item, prediction in zip(batch, predictions, strict=True):
            if len(item.boxes):
                attention[len(probabilities)] = attention_figures(item, prediction)
            probabilities.append(prediction.probabilities)
            embeddings.append(prediction.embedding)
            known.append(prediction.in_distribution)
        progress.update(len(batch))
    progress.close()
    numbers = {
        group: number for number, group in enumerate(sorted({i.group for i in samples.samples}))
    }
    return Results(
        labels=samples.labels,
        names=tuple(item.name for item in samples.samples),
        truth=np.array([item.label for item in samples.samples]),
        groups=np.array([numbers[item.group] for item in samples.samples]),
        probabilities=np.array(probabilities),
        embeddings=np.array(embeddings),
        in_distribution=None if None in known else np.array(known),
        attention=attention,
        operating_points=np.array(
            [classifier.card.operating_points[label] for label in samples.labels]
        ),
    )


def attention_figures(item: Sample, prediction: Prediction) -> AttentionFigures:
    """Compare the map of a picture's true class with its boxes, pixel by pixel."""
    heatmap, peak = prediction.heatmap(prediction.labels[item.label])
    if not peak:
        return AttentionFigures(0.0, 0.0, 0.0, 1.0)
    inside = np.zeros(heatmap.shape, bool)
    for x0, y0, x1, y1 in item.boxes.round().astype(int).clip(0):
        inside[y0:y1, x0:x1] = True
    hot = heatmap >= 0.5
    return AttentionFigures(
        pointing=float(inside.flat[heatmap.argmax()]),
        energy=float(heatmap[inside].sum() / heatmap.sum()),
        iou=float((hot & inside).sum() / (hot | inside).sum()),
        blank=0.0,
    )


def figures(results: Results, *, resamples: int = RESAMPLES, seed: int = 0) -> dict[str, Any]:
    """Everything that is known of a model on a list, with 95 % intervals.

    Intervals are percentiles of a bootstrap over patients or lesions, whose pictures stay
    together (Efron & Tibshirani 1993, chapter 13); means over classes are those of draws that hold
    every class. A share of none or of all, of which every draw says the same, has the exact
    interval for as many patients or lesions (Clopper & Pearson 1934). The calibration error has
    none: a draw's is larger than the list's, for it has fewer different pictures.

    Returns:
        Plain data for JSON. A figure is {"value", "low", "high"}, the latter two null where there
        is no interval; null for a class without pictures.
    """
    truth, scores = results.truth, results.probabilities
    classes = len(results.labels)
    per_class: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
        "recall": lambda y, p: recalls(y, p.argmax(1), classes),
        "precision": lambda y, p: precisions(y, p.argmax(1), classes),
        "f1": lambda y, p: f1_scores(y, p.argmax(1), classes),
        "auroc": roc_areas,
        "average_precision": average_precision,
    }
    points = results.operating_points
    if points is not None:
        per_class["sensitivity"] = lambda y, p: at_operating_points(y, p, points)[0]
        per_class["specificity"] = lambda y, p: at_operating_points(y, p, points)[1]
    overall: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
        "mean_class_accuracy": mean_class_accuracy,
        "accuracy": lambda y, p: float((y == p.argmax(1)).mean()),
        "macro_f1": lambda y, p: mean_over_classes(f1_scores(y, p.argmax(1), classes)),
        "macro_auroc": lambda y, p: mean_over_classes(roc_areas(y, p)),
        "calibration_error": calibration_error,
    }

    def measure(y: np.ndarray, p: np.ndarray) -> np.ndarray:
        rows = [function(y, p) for function in per_class.values()]
        complete = holds_every_class(y, truth)
        means = [
            function(y, p) if complete or name not in OVER_CLASSES else np.nan
            for name, function in overall.items()
        ]
        return np.concatenate([*rows, means])

    drawn = np.array(
        [measure(truth[rows], scores[rows]) for rows in resample(results.groups, resamples, seed)]
    )
    values = measure(truth, scores)
    low, high = interval(drawn)
    of_class = truth[:, None] == np.arange(classes)
    called = scores.argmax(1)[:, None] == np.arange(classes)
    # of which pictures each is a share
    among = {"recall": of_class, "precision": called, "sensitivity": of_class}
    among["specificity"] = ~of_class
    limits = {}
    for n, name in enumerate(per_class):
        rows = slice(n * classes, (n + 1) * classes)
        if name in among:
            counted = [len(np.unique(results.groups[chosen])) for chosen in among[name].T]
            low[rows], high[rows] = exact_at_ends(values[rows], low[rows], high[rows], counted)
        limits[name] = values[rows], low[rows], high[rows]
    means = {
        name: (values[n], low[n], high[n])
        for n, name in enumerate(overall, start=len(per_class) * classes)
    }
    means["calibration_error"] = means["calibration_error"][0], np.nan, np.nan
    mean, least, most = means["mean_class_accuracy"]
    if least == most:  # every class is found always or never
        least, most = (mean_over_classes(ends) for ends in limits["recall"][1:])
        means["mean_class_accuracy"] = mean, least, most
    tables = {
        name: [figure(*triple) for triple in zip(*columns, strict=True)]
        for name, columns in limits.items()
    }
    counts = np.bincount(truth, minlength=classes)
    return {
        "pictures": len(truth),
        "groups": len(np.unique(results.groups)),
        "resamples": resamples,
        **{name: figure(*triple) for name, triple in means.items()},
        "per_class": {
            label: {
                "pictures": int(counts[n]),
                **{name: table[n] for name, table in tables.items()},
            }
            for n, label in enumerate(results.labels)
        },
        "confusion": confusion_matrix(truth, scores.argmax(1), classes).tolist(),
        "reliability": _reliability(results, resamples, seed),
        **_known_share(results),
        **({"attention": _attention(results, resamples, seed)} if results.attention else {}),
    }


def _known_share(results: Results) -> dict[str, float]:
    if results.in_distribution is None:
        return {}
    return {"in_distribution": round(float(results.in_distribution.mean()), 4)}


def _reliability(results: Results, resamples: int, seed: int) -> list[dict[str, Any]]:
    """The bins of a reliability diagram that hold pictures."""
    truth, scores, bins = results.truth, results.probabilities, RELIABILITY_BINS
    pictures, sure, right = reliability(truth, scores, bins)
    draws = resample(results.groups, resamples, seed)
    low, high = interval(np.array([reliability(truth[d], scores[d], bins)[2] for d in draws]))
    bin_of = reliability_bins(scores, bins)
    counted = [len(np.unique(results.groups[bin_of == n])) for n in range(bins)]
    low, high = exact_at_ends(right, low, high, counted)
    return [
        {
            "from": n / bins,
            "to": (n + 1) / bins,
            "pictures": int(pictures[n]),
            "probability": round(float(sure[n]), 4),
            "right": figure(right[n], low[n], high[n]),
        }
        for n in np.flatnonzero(pictures)
    ]


def _attention(results: Results, resamples: int, seed: int) -> dict[str, Any]:
    rows = np.array(sorted(results.attention))
    names = tuple(AttentionFigures.__dataclass_fields__)
    table = np.array([[getattr(results.attention[row], name) for name in names] for row in rows])
    summary = {}
    wanted = [("all", np.ones(len(rows), bool))]
    wanted += [(label, results.truth[rows] == n) for n, label in enumerate(results.labels)]
    for label, chosen in wanted:
        if chosen.any():
            of_class = table[chosen]
            drawn = [
                of_class[pick].mean(0)
                for pick in resample(results.groups[rows][chosen], resamples, seed)
            ]
            low, high = interval(np.array(drawn))
            counted = [len(np.unique(results.groups[rows][chosen]))] * len(names)
            low, high = exact_at_ends(of_class.mean(0), low, high, counted)
            values = zip(of_class.mean(0), low, high, strict=True)
            summary[label] = {
                "pictures": int(chosen.sum()),
                **dict(zip(names, (figure(*triple) for triple in values), strict=True)),
            }
    return summary


def figure(value: float, low: float, high: float) -> Figure | None:
    """A figure with its interval, rounded, as plain data; None for NaN, also of its ends."""
    if np.isnan(value):
        return None
    ends = {"low": low, "high": high}
    return {
        "value": round(float(value), 4),
        **{name: None if np.isnan(end) else round(float(end), 4) for name, end in ends.items()},
    }


def markdown(measured: dict[str, Any]) -> str:
    """The figures as Markdown tables, for people."""
    overall = ("mean_class_accuracy", "accuracy", "macro_f1", "macro_auroc", "calibration_error")
    lines = ["| figure | value | 95 % interval |", "| --- | --- | --- |"]
    lines += [f"| {name.replace('_', ' ')} | {_cells(measured[name])} |" for name in overall]
    if "in_distribution" in measured:
        lines += [f"| like the training pictures | {measured['in_distribution']:.3f} | - |"]
    columns = ("recall", "precision", "f1", "auroc", "average_precision")
    lines += ["", "| class | pictures | " + " | ".join(c.replace("_", " ") for c in columns) + " |"]
    lines += ["| --- | --- |" + " --- |" * len(columns)]
    for label, row in measured["per_class"].items():
        lines.append(
            f"| {label} | {row['pictures']} | " + " | ".join(brief(row[c]) for c in columns) + " |"
        )
    if all("sensitivity" in row for row in measured["per_class"].values()):
        lines += ["", "| found at its operating point | sensitivity | specificity |"]
        lines += ["| --- | --- | --- |"]
        for label, row in measured["per_class"].items():
            found = brief(row["sensitivity"]), brief(row["specificity"])
            lines.append(f"| {label} | {' | '.join(found)} |")
    if "attention" in measured:
        kinds = tuple(AttentionFigures.__dataclass_fields__)
        lines += ["", "| attention on | pictures | " + " | ".join(kinds) + " |"]
        lines += ["| --- | --- |" + " --- |" * len(kinds)]
        for label, row in measured["attention"].items():
            lines.append(
                f"| {label} | {row['pictures']} | "
                + " | ".join(brief(row[c]) for c in kinds)
                + " |"
            )
    lines += ["", "| top probability | pictures | its mean | top label is right |"]
    lines += ["| --- | --- | --- | --- |"]
    for row in measured["reliability"]:
        lines.append(
            f"| {row['from']:.1f} to {row['to']:.1f} | {row['pictures']} | "
            f"{row['probability']:.3f} | {brief(row['right'])} |"
        )
    return "\n".join(lines) + "\n"


def _cells(figure: Figure | None) -> str:
    return f"{figure['value']:.3f} | {_ends(figure) or '-'}" if figure else "- | -"


def brief(figure: Figure | None) -> str:
    """A figure with its interval in brackets."""
    if not figure:
        return "-"
    ends = _ends(figure)
    return f"{figure['value']:.3f} ({ends})" if ends else f"{figure['value']:.3f}"


def _ends(figure: Figure) -> str:
    if figure["low"] is None:
        return ""
    return f"{figure['low']:.3f} to {figure['high']:.3f}"


def _batches(items: Iterable[Item], size: int) -> Iterable[list[Item]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
