"""One file in, one row out. Whoever calls it, the row is the same."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from imaging.errors import ImagingError
from imaging.image import Facts, MedicalImage
from imaging.overlay import encode, overlay, shrink
from imaging.reading import open_image
from models.classifier import Prediction
from models.distribution import UNLIKE
from models.store import load_one

Row = dict[str, object]
"""One line of the table; a column that is missing is empty."""

DIGITS = 6
"""Decimals of a probability: beyond them, processors differ."""

OVERLAY_SIDE = 1024
"""Longest side of an overlay, in pixels: enough to look at, and small enough to keep thousands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What to do with every file of a folder. Travels to the workers, so it holds names only.

    Attributes:
        folder: The folder that is scored; rows name files relative to it.
        models: Folder of models.
        model: Name of the model.
        frame: Which frame to score, counted from 1; None expects files with one frame.
        force: Score files that contradict what the model accepts, and say so in the row.
        overlays: Folder for one PNG per scored file, or None.
    """

    folder: Path
    models: Path
    model: str
    frame: int | None = None
    force: bool = False
    overlays: Path | None = None


def columns(labels: tuple[str, ...]) -> list[str]:
    """Names of the table's columns, in order."""
    fixed = ["file", "status", "error_code", "error", "label", "probability"]
    return fixed + [f"p_{label}" for label in labels]


def error_row(file: str, code: str, problem: str) -> Row:
    """The row of a file that could not be scored."""
    return {"file": file, "status": "error", "error_code": code, "error": problem}


class Scorer:
    """A loaded model that turns files into rows. One per process.

    Raises:
        ModelError: The model is missing or broken.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self._classifier = load_one(job.models, job.model, threads=1)
        self.labels = self._classifier.card.labels

    def __call__(self, number: int, file: str) -> Row:
        """Score one file.

        Args:
            number: Number of its row, from 1.
            file: Its path relative to the folder, with forward slashes.
        """
        path = self.job.folder / file
        try:
            opened = open_image(path)
            forced = self._accept(opened.facts)
            picture = opened.read(self.job.frame)
        except ImagingError as error:
            return error_row(file, error.code, error.problem)
        [prediction] = self._classifier.classify([picture])
        if self.job.overlays:
            # not named like the file: that is often a patient's name
            png = self.job.overlays / f"{number:06d}-{_digest(path)[:8]}.png"
            png.write_bytes(_draw(picture, prediction, forced))
        label, probability = prediction.ranked()[0]
        row: Row = {
            "file": file,
            "status": "ok",
            "label": label,
            "probability": round(probability, DIGITS),
        }
        if forced:
            row |= {"error_code": "forced", "error": forced}
        for label, probability in zip(self.labels, prediction.probabilities, strict=True):
            row[f"p_{label}"] = round(float(probability), DIGITS)
        return row

    def _accept(self, facts: Facts) -> str | None:
        """Refuse a file that contradicts the model; if forced, say what was overridden instead."""
        accepts = self._classifier.card.accepts
        if self.job.force:
            return accepts.contradiction(facts)
        accepts.check(facts)
        return None


def _draw(picture: MedicalImage, prediction: Prediction, forced: str | None) -> bytes:
    """Draw the evidence for the top label, as PNG."""
    small = shrink(picture.pixels, OVERLAY_SIDE)
    heatmap, peak = prediction.heatmap(prediction.top, small.shape[:2])
    notes = [f"forced: {forced[:60]}"] if forced else []
    if prediction.in_distribution is False:
        notes.append(UNLIKE)
    return encode(overlay(small, heatmap, peak=peak, label=prediction.top, notes=notes))


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
