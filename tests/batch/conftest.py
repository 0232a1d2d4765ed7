"""A folder of pictures and of what only looks like pictures, and a model that answers at once."""

import csv
import hashlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from service.batch.job import Job
from service.batch.local import Local
from service.batch.outputs import Outputs
from service.batch.run import Counts, score_sources
from tests.models_factory import square_model

HERE = Local(workers=0, seconds=60)
"""The engine that needs no other process."""


def write_picture(path: Path, *, bright: bool, size: int = 64) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((size, 48), np.uint8)
    pixels[8:24, 8:24] = 255 * bright
    cv2.imwrite(str(path), pixels)


def score(
    source: Path | str | list[str],
    job: Job,
    out: Path,
    engine: Local = HERE,
    *,
    overlays: Path | None = None,
    captures: Path | None = None,
    summary: Path | None = None,
    names: bool = False,
) -> Counts:
    """What `care score` does, in few words."""
    sources = source if isinstance(source, list) else [str(source)]
    outputs = Outputs(table=out, overlays=overlays, captures=captures, summary=summary, names=names)
    return score_sources(sources, job, outputs, engine)


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def timeless(path: Path) -> list[str]:
    """A table's lines without their durations, sorted."""
    return sorted(line.rpartition(",")[0] for line in path.read_text("utf-8").splitlines())


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def films(tmp_path: Path) -> Path:
    folder = tmp_path / "films"
    write_picture(folder / "a.png", bright=True)
    write_picture(folder / "a" / "inner.png", bright=False)
    write_picture(folder / "a-b.jpg", bright=True)
    write_picture(folder / ".hidden" / "film.png", bright=True, size=80)
    (folder / "B").mkdir()
    (folder / "B" / "empty").touch()
    (folder / "B" / "truncated.png").write_bytes((folder / "a.png").read_bytes()[:60])
    (folder / "notes, with a comma.txt").write_text("no picture")
    return folder


FILES = [
    ".hidden/film.png",
    "B/empty",
    "B/truncated.png",
    "a-b.jpg",
    "a.png",
    "a/inner.png",
    "notes, with a comma.txt",
]
"""What `films` holds, in path order."""

SCORED = [FILES[0], *FILES[3:6]]
"""Those of them that are pictures."""


@pytest.fixture
def models(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    square_model(folder)
    return folder


@pytest.fixture
def job(models: Path) -> Job:
    return Job(models=models, model="square")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "scores.csv"
