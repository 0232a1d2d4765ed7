"""Two models on the same pictures: paired bootstrap and McNemar's test."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import binomtest

from training.bootstrap import (
    RESAMPLES,
    draw_groups,
    holds_every_class,
    interval,
    rows_of_groups,
)
from training.errors import DataError
from training.evaluate import AttentionFigures, Results
from training.markdown import table
from training.metrics import f1_scores, mean_class_accuracy, mean_over_classes, recalls, roc_areas


class Difference(NamedTuple):
    """How much a figure differs between two models, second minus first, averaged over seeds.

    Attributes:
        mean: Mean of the seeds' differences.
        low: Lower end of its 95 % interval.
        high: Upper end.
        by_seed: Difference of each seed.
    """

    mean: float
    low: float
    high: float
    by_seed: tuple[float, ...]


def compare(first: Results, second: Results, *, resamples: int = RESAMPLES, seed: int = 0) -> dict:
    """Compare two models picture by picture.

    Differences are second minus first. Their intervals come from drawing whole groups, the same
    for both models; p is McNemar's exact test on the pictures that only one of them gets right,
    which takes those of one patient or lesion for independent.

    Args:
        first: For example without attention.
        second: For example with it, on the same pictures.
        resamples: How many draws.
        seed: Of the draws.

    Returns:
        {"figures": {name: {"first", "second", "difference", "low", "high"}},
        "mcnemar": {"all" or label: {"only_first", "only_second", "p"}}}, plain data for JSON;
        nothing of a class that has no picture.

    Raises:
        DataError: Labels, pictures or their classes are not the same.
    """
    first, second = _same_boxes(first, _same_order(first, second))
    rows = np.arange(len(first.truth))
    ours, theirs = measured(first, rows), measured(second, rows)
    found = differences([first], [second], resamples=resamples, seed=seed)
    return {
        "pictures": len(rows),
        "figures": {
            name: {
                "first": round(ours[name], 6),
                "second": round(theirs[name], 6),
                "difference": round(row.mean, 6),
                "low": round(row.low, 6),
                "high": round(row.high, 6),
            }
            for name, row in found.items()
            if not np.isnan(row.mean)
        },
        "mcnemar": {
            "all": mcnemar(first, second, np.ones(len(rows), bool)),
            **{
                label: mcnemar(first, second, first.truth == n)
                for n, label in enumerate(first.labels)
                if (first.truth == n).any()
            },
        },
    }


def differences(
    first: Sequence[Results], second: Sequence[Results], *, resamples: int, seed: int = 0
) -> dict[str, Difference]:
    """Compare two models trained with several seeds.

    Every figure is that of one network, and differences are averaged: scores of different networks
    are never ranked together. A draw of groups is the same for both models and for all seeds.

    Args:
        first: Results of the first model, seed by seed.
        second: Those of the second, in the same order; each seed's pictures too. A group has the
            same number whatever the seed.
        resamples: How many draws.
        seed: Of the draws.

    Returns:
        Differences by figure; those of attention only where both have boxes.
    """
    seeds = list(zip(first, second, strict=True))
    marked = all(one.attention for pair in seeds for one in pair)

    def change(drawn: Sequence[np.ndarray]) -> np.ndarray:
        found = []
        for (one, other), rows in zip(seeds, drawn, strict=True):
            before, after = measured(one, rows), measured(other, rows)
            found.append([after[name] - before[name] for name in names])
        return np.array(found)

    everything = [np.arange(len(one.truth)) for one in first]
    names = [
        name
        for name in measured(first[0], everything[0])
        if marked or not name.startswith("attention ")
    ]
    alone = change(everything)
    groups = np.unique(np.concatenate([one.groups for one in first]))
    members = [rows_of_groups(one.groups, groups) for one in first]
    drawn = [
        change([np.concatenate([own[n] for n in pick]) for own in members]).mean(0)
        for pick in draw_groups(len(groups), resamples, seed)
    ]
    low, high = interval(np.array(drawn))
    columns = zip(names, alone.mean(0), low, high, alone.T, strict=True)
    return {
        name: Difference(float(mean), float(least), float(most), tuple(own.tolist()))
        for name, mean, least, most, own in columns
    }


def measured(results: Results, rows: np.ndarray) -> dict[str, float]:
    """What is compared of a model, on the pictures drawn, as shares.

    A class without a picture there has the recall NaN, and so has attention without a box. Means
    over the classes are NaN where one of them was not drawn.

    Args:
        results: The model's answers.
        rows: Which pictures, int (N,); one may come several times.

    Returns:
        Figures in [0, 1] by name, in the order of a comparison.
    """
    truth, scores = results.truth[rows], results.probabilities[rows]
    called, classes = scores.argmax(1), len(results.labels)
    found = {
        "mean_class_accuracy": mean_class_accuracy(truth, scores),
        "macro_f1": mean_over_classes(f1_scores(truth, called, classes)),
        "macro_auroc": mean_over_classes(roc_areas(truth, scores)),
    }
    if not holds_every_class(truth, results.truth):
        found = dict.fromkeys(found, float("nan"))
    for label, recall in zip(results.labels, recalls(truth, called, classes), strict=True):
        found[f"recall {label}"] = float(recall)
    seen = [results.attention[row] for row in rows.tolist() if row in results.attention]
    for name in AttentionFigures.__dataclass_fields__:
        values = [getattr(one, name) for one in seen]
        found[f"attention {name}"] = float(np.mean(values)) if seen else float("nan")
    return found


def mcnemar(first: Results, second: Results, chosen: np.ndarray) -> dict[str, Any]:
    """McNemar's exact test on the chosen pictures, bool (N,).

    Each counts as independent of all others: where patients or lesions have several, which mostly
    err together, p is too small.
    """
    right = [results.probabilities.argmax(1) == results.truth for results in (first, second)]
    only_first = int((right[0] & ~right[1] & chosen).sum())
    only_second = int((right[1] & ~right[0] & chosen).sum())
    discordant = only_first + only_second
    p = float(binomtest(only_first, discordant, 0.5).pvalue) if discordant else 1.0
    return {"only_first": only_first, "only_second": only_second, "p": round(p, 6)}


def comparison_markdown(compared: dict[str, Any]) -> str:
    """The comparison as Markdown tables."""
    figures = [
        [
            name.replace("_", " "),
            *(f"{row[which]:.3f}" for which in ("first", "second")),
            f"{row['difference']:+.3f}",
            f"{row['low']:+.3f} to {row['high']:+.3f}",
        ]
        for name, row in compared["figures"].items()
    ]
    tested = [
        [name, str(row["only_first"]), str(row["only_second"]), f"{row['p']:.4f}"]
        for name, row in compared["mcnemar"].items()
    ]
    parts = [
        table(["figure", "first", "second", "difference", "95 % interval"], figures),
        table(["McNemar", "only first right", "only second right", "p"], tested),
        INDEPENDENT,
    ]
    return "\n\n".join(parts) + "\n"


INDEPENDENT = (
    "McNemar's test takes the pictures of one patient or lesion for independent, which the "
    "intervals do not: where there are several, believe the intervals."
)
"""What stands below a comparison."""


def _same_boxes(first: Results, second: Results) -> tuple[Results, Results]:
    """Both with attention on those pictures alone that have boxes in both; in the same order."""
    both = first.attention.keys() & second.attention.keys()
    one, other = (
        replace(each, attention={row: each.attention[row] for row in sorted(both)})
        for each in (first, second)
    )
    return one, other


def _same_order(first: Results, second: Results) -> Results:
    """The second results in the order of the first."""
    if first.labels != second.labels:
        raise DataError(f"labels differ: {first.labels} and {second.labels}")
    if set(first.names) != set(second.names):
        odd = sorted(set(first.names) ^ set(second.names))
        raise DataError(
            f"the pictures differ: {len(odd)} are in one of the two only, {odd[0]} first"
        )
    place = {name: row for row, name in enumerate(second.names)}
    order = np.array([place[name] for name in first.names])
    if not np.array_equal(second.truth[order], first.truth):
        raise DataError("some pictures have another true class in the second")
    back = {int(row): n for n, row in enumerate(order)}
    return Results(
        labels=second.labels,
        names=first.names,
        truth=second.truth[order],
        groups=first.groups,
        probabilities=second.probabilities[order],
        attention={back[row]: seen for row, seen in second.attention.items()},
    )
