"""A folder of pictures and of what only looks like pictures, and a model that answers at once."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from service.batch.scorer import Job
from tests.models_factory import square_model


def write_picture(path: Path, *, bright: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((64, 48), np.uint8)
    pixels[8:24, 8:24] = 255 * bright
    cv2.imwrite(str(path), pixels)


@pytest.fixture
def films(tmp_path: Path) -> Path:
    folder = tmp_path / "films"
    write_picture(folder / "a.png", bright=True)
    write_picture(folder / "a" / "inner.png", bright=False)
    write_picture(folder / "a-b.jpg", bright=True)
    write_picture(folder / ".hidden" / "film.png", bright=True)
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


@pytest.fixture
def models(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    square_model(folder)
    return folder


@pytest.fixture
def job(films: Path, models: Path) -> Job:
    return Job(folder=films, models=models, model="square")
