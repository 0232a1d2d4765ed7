"""A folder in, a table out."""

import csv
import dataclasses
import hashlib
import re
from pathlib import Path

import numpy as np
import pytest

from models.card import Accepts
from models.errors import ModelNotFound
from service.batch import folder as folder_module
from service.batch.folder import score_folder
from service.batch.scorer import Job
from tests.batch.conftest import FILES, write_picture
from tests.factories import make_dicom, make_film
from tests.models_factory import square_model


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_table_has_the_documented_columns_and_one_row_per_file(job: Job, tmp_path: Path):
    out = tmp_path / "scores.csv"

    counts = score_folder(job, out, workers=0)

    assert out.read_text().splitlines()[0] == (
        "file,status,error_code,error,label,probability,p_dark,p_square"
    )
    rows = read_rows(out)
    assert [row["file"] for row in rows] == FILES
    assert counts == {"ok": 4, "error": 3, "forced": 0}


def test_a_scored_file_has_a_label_and_a_bad_one_a_reason(job: Job, tmp_path: Path):
    out = tmp_path / "scores.csv"

    score_folder(job, out, workers=0)

    rows = {row["file"]: row for row in read_rows(out)}
    bright, dark = rows["a.png"], rows["a/inner.png"]
    assert (bright["label"], dark["label"]) == ("square", "dark")
    assert bright["probability"] == bright["p_square"]
    assert float(bright["p_dark"]) + float(bright["p_square"]) == pytest.approx(1, abs=2e-6)
    assert re.fullmatch(r"0\.\d{1,6}", bright["probability"])
    for name in ["B/empty", "B/truncated.png", "notes, with a comma.txt"]:
        row = rows[name]
        assert row["status"] == "error"
        assert row["error_code"] == "unreadable"
        assert row["error"]
        assert row["label"] == row["probability"] == row["p_square"] == ""


def test_one_worker_and_two_write_the_same_bytes(job: Job, tmp_path: Path):
    tables = [tmp_path / f"{workers}.csv" for workers in (1, 2)]

    for workers, out in enumerate(tables, start=1):
        score_folder(job, out, workers=workers)

    assert tables[0].read_bytes() == tables[1].read_bytes()


def test_a_run_that_fails_leaves_nothing_and_spoils_nothing(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    out = tmp_path / "new" / "scores.csv"
    out.parent.mkdir()
    out.write_text("of last week")

    def two_rows_and_a_failure(*_: object, **__: object):
        yield {"file": "a", "status": "ok"}
        assert len(list(out.parent.iterdir())) == 2
        raise KeyboardInterrupt

    monkeypatch.setattr(folder_module, "score_files", two_rows_and_a_failure)

    with pytest.raises(KeyboardInterrupt):
        score_folder(job, out, workers=0)

    assert out.read_text() == "of last week"
    assert list(out.parent.iterdir()) == [out]


def test_what_a_run_writes_is_not_scored_by_the_next(job: Job, films: Path):
    out = films / "scores.csv"
    job = dataclasses.replace(job, overlays=films / "a" / "overlays")

    for _ in range(2):
        score_folder(job, out, workers=0)

    assert [row["file"] for row in read_rows(out)] == FILES


def test_an_empty_folder_gives_a_header(job: Job, tmp_path: Path):
    empty = tmp_path / "empty"
    empty.mkdir()
    out = tmp_path / "scores.csv"

    counts = score_folder(dataclasses.replace(job, folder=empty), out, workers=2)

    assert not counts.total()
    assert len(out.read_text().splitlines()) == 1


def test_overlays_are_named_by_row_and_digest_and_never_like_the_file(job: Job, tmp_path: Path):
    overlays = tmp_path / "overlays"

    score_folder(dataclasses.replace(job, overlays=overlays), tmp_path / "s.csv", workers=1)

    expected = {
        f"{number:06d}-{hashlib.sha256((job.folder / file).read_bytes()).hexdigest()[:8]}.png"
        for number, file in enumerate(FILES, start=1)
        if file.endswith(("film.png", "a-b.jpg", "a.png", "inner.png"))
    }
    assert {path.name for path in overlays.iterdir()} == expected
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in overlays.iterdir())


def test_a_name_that_is_no_utf8_has_its_row(job: Job, films: Path, tmp_path: Path):
    strange = films / "z\udcff.png"
    write_picture(films / "z.png", bright=True)
    (films / "z.png").rename(strange)
    out = tmp_path / "scores.csv"

    score_folder(job, out, workers=1)

    last = read_rows(out)[-1]
    assert (last["file"], last["status"]) == ("z\\udcff.png", "ok")


def test_a_model_that_is_not_there_stops_before_anything_is_written(job: Job, tmp_path: Path):
    with pytest.raises(ModelNotFound, match="there are square"):
        score_folder(dataclasses.replace(job, model="knee"), tmp_path / "s.csv", workers=1)

    assert not (tmp_path / "s.csv").exists()


@pytest.fixture
def knee(job: Job, tmp_path: Path) -> Job:
    """A folder with one film, of a knee, and a model of chests."""
    folder = tmp_path / "knees"
    folder.mkdir()
    knee = make_dicom(make_film(), BodyPartExamined="KNEE", PatientName="Canary^Patient")
    knee.save_as(folder / "knee.dcm", enforce_file_format=True)
    square_model(job.models, "chest", accepts=Accepts(modalities=("DX",), body_parts=("CHEST",)))
    return dataclasses.replace(job, folder=folder, model="chest")


def test_a_file_the_model_was_not_made_for_is_an_error(knee: Job, tmp_path: Path):
    score_folder(knee, tmp_path / "s.csv", workers=0)

    [row] = read_rows(tmp_path / "s.csv")
    assert (row["status"], row["error_code"], row["label"]) == ("error", "not_suitable", "")
    assert "body part is KNEE, expected CHEST" in row["error"]


def test_a_forced_file_is_scored_and_its_row_says_what_was_overridden(knee: Job, tmp_path: Path):
    counts = score_folder(dataclasses.replace(knee, force=True), tmp_path / "s.csv", workers=0)

    [row] = read_rows(tmp_path / "s.csv")
    assert (row["status"], row["error_code"]) == ("ok", "forced")
    assert row["error"] == "body part is KNEE, expected CHEST"
    assert row["label"]
    assert counts == {"ok": 1, "forced": 1}


def test_a_frame_is_chosen_and_a_missing_one_is_an_error(knee: Job, tmp_path: Path):
    loop = make_dicom(np.stack([make_film(), make_film(seed=1)]), frames=2)
    loop.save_as(knee.folder / "knee.dcm", enforce_file_format=True)
    codes = {}

    for frame in (None, 1, 2, 3):
        score_folder(dataclasses.replace(knee, frame=frame), tmp_path / "s.csv", workers=0)
        [row] = read_rows(tmp_path / "s.csv")
        codes[frame] = row["error_code"] or row["status"]

    assert codes == {None: "unsupported", 1: "ok", 2: "ok", 3: "bad_option"}
