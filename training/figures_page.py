"""The figures of a model as Markdown, for people."""

from typing import Any

from training.evaluate import AttentionFigures
from training.figures import Figure


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
