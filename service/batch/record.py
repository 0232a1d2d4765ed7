"""How a table was made, in a file beside it."""

import json
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from models.card import ModelCard
from service.batch.job import Job, columns, digest, library_version

FORMAT = 1
"""Goes up when an entry changes its meaning."""

LIBRARIES = (
    "care-diagnosis",
    "numpy",
    "onnxruntime",
    "onnxruntime-gpu",
    "opencv-python",
    "pydicom",
    "pylibjpeg-openjpeg",
    "python-gdcm",
    "pyjpegls",
)
"""Whose versions a row may depend on."""


def record_path(out: Path) -> Path:
    """Where the record of a table is."""
    return out.with_name(f"{out.name}.run.json")


def record(sources: Sequence[str], job: Job, card: ModelCard, counts: dict[str, Any]) -> str:
    """The record as JSON; the same for the same run."""
    options = job.options(card)
    libraries = {name: found for name in LIBRARIES if (found := library_version(name))}
    entries: dict[str, Any] = {
        "format": FORMAT,
        "sources": [{"given": one, "absolute": str(Path(one).absolute())} for one in sources],
        "model": {
            "name": card.name,
            "version": card.version,
            "sha256": card.sha256,
            "folder": str((job.models / card.name).resolve()),
        },
        "options": options,
        "options_sha256": digest(options),
        "columns": list(columns(card.labels)),
        "counts": counts,
        "versions": {"python": platform.python_version(), **libraries},
    }
    return json.dumps(entries, indent=1) + "\n"
