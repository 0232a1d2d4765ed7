"""What to do with every file, and what a row of the table holds."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from imaging.reading import READING_VERSION
from models.card import ModelCard
from models.classifier import Provider
from service.batch.codes import CIRCUMSTANCES

Row = dict[str, Any]
"""One line of the table, by column; a column that is missing, or None, is empty."""

TOP, POSITIVE = "top", "positive"
"""Labels to draw: the most probable one; those whose probability reaches their operating point."""

BEFORE = {
    "file": str,
    "status": str,
    "error_code": str,
    "error": str,
    "label": str,
    "probability": float,
}
AFTER = {
    "sha256": str,
    "sop_instance_uid": str,
    "series_instance_uid": str,
    "study_instance_uid": str,
    "modality": str,
    "in_distribution": bool,
    "model_sha256": str,
    "options_sha256": str,
    "duration_ms": float,
}
"""Columns before and behind the probabilities, with the types of their values."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What to do with every file. Travels to workers, so it holds names only.

    Attributes:
        models: Folder of models.
        model: Name of the model.
        provider: What runs it.
        batch: Pictures of one run of the model; always so many, so that no row depends on others.
        frame: Which frame to score, counted from 1; None expects files with one frame.
        force: Score files that contradict what the model accepts, and say so in the row.
        include: What a file has to say of itself to be scored: values by attribute of `WHERE`.
        exclude: What keeps it from being scored, likewise.
        overlays: Whether to draw overlays.
        captures: Whether to make Secondary Captures of them.
        draw: Which labels these explain: `TOP`, `POSITIVE`, labels, or labels by content's digest.
        kept: Folder for what was drawn, named by digest; "" where nothing is.
    """

    models: Path
    model: str
    provider: Provider = "cpu"
    batch: int = 1
    frame: int | None = None
    force: bool = False
    include: dict[str, tuple[str, ...]] = field(default_factory=dict)
    exclude: dict[str, tuple[str, ...]] = field(default_factory=dict)
    overlays: bool = False
    captures: bool = False
    draw: str | tuple[str, ...] | Mapping[str, tuple[str, ...]] = TOP
    kept: str = ""

    def options(self, card: ModelCard) -> dict[str, Any]:
        """All that a row follows from beside the file's content and `model.onnx`."""
        return {
            "batch": self.batch,
            "provider": self.provider,
            "frame": self.frame,
            "force": self.force,
            "include": {key: sorted(self.include[key]) for key in sorted(self.include)},
            "exclude": {key: sorted(self.exclude[key]) for key in sorted(self.exclude)},
            "overlays": self.overlays,
            "captures": self.captures,
            "draw": self.draw if isinstance(self.draw, str) else list(self.draw),
            "distribution_sha256": card.distribution_sha256,
            "care": library_version("care-diagnosis"),
            "reading": READING_VERSION,
        }


def library_version(name: str) -> str:
    """Version of an installed library; "" where it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def digest(options: dict[str, Any]) -> str:
    """SHA-256 of options, whatever their order."""
    return hashlib.sha256(json.dumps(options, sort_keys=True).encode()).hexdigest()


def columns(labels: tuple[str, ...]) -> dict[str, type]:
    """Names of the table's columns, in order, with the types of their values."""
    return BEFORE | {f"p_{label}": float for label in labels} | AFTER


def text(name: str) -> str:
    """A file's name as the table has it: it may be no UTF-8, and the table always is."""
    return name.encode("utf-8", "backslashreplace").decode()


def error_row(file: str, code: str, problem: str) -> Row:
    """The row of a file that could not be scored."""
    return {"file": text(file), "status": "error", "error_code": code, "error": problem}


def excused(row: Row) -> bool:
    """Whether a row says more about the moment than about the file."""
    return row["status"] == "error" and row["error_code"] in CIRCUMSTANCES
