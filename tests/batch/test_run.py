"""Sources in, a table out."""

import csv
import dataclasses
import json
import os
import re
import stat
import zipfile
from pathlib import Path

import numpy as np
import pytest
from pyarrow import parquet

from models.card import Accepts
from models.errors import BrokenModel, ModelNotFound
from service.batch.errors import BatchError
from service.batch.files import File, read
from service.batch.job import Job, columns
from service.batch.local import Local
from service.batch.table import read_table
from tests.batch.conftest import FILES, SCORED, read_rows, score, sha256, timeless, write_picture
from tests.factories import make_dicom, make_film
from tests.models_factory import square_model

HEADER = (
    "file,status,error_code,error,label,probability,p_dark,p_square,sha256,sop_instance_uid,"
    "series_instance_uid,study_instance_uid,modality,in_distribution,model_sha256,options_sha256,"
    "duration_ms"
)


def test_the_table_has_the_documented_columns_and_one_row_per_file(films, job: Job, out: Path):
    counts = score(films, job, out)

    assert out.read_text().splitlines()[0] == HEADER
    assert [row["file"] for row in read_rows(out)] == FILES
    assert counts.status == {"ok": 4, "error": 3}


def test_a_scored_file_has_a_label_and_a_bad_one_a_reason(films: Path, job: Job, out: Path):
    score(films, job, out)

    rows = {row["file"]: row for row in read_rows(out)}
    bright, dark = rows["a.png"], rows["a/inner.png"]
    assert (bright["label"], dark["label"]) == ("square", "dark")
    assert bright["probability"] == bright["p_square"]
    assert float(bright["p_dark"]) + float(bright["p_square"]) == pytest.approx(1, abs=2e-6)
    assert re.fullmatch(r"0\.\d{1,6}", bright["probability"])
    for name in ["B/empty", "B/truncated.png", "notes, with a comma.txt"]:
        row = rows[name]
        assert (row["status"], row["error_code"]) == ("error", "unreadable")
        assert row["error"]
        assert row["label"] == row["probability"] == row["p_square"] == ""
    for name, row in rows.items():
        assert row["sha256"] == sha256(films / name)
        assert float(row["duration_ms"]) >= 0


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("central", [False, True])
@pytest.mark.parametrize("workers", [1, 2])
def test_who_does_it_and_in_what_batches_makes_no_difference(
    films: Path, job: Job, tmp_path: Path, workers: int, central: bool, batch: int
):
    job = dataclasses.replace(job, batch=batch)
    score(films, job, tmp_path / "here.csv")

    score(films, job, tmp_path / "pool.csv", Local(workers=workers, seconds=60, central=central))

    assert timeless(tmp_path / "pool.csv") == timeless(tmp_path / "here.csv")


def test_the_rows_are_the_same_in_every_kind_of_table(films: Path, job: Job, tmp_path: Path):
    tables = [tmp_path / f"scores{suffix}" for suffix in (".csv", ".parquet", ".jsonl", ".CSV")]
    for out in tables:
        score(films, job, out)
    kinds = columns(("dark", "square"))

    first, *others = [
        [{**row, "duration_ms": 0.0} for row in read_table(out, kinds)] for out in tables
    ]

    assert len(first) == len(FILES)
    assert others == [first, first, first]
    assert {name: type(first[0][name]) for name in ("file", "probability", "sha256")} == {
        "file": str,
        "probability": float,
        "sha256": str,
    }


def test_parquet_has_types(films: Path, job: Job, tmp_path: Path):
    score(films, job, tmp_path / "scores.parquet")

    table = parquet.read_table(tmp_path / "scores.parquet")

    types = dict(zip(table.schema.names, map(str, table.schema.types), strict=True))
    assert list(types) == HEADER.split(",")
    assert types["file"] == types["sha256"] == "string"
    assert types["probability"] == types["p_dark"] == types["duration_ms"] == "double"
    assert types["in_distribution"] == "bool"
    assert table.column("probability").null_count == 3


@pytest.mark.parametrize("name", ["scores", "scores.xlsx", "scores.parquet.gz"])
def test_a_table_of_another_suffix_is_refused_before_any_work(
    films: Path, job: Job, tmp_path: Path, name: str
):
    with pytest.raises(BatchError, match=r"\.csv, \.parquet, \.jsonl"):
        score(films, job, tmp_path / name)

    assert not list(tmp_path.glob(f"*{name}*"))


def test_what_a_run_writes_is_not_scored_by_the_next(films: Path, job: Job):
    job = dataclasses.replace(job, overlays=True)
    for _ in range(2):
        score(films, job, films / "scores.csv", overlays=films / "a" / "overlays")

    assert [row["file"] for row in read_rows(films / "scores.csv")] == FILES
    assert {path.name for path in films.iterdir()} == {
        *(name.partition("/")[0] for name in FILES),
        "scores.csv",
        "scores.csv.run.json",
    }


def test_an_empty_folder_gives_a_header(job: Job, tmp_path: Path, out: Path):
    (tmp_path / "empty").mkdir()

    counts = score(tmp_path / "empty", job, out, Local(workers=2, seconds=60))

    assert not counts.status.total()
    assert len(out.read_text().splitlines()) == 1


def test_a_name_that_is_no_utf8_has_its_row(films: Path, job: Job, tmp_path: Path):
    (films / "a.png").rename(films / "z\udcff.png")

    for out in (tmp_path / "s.csv", tmp_path / "s.parquet", tmp_path / "s.jsonl"):
        score(films, job, out, Local(workers=1, seconds=60))
        last = list(read_table(out, columns(("dark", "square"))))[-1]
        assert (last["file"], last["status"]) == ("z\\udcff.png", "ok")


def test_a_model_that_is_not_there_stops_before_anything_is_written(films, job, tmp_path: Path):
    before = sorted(tmp_path.iterdir())

    with pytest.raises(ModelNotFound, match="there are square"):
        score(films, dataclasses.replace(job, model="knee"), tmp_path / "s.csv")

    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("workers", [0, 1])
def test_a_model_that_cannot_be_loaded_leaves_nothing(films, job, tmp_path: Path, workers: int):
    (job.models / "square" / "model.onnx").write_bytes(b"no graph")
    before = sorted(tmp_path.iterdir())

    with pytest.raises(BrokenModel, match="digest"):
        score(films, job, tmp_path / "s.csv", Local(workers=workers, seconds=60))

    assert sorted(tmp_path.iterdir()) == before


def test_a_member_of_a_zip_may_be_no_larger_than_a_file(
    films: Path, job: Job, tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("imaging.reading.LARGEST_FILE", 10)
    with zipfile.ZipFile(tmp_path / "films.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.write(films / "a.png", "a.png")

    score(tmp_path / "films.zip", job, out)

    assert [row["error_code"] for row in read_rows(out)] == ["too_large"]


def test_members_of_a_zip_are_scored_as_the_files_they_are(films: Path, job: Job, tmp_path: Path):
    archive = tmp_path / "films.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for name in FILES:
            file.write(films / name, name)
    score(films, job, tmp_path / "folder.csv")

    score(archive, job, tmp_path / "zip.csv", Local(workers=2, seconds=60))

    assert timeless(tmp_path / "zip.csv") == timeless(tmp_path / "folder.csv")


def test_a_bad_member_of_a_zip_costs_one_row(films: Path, job: Job, tmp_path: Path, out: Path):
    picture = (films / "a.png").read_bytes()
    archive = tmp_path / "films.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("bomb", bytes(200_000_000))
        link = zipfile.ZipInfo("a link")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        file.writestr(link, "good")
        for name in ("damaged", "encrypted", "good", "packed strangely"):
            file.writestr(name, picture, zipfile.ZIP_STORED)
    data = bytearray(archive.read_bytes())
    data[data.index(picture) + len(picture) // 2] ^= 0xFF
    central = [match.start() for match in re.finditer(b"PK\x01\x02", data)]
    data[central[3] + 8] |= 1  # the flag
    data[central[5] + 10] = 99  # the method
    local = [match.start() for match in re.finditer(b"PK\x03\x04", data)]
    data[local[3] + 6] |= 1
    data[local[5] + 8] = 99
    archive.write_bytes(data)

    score(archive, job, out)

    rows = {row["file"]: row for row in read_rows(out)}
    assert {name: row["error_code"] or row["status"] for name, row in rows.items()} == {
        "a link": "unsupported",
        "bomb": "too_large",
        "damaged": "unreadable",
        "encrypted": "unsupported",
        "good": "ok",
        "packed strangely": "unsupported",
    }


def test_a_row_says_which_instance_it_is_about_and_nothing_of_the_patient(
    job: Job, tmp_path: Path, out: Path
):
    folder = tmp_path / "dicom"
    folder.mkdir()
    film = make_dicom(
        make_film(),
        StudyInstanceUID="1.2.3",
        SeriesInstanceUID="1.2.3.4",
        PatientName="Canary^Patient",
        PatientID="CANARY",
        StudyDate="19991231",
    )
    film.save_as(folder / "film.dcm", enforce_file_format=True)
    for number, uid in enumerate(["=HYPERLINK()", "1.2.03", "1." * 40 + "1", "1.2\\1.3"]):
        film.add_new("StudyInstanceUID", "UI", uid)
        film.Modality = "=1+1"
        film.save_as(folder / f"hostile-{number}.dcm", enforce_file_format=True)

    score(folder, job, out)

    good, *hostile = read_rows(out)
    assert good["sop_instance_uid"] == film.SOPInstanceUID
    assert (good["series_instance_uid"], good["study_instance_uid"]) == ("1.2.3.4", "1.2.3")
    assert good["modality"] == "DX"
    assert {row["study_instance_uid"] for row in hostile} == {""}
    assert {row["modality"] for row in hostile} == {"OTHER"}
    written = out.read_text() + out.with_name("scores.csv.run.json").read_text()
    assert not re.search("canary|19991231", written, re.IGNORECASE)


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
@pytest.mark.parametrize("force", [False, True])
def test_a_name_where_none_belongs_is_in_no_row(job: Job, tmp_path: Path, out: Path, force: bool):
    folder = tmp_path / "films"
    folder.mkdir()
    for keyword in ("Modality", "BodyPartExamined", "ViewPosition", "SOPClassUID"):
        film = make_dicom(make_film(), **{keyword: "CANARY^BIRDIE"})
        film.save_as(folder / f"{keyword}.dcm", enforce_file_format=True)
    suitable = Accepts(modalities=("DX",), body_parts=("CHEST",), views=("PA",))
    square_model(job.models, "chest", accepts=suitable)
    job = dataclasses.replace(job, model="chest", force=force)
    page = tmp_path / "summary.html"

    for wishes in ({}, {"include": {"sop_class": ("1.2",)}}, {"include": {"view": ("PA",)}}):
        score(folder, dataclasses.replace(job, **wishes), out, summary=page)

        errors = {Path(row["file"]).stem: row["error"] for row in read_rows(out)}
        assert not re.search("canary|birdie", out.read_text() + page.read_text(), re.IGNORECASE)
        out.unlink()

    assert errors["ViewPosition"] == "view is none of the known ones, included: PA"
    assert errors["BodyPartExamined"].endswith("is none of the known ones, expected CHEST")
    assert errors["Modality"].endswith("is none of the known ones, expected DX")


def test_the_record_says_how_the_table_was_made(films: Path, job: Job, out: Path, monkeypatch):
    monkeypatch.chdir(films.parent)
    job = dataclasses.replace(job, frame=1)

    score("films", job, out)

    record = json.loads(out.with_name("scores.csv.run.json").read_text())
    [row] = {(row["model_sha256"], row["options_sha256"]) for row in read_rows(out)}
    assert record["sources"] == [{"given": "films", "absolute": str(films)}]
    assert record["model"]["folder"] == str(job.models / "square")
    assert (record["model"]["sha256"], record["options_sha256"]) == row
    assert record["options"]["frame"] == 1
    assert record["columns"] == HEADER.split(",")
    assert record["counts"] == {"status": {"error": 3, "ok": 4}, "error_code": {"unreadable": 3}}
    assert record["versions"]["care-diagnosis"]


@pytest.fixture
def knee(job: Job, tmp_path: Path) -> tuple[Path, Job]:
    """A folder with one film, of a knee, and a model of chests."""
    folder = tmp_path / "knees"
    folder.mkdir()
    knee = make_dicom(make_film(), BodyPartExamined="KNEE", PatientName="Canary^Patient")
    knee.save_as(folder / "knee.dcm", enforce_file_format=True)
    square_model(job.models, "chest", accepts=Accepts(modalities=("DX",), body_parts=("CHEST",)))
    return folder, dataclasses.replace(job, model="chest")


def test_a_file_the_model_was_not_made_for_is_an_error(knee: tuple[Path, Job], out: Path):
    score(*knee, out)

    [row] = read_rows(out)
    assert (row["status"], row["error_code"], row["label"]) == ("error", "not_suitable", "")
    assert "body part is KNEE, expected CHEST" in row["error"]
    assert row["sop_instance_uid"]


def test_a_forced_file_is_scored_and_its_row_says_what_was_overridden(knee, out: Path):
    folder, job = knee

    counts = score(folder, dataclasses.replace(job, force=True), out)

    [row] = read_rows(out)
    assert (row["status"], row["error_code"]) == ("ok", "forced")
    assert row["error"] == "body part is KNEE, expected CHEST"
    assert row["label"]
    assert (counts.status, counts.error_code) == ({"ok": 1}, {"forced": 1})


def test_a_frame_is_chosen_and_a_missing_one_is_an_error(knee, out: Path):
    folder, job = knee
    loop = make_dicom(np.stack([make_film(), make_film(seed=1)]), frames=2)
    loop.save_as(folder / "knee.dcm", enforce_file_format=True)
    codes = {}

    for frame in (None, 1, 2, 3):
        score(folder, dataclasses.replace(job, frame=frame), out)
        [row] = read_rows(out)
        codes[frame] = row["error_code"] or row["status"]

    assert codes == {None: "unsupported", 1: "ok", 2: "ok", 3: "bad_option"}


def test_an_excluded_file_keeps_its_row_with_the_reason(job: Job, tmp_path: Path, out: Path):
    folder = tmp_path / "mixed"
    write_picture(folder / "photo.png", bright=True)
    for name, modality, view in [("ct", "CT", ""), ("pa", "DX", "PA"), ("lat", "DX", "LATERAL")]:
        film = make_dicom(make_film(), Modality=modality, ViewPosition=view)
        film.save_as(folder / f"{name}.dcm", enforce_file_format=True)
    report = make_dicom(make_film(), Modality="SR")
    del report.PixelData
    report.save_as(folder / "report.dcm", enforce_file_format=True)
    wishes = {"include": {"modality": ("DX", "CR")}, "exclude": {"view": ("LATERAL",)}}

    counts = score(folder, dataclasses.replace(job, **wishes), out)

    rows = {row["file"]: row for row in read_rows(out)}
    assert counts.status == {"ok": 1, "skipped": 4}
    assert rows["pa.dcm"]["status"] == "ok"
    assert {name: row["error"] for name, row in rows.items() if row["status"] == "skipped"} == {
        "ct.dcm": "modality is CT, included: DX, CR",
        "lat.dcm": "view is LATERAL, excluded",
        "photo.png": "modality is not stated, included: DX, CR",
        "report.dcm": "modality is SR, included: DX, CR",
    }
    assert {row["error_code"] for row in rows.values()} == {"", "excluded"}
    assert all(row["sha256"] for row in rows.values())


def test_a_picture_that_meets_a_mistake_of_ours_costs_one_row(
    films: Path, job: Job, out: Path, monkeypatch: pytest.MonkeyPatch
):
    from imaging.preprocessing import Preprocessing

    fit = Preprocessing.__call__

    def stumbles(self, picture):
        if picture.facts.kind == "jpeg":
            raise ZeroDivisionError("Canary^Patient")
        return fit(self, picture)

    monkeypatch.setattr(Preprocessing, "__call__", stumbles)

    counts = score(films, job, out)

    [row] = [row for row in read_rows(out) if row["error_code"] == "internal_error"]
    assert row["file"] == "a-b.jpg"
    assert "ZeroDivisionError at" in row["error"]
    assert "Canary" not in out.read_text()
    assert counts.status["ok"] == 3


def test_a_file_that_there_is_no_memory_for_is_a_row_and_is_tried_again(
    films: Path, job: Job, out: Path, monkeypatch: pytest.MonkeyPatch
):
    from imaging.preprocessing import Preprocessing

    def too_much(*_: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr(Preprocessing, "__call__", too_much)
        score(films, job, out)
    codes = {row["file"]: row["error_code"] for row in read_rows(out)}
    assert {name for name, code in codes.items() if code == "out_of_memory"} == set(SCORED)

    assert score(films, job, out).status["ok"] == len(SCORED)


def test_an_archive_that_was_written_anew_is_read_anew(job: Job, tmp_path: Path, out: Path):
    archive = tmp_path / "films.zip"
    for count in (1, 3):
        with zipfile.ZipFile(archive, "w") as file:
            for number in range(count):
                write_picture(tmp_path / "film.png", bright=bool(count % 2), size=60 + number)
                file.write(tmp_path / "film.png", f"{count - number}.png")
        score(archive, job, out)

        assert {row["status"] for row in read_rows(out)} == {"ok"}
        assert len({row["sha256"] for row in read_rows(out)}) == count


def test_an_archive_that_might_have_changed_unseen_is_opened_anew(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("service.batch.files.FINE_TICK", 10**15)
    archive = tmp_path / "films.zip"
    for content in (b"former", b"latter, and longer"):
        with zipfile.ZipFile(archive, "w") as file:
            file.writestr("film", content)

        assert read(File("film", str(archive), "film")) == content


def test_a_file_named_twice_is_a_row_once(films: Path, job: Job, out: Path, monkeypatch):
    monkeypatch.chdir(films)

    score(["a.png", "a", "a.png", "./a.png"], job, out)

    assert [row["file"] for row in read_rows(out)] == ["a.png", "a/inner.png", "./a.png"]


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is closed to root")
def test_a_file_that_may_not_be_read_is_a_row_and_is_tried_again(films, job: Job, out: Path):
    (films / "a.png").chmod(0)
    score(films, job, out)
    assert {row["error_code"] for row in read_rows(out)} == {"", "unreadable", "inaccessible"}

    (films / "a.png").chmod(0o600)
    score(films, job, out)

    assert {row["error_code"] for row in read_rows(out)} == {"", "unreadable"}


def test_scored_and_not_scored_together_are_all_there_is(films: Path, job: Job, out: Path):
    score(films, job, out)

    with out.open(newline="") as file:
        rows = {row["file"]: row["status"] for row in csv.DictReader(file)}
    assert {name for name, status in rows.items() if status == "ok"} == set(SCORED)
