"""How good a model is on a list of pictures: figures with their intervals, as plain data."""

from collections.abc import Callable
from typing import Any

import numpy as np

from training.bootstrap import RESAMPLES, estimate, holds_every_class, mean_of
from training.evaluate import AttentionFigures, Results
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

RELIABILITY_BINS = 10
OVER_CLASSES = ("mean_class_accuracy", "macro_f1", "macro_auroc")
"""Figures that are means over the classes."""
NO_SHARES = ("f1", "auroc", "average_precision", "macro_f1", "macro_auroc")
"""Figures that are no shares of anything: there is no exact interval of them."""

Figure = dict[str, float | None]
"""{"value", "low", "high"} as plain data; see `figure`."""
Scored = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""From true classes (N,) and probabilities (N, C) to a figure of each class, (C,)."""
ScoredAll = Callable[[np.ndarray, np.ndarray], float]
"""Likewise, to one figure."""


def figures(results: Results, *, resamples: int = RESAMPLES, seed: int = 0) -> dict[str, Any]:
    """Everything that is known of a model on a list, with 95 % intervals.

    Intervals are percentiles of a bootstrap over patients or lesions, whose pictures stay
    together (Efron & Tibshirani 1993, chapter 13); means over classes are those of draws that hold
    every class. A share of none or of all, of which every draw says the same, has the exact
    interval for as many patients or lesions (Clopper & Pearson 1934). What is no share and the same
    in every draw, such as an F1 of 1, has none: draws of a list do not tell how far it may be off.
    Nor has the calibration error: a draw's is larger than the list's, for it has fewer different
    pictures.

    Returns:
        Plain data for JSON. A figure is {"value", "low", "high"}, the latter two null where there
        is no interval; null for a class without pictures.
    """
    truth, scores = results.truth, results.probabilities
    classes = len(results.labels)
    per_class, overall = _per_class(results), _overall(classes)

    def measure(rows: np.ndarray) -> np.ndarray:
        y, p = truth[rows], scores[rows]
        complete = holds_every_class(y, truth)
        means = [
            function(y, p) if complete or name not in OVER_CLASSES else np.nan
            for name, function in overall.items()
        ]
        return np.concatenate([*(function(y, p) for function in per_class.values()), means])

    everybody = len(np.unique(results.groups))
    counted = [_counted(results, name) for name in per_class]
    counted += [np.array([everybody if name == "accuracy" else 0 for name in overall])]
    found = np.array(
        estimate(measure, results.groups, np.concatenate(counted), resamples=resamples, seed=seed)
    )
    # Values, lower and upper ends: (3, C) of each figure per class, (3,) of each of all.
    columns = found[:, : -len(overall)].reshape(3, len(per_class), classes).swapaxes(0, 1)
    tables = dict(zip(per_class, columns, strict=True))
    means = dict(zip(overall, found[:, -len(overall) :].T, strict=True))
    means["calibration_error"][1:] = np.nan
    if means["mean_class_accuracy"][1] == means["mean_class_accuracy"][2]:
        # every class is found always or never
        means["mean_class_accuracy"][1:] = [mean_over_classes(e) for e in tables["recall"][1:]]
    for name, ends in (tables | means).items():
        if name in NO_SHARES:
            ends[1:] = np.where(ends[1] == ends[2], np.nan, ends[1:])
    counts = np.bincount(truth, minlength=classes)
    return {
        "pictures": len(truth),
        "groups": everybody,
        "resamples": resamples,
        **{name: figure(*triple) for name, triple in means.items()},
        "per_class": {
            label: {
                "pictures": int(counts[n]),
                **{name: figure(*table[:, n]) for name, table in tables.items()},
            }
            for n, label in enumerate(results.labels)
        },
        "confusion": confusion_matrix(truth, scores.argmax(1), classes).tolist(),
        "reliability": _reliability(results, resamples, seed),
        **_known_share(results),
        **({"attention": _attention(results, resamples, seed)} if results.attention else {}),
    }


def figure(value: float, low: float, high: float) -> Figure | None:
    """A figure with its interval, rounded, as plain data; None for NaN, also of its ends."""
    if np.isnan(value):
        return None
    ends = {"low": low, "high": high}
    return {
        "value": round(float(value), 4),
        **{name: None if np.isnan(end) else round(float(end), 4) for name, end in ends.items()},
    }


def _per_class(results: Results) -> dict[str, Scored]:
    classes, points = len(results.labels), results.operating_points
    found: dict[str, Scored] = {
        "recall": lambda y, p: recalls(y, p.argmax(1), classes),
        "precision": lambda y, p: precisions(y, p.argmax(1), classes),
        "f1": lambda y, p: f1_scores(y, p.argmax(1), classes),
        "auroc": roc_areas,
        "average_precision": average_precision,
    }
    if points is not None:
        found["sensitivity"] = lambda y, p: at_operating_points(y, p, points)[0]
        found["specificity"] = lambda y, p: at_operating_points(y, p, points)[1]
    return found


def _overall(classes: int) -> dict[str, ScoredAll]:
    return {
        "mean_class_accuracy": mean_class_accuracy,
        "accuracy": lambda y, p: float((y == p.argmax(1)).mean()),
        "macro_f1": lambda y, p: mean_over_classes(f1_scores(y, p.argmax(1), classes)),
        "macro_auroc": lambda y, p: mean_over_classes(roc_areas(y, p)),
        "calibration_error": calibration_error,
    }


def _counted(results: Results, name: str) -> np.ndarray:
    """Of how many patients or lesions a figure of each class is a share, (C,); 0 for none."""
    every = np.arange(len(results.labels))
    of_class = results.truth[:, None] == every
    among = {
        "recall": of_class,
        "precision": results.probabilities.argmax(1)[:, None] == every,
        "sensitivity": of_class,
        "specificity": ~of_class,
    }
    if name not in among:
        return np.zeros(len(every), int)
    return np.array([len(np.unique(results.groups[chosen])) for chosen in among[name].T])


def _known_share(results: Results) -> dict[str, float]:
    if results.in_distribution is None:
        return {}
    return {"in_distribution": round(float(results.in_distribution.mean()), 4)}


def _reliability(results: Results, resamples: int, seed: int) -> list[dict[str, Any]]:
    """The bins of a reliability diagram that hold pictures."""
    truth, scores, bins = results.truth, results.probabilities, RELIABILITY_BINS
    pictures, sure, _ = reliability(truth, scores, bins)
    bin_of = reliability_bins(scores, bins)
    counted = [len(np.unique(results.groups[bin_of == n])) for n in range(bins)]
    right = estimate(
        lambda rows: reliability(truth[rows], scores[rows], bins)[2],
        results.groups,
        counted,
        resamples=resamples,
        seed=seed,
    )
    return [
        {
            "from": n / bins,
            "to": (n + 1) / bins,
            "pictures": int(pictures[n]),
            "probability": round(float(sure[n]), 4),
            "right": figure(*(ends[n] for ends in right)),
        }
        for n in np.flatnonzero(pictures)
    ]


def _attention(results: Results, resamples: int, seed: int) -> dict[str, Any]:
    """Means of the attention figures, of all pictures that have them and of each class."""
    rows = np.array(sorted(results.attention))
    names = tuple(AttentionFigures.__dataclass_fields__)
    table = np.array([[getattr(results.attention[row], name) for name in names] for row in rows])
    wanted = {"all": np.ones(len(rows), bool)}
    wanted |= {label: results.truth[rows] == n for n, label in enumerate(results.labels)}
    summary = {}
    for label, chosen in wanted.items():
        if chosen.any():
            groups = results.groups[rows][chosen]
            found = estimate(
                mean_of(table[chosen]),
                groups,
                [len(np.unique(groups))] * len(names),
                resamples=resamples,
                seed=seed,
            )
            summary[label] = {
                "pictures": int(chosen.sum()),
                **{name: figure(*ends) for name, *ends in zip(names, *found, strict=True)},
            }
    return summary
