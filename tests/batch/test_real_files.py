"""The real files of the project's data, if they are there."""

import csv
from pathlib import Path

import pytest

from models.card import Accepts
from service.batch.job import Job
from service.batch.local import Local
from tests.batch.conftest import score
from tests.models_factory import square_model

CHEST = Accepts(modalities=("CR", "DX"), body_parts=("CHEST", "THORAX", "LUNG"), views=("PA", "AP"))


@pytest.fixture(scope="module")
def table(care_data: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, str]]:
    folder = tmp_path_factory.mktemp("real")
    square_model(folder / "models", "chest", accepts=CHEST)
    job = Job(models=folder / "models", model="chest")
    engine = Local(workers=2, seconds=60)
    score(care_data / "dicom" / "files", job, folder / "scores.csv", engine)
    with (folder / "scores.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def index(care_data: Path) -> dict[str, dict[str, str]]:
    with (care_data / "dicom" / "index.csv").open(newline="") as file:
        return {row["file"]: row for row in csv.DictReader(file)}


def test_each_real_file_has_exactly_one_row(table, care_data: Path):
    files = sorted(path.name for path in (care_data / "dicom" / "files").iterdir())

    assert [row["file"] for row in table] == files
    assert all(row["error_code"] and row["error"] for row in table if row["status"] == "error")


def test_chest_films_are_scored_and_nothing_else_is(table, index):
    scored = {row["file"] for row in table if row["status"] == "ok"}

    for file in scored:
        entry = index[file]
        assert entry["modality"] not in ("CT", "MR", "US", "SEG", "NM", "SR"), file
        assert "EXTREMITY" not in entry["body"].upper(), file
    assert "dicom-test-files__RG1_JLSN.dcm" in scored


def test_no_crash_and_no_mistake_is_hidden_in_a_row(table):
    codes = {row["error_code"] for row in table}

    assert codes <= {"", "unreadable", "unsupported", "too_large", "not_suitable"}
