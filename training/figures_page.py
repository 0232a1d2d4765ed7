"""The figures of a model as Markdown, for people."""

from collections.abc import Sequence
from typing import Any

from training.evaluate import AttentionFigures
from training.figures import Figure
from training.markdown import table


def markdown(measured: dict[str, Any]) -> str:
    """The figures as Markdown tables, for people."""
    overall = ("mean_class_accuracy", "accuracy", "macro_f1", "macro_auroc", "calibration_error")
    classes = measured["per_class"]
    of_all = [[_words(name), *_cells(measured[name])] for name in overall]
    if "in_distribution" in measured:
        of_all.append(["like the training pictures", f"{measured['in_distribution']:.3f}", "-"])
    columns = ("recall", "precision", "f1", "auroc", "average_precision")
    parts = [
        table(["figure", "value", "95 % interval"], of_all),
        table(["class", "pictures", *map(_words, columns)], _rows(classes, columns)),
    ]
    if all("sensitivity" in row for row in classes.values()):
        found = [
            [label, brief(row["sensitivity"]), brief(row["specificity"])]
            for label, row in classes.items()
        ]
        parts.append(table(["found at its operating point", "sensitivity", "specificity"], found))
    if "attention" in measured:
        kinds = tuple(AttentionFigures.__dataclass_fields__)
        seen = _rows(measured["attention"], kinds)
        parts.append(table(["attention on", "pictures", *kinds], seen))
    sure = [
        [
            f"{row['from']:.1f} to {row['to']:.1f}",
            str(row["pictures"]),
            f"{row['probability']:.3f}",
            brief(row["right"]),
        ]
        for row in measured["reliability"]
    ]
    parts.append(table(["top probability", "pictures", "its mean", "top label is right"], sure))
    return "\n\n".join(parts) + "\n"


def _rows(measured: dict[str, Any], columns: Sequence[str]) -> list[list[str]]:
    """A row for each label: its pictures, its figures."""
    return [
        [label, str(row["pictures"]), *(brief(row[name]) for name in columns)]
        for label, row in measured.items()
    ]


def _words(name: str) -> str:
    return name.replace("_", " ")


def _cells(figure: Figure | None) -> tuple[str, str]:
    """Value and interval, each in a cell of its own."""
    return (f"{figure['value']:.3f}", _ends(figure) or "-") if figure else ("-", "-")


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
