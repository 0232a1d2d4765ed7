"""Files in, one row each out. Whoever calls it, the rows are the same."""

import hashlib
import time
import traceback
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np

from imaging.errors import ImagingError
from imaging.image import Facts
from imaging.overlay import shrink
from imaging.reading import open_image
from models.card import DIGITS
from models.classifier import Classifier, Outputs, Prediction
from models.errors import BrokenModel
from models.store import load_card, load_one
from service.batch.decoded import Decoded
from service.batch.evidence import OVERLAY_SIDE, keep_evidence
from service.batch.files import File, read
from service.batch.job import Job, Row, digest, error_row, text
from service.batch.selection import excluded

KNOWN = "known"
"""Status of a row that is not worked out, as one for this content is at hand."""

ROOT = Path(__file__).resolve().parents[2]

Known = Callable[[str], bool]
"""Says whether there is a row already for the content of this digest."""

Engine = Callable[[Iterable[File], Job, Known | None], Generator[tuple[File, Row], None, None]]
"""Gives each file its row, in any order; see local.py."""


class Scorer:
    """A model that turns files into rows. One per process.

    Reading and decoding need no model in memory; it is loaded when first asked.

    Args:
        job: What to do.
        known: Asked before a file is decoded; None where there are no rows yet.

    Raises:
        ModelError: The model is missing, or its card is broken.
    """

    def __init__(self, job: Job, known: Known | None = None) -> None:
        self.job = job
        self.card = load_card(job.models, job.model)
        self._known = known
        self._stamps = {
            "model_sha256": self.card.sha256,
            "options_sha256": digest(job.options(self.card)),
        }

    @cached_property
    def classifier(self) -> Classifier:
        """The model, loaded.

        Raises:
            BrokenModel: It cannot be used as it is, or not run by what was asked for.
        """
        job = self.job
        found = load_one(job.models, job.model, provider=job.provider, most=job.batch)
        if found.active != job.provider:
            raise BrokenModel(f"{job.model} is run by {found.active}, expected {job.provider}")
        return found

    def warm_up(self) -> None:
        """Load the libraries that decoding needs, so that no file's time counts it."""
        import imaging.dicom  # noqa: F401

        if self.job.captures:
            import service.secondary_capture  # noqa: F401

    def score(self, files: Sequence[File]) -> list[Row]:
        """One row for each file, in order; what is wrong with a file is its row.

        Raises:
            ModelError: The model cannot be used.
            OSError: What was drawn cannot be written.
        """
        decoded = [self.decode(file) for file in files]
        rows = iter(self.infer([one for one in decoded if isinstance(one, Decoded)]))
        return [next(rows) if isinstance(one, Decoded) else one for one in decoded]

    def decode(self, file: File) -> Decoded | Row:
        """Read a file up to the model's input; or its row, where it does not get so far.

        A mistake of ours becomes a row as well: it must not cost the other files theirs.
        """
        start = time.perf_counter()
        row: Row = {"file": text(file.name), **self._stamps}
        try:
            data = read(file)
            row["sha256"] = hashlib.sha256(data).hexdigest()
            if row["sha256"] == file.known or (self._known and self._known(row["sha256"])):
                return row | {"status": KNOWN}
            return self._decode(data, row, start)
        except ImagingError as error:
            code, problem = error.code, error.problem
            if error.facts:
                row |= _named(error.facts)
                if reason := excluded(error.facts, self.job.include, self.job.exclude):
                    return row | _skipped(reason) | _cost(time.perf_counter() - start)
        except MemoryError:
            code, problem = "out_of_memory", "not enough memory to decode this file"
        except Exception as error:
            code, problem = "internal_error", f"a mistake of this program: {_place(error)}"
        return row | error_row(file.name, code, problem) | _cost(time.perf_counter() - start)

    def _decode(self, data: bytes, row: Row, start: float) -> Decoded | Row:
        opened = open_image(data)
        row |= _named(opened.facts)
        if reason := excluded(opened.facts, self.job.include, self.job.exclude):
            return row | _skipped(reason) | _cost(time.perf_counter() - start)
        forced = self.card.accepts.check(opened.facts, force=self.job.force)
        picture = opened.read(self.job.frame)
        square, placement = self.card.preprocessing(picture)
        drawn = self.job.overlays or self.job.captures
        captured = self.job.captures and opened.facts.kind == "dicom"
        return Decoded(
            row=row,
            square=square,
            placement=placement,
            forced=forced,
            image=replace(picture, pixels=shrink(picture, OVERLAY_SIDE)) if drawn else None,
            data=data if captured else None,
            seconds=time.perf_counter() - start,
        )

    def infer(self, decoded: Sequence[Decoded]) -> list[Row]:
        """Run the model; one row each, in order.

        The model always sees the job's number of pictures, black ones where there are fewer: its
        kernels add up in another order for another number, and no row may depend on its neighbours.

        Raises:
            ModelError: The model cannot be used.
            OSError: What was drawn cannot be written.
        """
        rows = []
        for first in range(0, len(decoded), self.job.batch):
            some = decoded[first : first + self.job.batch]
            start = time.perf_counter()
            predictions = self._predict(some)
            share = (time.perf_counter() - start) / len(some)
            rows += [self._row(*pair, share) for pair in zip(some, predictions, strict=True)]
        return rows

    def _predict(self, some: Sequence[Decoded]) -> list[Prediction]:
        squares = np.zeros((self.job.batch, *some[0].square.shape), np.uint8)
        for place, one in enumerate(some):
            squares[place] = one.square
        outputs = Outputs(*(output[: len(some)] for output in self.classifier.run(squares)))
        return self.classifier.predictions(outputs, [one.placement for one in some])

    def _row(self, one: Decoded, prediction: Prediction, seconds: float) -> Row:
        start = time.perf_counter()
        label, probability = prediction.ranked()[0]
        row = one.row | {
            "status": "ok",
            "label": label,
            "probability": round(probability, DIGITS),
            "in_distribution": prediction.in_distribution,
        }
        for name, probability in zip(self.card.labels, prediction.probabilities, strict=True):
            row[f"p_{name}"] = round(float(probability), DIGITS)
        remarks = {"forced": one.forced}
        if one.image is not None:
            remarks["not_captured"] = keep_evidence(one, row, prediction, self.classifier, self.job)
        if said := {code: words for code, words in remarks.items() if words}:
            row |= {"error_code": next(iter(said)), "error": "; ".join(said.values())}
        return row | _cost(one.seconds + seconds + time.perf_counter() - start)


def _named(facts: Facts) -> Row:
    """Columns that come from the header."""
    return {
        "sop_instance_uid": facts.sop_instance,
        "series_instance_uid": facts.series,
        "study_instance_uid": facts.study,
        "modality": facts.modality,
    }


def _skipped(reason: str) -> Row:
    return {"status": "skipped", "error_code": "excluded", "error": reason}


def _cost(seconds: float) -> Row:
    return {"duration_ms": round(1000 * seconds, 1)}


def _place(error: Exception) -> str:
    """Which mistake, and where; its words may quote the file."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    ours = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if Path(frame.filename).is_relative_to(ROOT)
    ]
    frame = ours[-1] if ours else last
    return f"{type(error).__name__} at {Path(frame.filename).name}:{frame.lineno}"
