"""Overlays and Secondary Captures: drawn when a file is scored, and kept under its digest.

A row's number is known when the table is; what was drawn takes its final name then.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

import numpy as np

from imaging.errors import ImagingError
from imaging.overlay import encode, overlay
from models.card import ModelCard
from models.classifier import Classifier, Prediction
from service.batch.decoded import Decoded
from service.batch.job import POSITIVE, TOP, Job, Row
from service.batch.places import Remote, is_remote
from service.remarks import remarks

OVERLAY_SIDE = 1024
"""Longest side of an overlay, in pixels: enough to look at, and small enough to keep thousands."""

OVERLAY, CAPTURE = ".png", ".dcm"

NO_CAPTURE = "no Secondary Capture"
"""What a row says in these words where none could be made."""


def explained(row: Row, job: Job, card: ModelCard) -> list[str]:
    """The labels of a row that are drawn, as the row's own numbers have it."""
    if job.draw == TOP:
        return [row["label"]]
    if isinstance(job.draw, Mapping):
        return list(job.draw.get(row["sha256"], ()))
    if job.draw == POSITIVE:
        return [one for one in card.labels if card.found(one, row[f"p_{one}"])]
    return list(job.draw)


def endings(row: Row, job: Job, card: ModelCard) -> list[str]:
    """What was kept for a row: each name's part behind the digest."""
    if row["status"] != "ok":
        return []
    captured = row["sop_instance_uid"] and NO_CAPTURE not in (row.get("error") or "")
    kinds = [OVERLAY] * job.overlays + [CAPTURE] * bool(job.captures and captured)
    return [drawn_as(one, kind, job) for one in explained(row, job, card) for kind in kinds]


def keep_evidence(
    one: Decoded, row: Row, prediction: Prediction, classifier: Classifier, job: Job
) -> str | None:
    """Draw what the job asks for, and keep it.

    Args:
        one: The file, with its picture.
        row: Its row so far, with its probabilities.
        prediction: The model's opinion of it.
        classifier: The model.
        job: What to draw.

    Returns:
        Why there is no Secondary Capture where one was asked for.

    Raises:
        OSError: It cannot be written.
    """
    assert one.image
    picture, missing = one.image.pixels, None
    if one.data is not None and not row["sop_instance_uid"]:
        missing = f"{NO_CAPTURE}: the file has no valid SOPInstanceUID"
    for label in explained(row, job, classifier.card):
        heatmap, peak = prediction.heatmap(label, picture.shape[:2])
        notes = remarks(prediction, label, classifier.card, forced=one.forced is not None)
        drawn = overlay(picture, heatmap, peak=peak, label=label, notes=notes)
        if job.overlays:
            keep(job.kept, row["sha256"] + drawn_as(label, OVERLAY, job), encode(drawn))
        if one.data is not None and not missing:
            made = _capture(drawn, label, one, classifier.card, job)
            if isinstance(made, str):
                missing = f"{NO_CAPTURE}: {made}"
            else:
                keep(job.kept, row["sha256"] + drawn_as(label, CAPTURE, job), made)
    return missing


def keep(folder: str, name: str, content: bytes) -> None:
    """Write a file that is there completely or not at all; nothing where no folder keeps it."""
    if not folder:
        return
    if is_remote(folder):
        (Remote(folder) / name).write_bytes(content)
        return
    temporary = Path(folder, f".{name}.{os.getpid()}")
    temporary.write_bytes(content)
    temporary.replace(Path(folder, name))


def _capture(drawn: np.ndarray, label: str, one: Decoded, card: ModelCard, job: Job) -> bytes | str:
    """The very file that /explain would answer with; or why there is none."""
    # Here and not above: it needs highdicom, and few jobs need it.
    from service.options import ExplainOptions
    from service.secondary_capture import secondary_capture

    assert one.data
    assert one.image
    try:
        return secondary_capture(
            one.data,
            drawn,
            [label],
            card=card,
            facts=one.image.facts,
            frame=job.frame or 1,
            look=ExplainOptions(frame=job.frame, max_side=OVERLAY_SIDE).look,
        )
    except ImagingError as error:
        return error.problem


def drawn_as(label: str, kind: str, job: Job) -> str:
    """What the name of a picture says behind the digest."""
    return kind if job.draw == TOP else f"-{quote(label, safe=' ')}{kind}"
