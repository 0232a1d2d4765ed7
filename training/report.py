"""An evaluation on disk: figures.json, figures.md, predictions.csv, plots. And back again."""

import csv
import json
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from sklearn.metrics import roc_curve

from training.data.tables import read_rows
from training.errors import DataError
from training.evaluate import AttentionFigures, Results
from training.figures_page import markdown
from training.files import complete

ATTENTION = tuple(AttentionFigures.__dataclass_fields__)


def write_report(results: Results, measured: dict[str, Any], folder: Path) -> None:
    """Write an evaluation into a folder, each file complete or not at all.

    Args:
        results: What the model said, picture by picture.
        measured: What `figures` made of it.
        folder: Where to; made if it is not there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with complete(folder / "figures.json") as data, complete(folder / "figures.md") as page:
        data.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
        page.write_text(markdown(measured), encoding="utf-8")
    write_predictions(results, folder / "predictions.csv")
    plot_confusion(measured, results.labels, folder / "confusion.png")
    plot_reliability(measured, folder / "reliability.png")
    plot_roc(results, folder / "roc.png")


def write_predictions(results: Results, path: Path) -> None:
    """One row a picture: image, group, truth, p_LABEL…, and where attention falls if known."""
    with complete(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        scores = [f"p_{label}" for label in results.labels]
        writer.writerow(["image", "group", "truth", *scores, *ATTENTION])
        for row, name in enumerate(results.names):
            seen = results.attention.get(row)
            writer.writerow(
                [
                    name,
                    results.groups[row],
                    results.labels[results.truth[row]],
                    *(f"{score:.8g}" for score in results.probabilities[row]),
                    *(astuple(seen) if seen else [""] * len(ATTENTION)),
                ]
            )


def read_predictions(path: Path) -> Results:
    """Read predictions.csv, or the one in a folder.

    Raises:
        DataError: It is none.
    """
    path = path / "predictions.csv" if path.is_dir() else path
    rows = list(read_rows(path, "image", "group", "truth", *ATTENTION))
    labels = tuple(name.removeprefix("p_") for name in rows[0] if name.startswith("p_"))
    try:
        return Results(
            labels=labels,
            names=tuple(row["image"] for row in rows),
            truth=np.array([labels.index(row["truth"]) for row in rows]),
            groups=np.array([int(row["group"]) for row in rows]),
            probabilities=np.array([[float(row[f"p_{name}"]) for name in labels] for row in rows]),
            attention={
                number: AttentionFigures(*(float(row[name]) for name in ATTENTION))
                for number, row in enumerate(rows)
                if row[ATTENTION[0]]
            },
        )
    except (ValueError, TypeError) as error:
        raise DataError(f"{path}: not a predictions.csv of care evaluate") from error


def plot_confusion(measured: dict[str, Any], labels: tuple[str, ...], path: Path) -> None:
    """Confusion matrix: shares of each true class, with the counts written in."""
    counts = np.array(measured["confusion"])
    shares = counts / counts.sum(1, keepdims=True).clip(min=1)
    figure = Figure(figsize=(1.5 + 0.8 * len(labels),) * 2)
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        color = "white" if shares[row, column] > 0.6 else "black"
        axes.text(column, row, str(count), ha="center", va="center", color=color)
    ticks = range(len(labels))
    axes.set_xticks(ticks, labels, rotation=45, ha="right")
    axes.set_yticks(ticks, labels)
    axes.set(xlabel="called", ylabel="true")
    save_figure(figure, path)


def plot_reliability(measured: dict[str, Any], path: Path) -> None:
    """Reliability diagram of the top label: how often it is right, by how sure the model is."""
    rows = measured["reliability"]
    sure = [row["probability"] for row in rows]
    right, low, high = (
        np.array([row["right"][name] for row in rows]) for name in ("value", "low", "high")
    )
    figure = Figure(figsize=(5, 5))
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], "--", color="gray", label="perfect")
    spread = [right - low, high - right]
    axes.errorbar(sure, right, np.clip(spread, 0, None), fmt="o-", capsize=3, label="model")
    axes.bar(
        [(row["from"] + row["to"]) / 2 for row in rows],
        [row["pictures"] / measured["pictures"] for row in rows],
        [row["to"] - row["from"] for row in rows],
        alpha=0.2,
        label="share of the pictures",
    )
    axes.set(
        xlabel="probability of the top label", ylabel="share correct", xlim=(0, 1), ylim=(0, 1)
    )
    axes.legend()
    save_figure(figure, path)


def plot_roc(results: Results, path: Path) -> None:
    """One ROC curve per class, against the rest."""
    figure = Figure(figsize=(5, 5))
    axes = figure.subplots()
    for number, label in enumerate(results.labels):
        hits = results.truth == number
        if 0 < hits.sum() < len(hits):
            alarms, found, _ = roc_curve(hits, results.probabilities[:, number])
            axes.plot(alarms, found, label=label)
    axes.plot([0, 1], [0, 1], "--", color="gray")
    axes.set(xlabel="1 - specificity", ylabel="sensitivity", xlim=(0, 1), ylim=(0, 1))
    axes.legend()
    save_figure(figure, path)


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as its suffix says, complete or not at all; an SVG is the same each time."""
    figure.tight_layout()
    kind = path.suffix.removeprefix(".")
    options: dict[str, Any] = {"metadata": {"Date": None}} if kind == "svg" else {"dpi": 90}
    with complete(path) as part, rc_context({"svg.hashsalt": "care"}):
        figure.savefig(part, format=kind, **options)
