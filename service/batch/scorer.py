"""One file in, one row out. Whoever calls it, the row is the same."""

import hashlib
import stat
from dataclasses import dataclass
from pathlib import Path

from imaging.errors import ImagingError, UnreadableImage
from imaging.image import MedicalImage
from imaging.overlay import encode_png, overlay, shrink
from imaging.reading import ImageFile, open_image
from models.classifier import Prediction
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
            opened = _open(path)
            problem = self._classifier.card.accepts.contradiction(opened.facts)
            if problem and not self.job.force:
                self._classifier.card.accepts.check(opened.facts)
            picture = opened.read(self.job.frame)
        except ImagingError as error:
            return error_row(file, error.code, error.problem)
        [prediction] = self._classifier.classify([picture])
        if self.job.overlays:
            name = f"{number:06d}-{_digest(path)}.png"
            _write_overlay(self.job.overlays / name, picture, prediction)
        label, probability = prediction.ranked()[0]
        row: Row = {
            "file": file,
            "status": "ok",
            "label": label,
            "probability": round(probability, DIGITS),
        }
        if problem:
            row |= {"error_code": "forced", "error": problem}
        for label, probability in zip(self.labels, prediction.probabilities, strict=True):
            row[f"p_{label}"] = round(float(probability), DIGITS)
        return row


def _open(path: Path) -> ImageFile:
    try:
        # opening a named pipe would wait for a writer, forever
        if not stat.S_ISREG(path.stat().st_mode):
            raise UnreadableImage("not a regular file")
        return open_image(path)
    except OSError as error:
        # strerror alone: the message proper repeats the file's name
        raise UnreadableImage(f"cannot be opened: {error.strerror}") from error


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:8]


def _write_overlay(path: Path, picture: MedicalImage, prediction: Prediction) -> None:
    """Write the top label's overlay. Named by row and digest: file names are often patients'."""
    raise NotImplementedError
