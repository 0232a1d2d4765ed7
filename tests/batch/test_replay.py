"""A row of a table, worked out again: identical, or what differs, or why it cannot be tried."""

import csv
import dataclasses
import json
import re
import shutil
import zipfile
from pathlib import Path

import pytest

from models.card import Accepts
from models.errors import BrokenModel, ModelNotFound
from service.batch import replay as replaying
from service.batch.errors import BatchError
from service.batch.job import Job, columns
from service.batch.local import Local
from service.batch.replay import Replay, replay
from service.batch.table import read_table
from tests.batch.conftest import FILES, read_rows, score, write_picture
from tests.batch.traps import CRASH, trapped
from tests.factories import make_dicom, make_dicomdir, make_film
from tests.models_factory import square_model

IDENTICAL = Replay([], [])


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process; how the command does it is tested with the command."""
    monkeypatch.setattr(
        replaying, "Local", lambda workers, seconds: Local(workers=0, seconds=seconds)
    )


def record(out: Path) -> Path:
    return out.with_name(f"{out.name}.run.json")


def replayed(out: Path, count: int = len(FILES), **more) -> list[Replay]:
    return [replay(out, number, **more) for number in range(1, count + 1)]


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".jsonl"])
def test_every_row_of_every_kind_of_table_is_identical(films, job: Job, tmp_path: Path, suffix):
    out = tmp_path / f"scores{suffix}"
    score(films, job, out)

    assert replayed(out) == [IDENTICAL] * len(FILES)


def test_row_numbers_are_those_of_the_table(films: Path, job: Job, out: Path):
    score(films, job, out)
    number = FILES.index("a.png") + 1
    write_picture(films / "a.png", bright=False, size=90)

    for other in set(range(1, len(FILES) + 1)) - {number}:
        assert replay(out, other) == IDENTICAL
    with pytest.raises(BatchError, match=f"the file of row {number} has changed"):
        replay(out, number)


def test_a_row_deep_in_a_large_parquet_table_is_found(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("service.batch.table.BATCH", 2)
    monkeypatch.setattr("service.batch.table.ROW_GROUP", 4)
    folder, out = tmp_path / "many", tmp_path / "s.parquet"
    for number in range(11):
        write_picture(folder / f"{number:02}.png", bright=True, size=60 + number)
    score(folder, job, out)
    rows = list(read_table(out, {name: str for name in ()}))  # other columns: nothing
    assert rows == []

    assert replayed(out, 11) == [IDENTICAL] * 11
    with pytest.raises(BatchError, match="no row 12: the table has 11"):
        replay(out, 12)


def test_members_of_a_zip_are_replayed_and_never_the_files_beside_it(
    films: Path, job: Job, out: Path
):
    archive = films / "films.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for name in FILES:
            file.write(films / name, name)
        file.writestr("encrypted.png", (films / "a.png").read_bytes())
    data = bytearray(archive.read_bytes())
    data[data.rindex(b"PK\x01\x02") + 8] |= 1
    data[data.rindex(b"PK\x03\x04") + 6] |= 1
    archive.write_bytes(data)
    shutil.copy(films / "a.png", films / "encrypted.png")
    score(archive, job, out)
    assert read_rows(out)[-1]["error"] == "encrypted in its ZIP archive"

    assert replayed(out, len(FILES) + 1) == [IDENTICAL] * (len(FILES) + 1)


def test_no_name_is_a_formula_to_a_spreadsheet_and_every_one_is_found_again(
    job: Job, tmp_path: Path, out: Path
):
    names = ["=1+cmd|' /C calc'!A0", "'=1", "''-", "'plain", "+1", "-1", "@SUM(1)", "\t=1", "\r"]
    names += ["\n=1", "\uff1d1", "plain", "plain;=1", "plain\t=1", "'"]
    write_picture(picture := tmp_path / "film.png", bright=True)
    with zipfile.ZipFile(moved := tmp_path / "films.zip", "w") as archive:
        for name in names:
            archive.write(picture, name)
    job = dataclasses.replace(job, overlays=True)
    for _ in range(2):
        counts = score(moved, job, out, overlays=tmp_path / "overlays", names=True)

    assert counts.status == {"ok": len(names)}
    assert [row and row["file"] for row in read_table(out, columns(("dark", "square")))] == names
    shown = [row["file"] for row in read_rows(out)]
    assert shown == [name if re.match("'*(plain|$)", name) else f"'{name}" for name in names]
    for separator in ";\t":  # where commas separate nothing
        cells = csv.reader(out.read_text("utf-8").splitlines(keepends=True), delimiter=separator)
        assert not [cell for row in cells for cell in row if cell[:1] in ("=", "+", "-", "@")]
    moved = moved.rename(tmp_path / "moved.zip")
    assert replayed(out, len(names), source=str(moved)) == [IDENTICAL] * len(names)


def test_several_sources_lists_patterns_and_discs_are_found_from_anywhere(
    films: Path, job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "list.txt").write_text("films/a.png\nfilms/gone.png\n")
    film = make_dicom(make_film())
    (tmp_path / "disc").mkdir()
    film.save_as(tmp_path / "disc" / "F1", enforce_file_format=True)
    make_dicomdir(tmp_path / "disc" / "DICOMDIR", [("F1",), ("F2",)])
    (films / "a-b.jpg").rename(films / "z\udcff.jpg")
    (tmp_path / "elsewhere").mkdir()
    runs = [
        ["list.txt"],
        ["films/**/*.png"],
        ["disc/DICOMDIR"],
        ["films"],
        ["disc/DICOMDIR", "list.txt", "films", str(films / "a.png")],
    ]
    for number, sources in enumerate(runs):
        out = tmp_path / f"{number}.csv"
        monkeypatch.chdir(tmp_path)
        score(sources, job, out)
        monkeypatch.chdir(tmp_path / "elsewhere")
        assert replayed(out, len(read_rows(out))) == [IDENTICAL] * len(read_rows(out)), sources
        assert Path.cwd() == tmp_path / "elsewhere"


def test_rows_by_force_left_out_refused_and_not_captured_are_identical(
    job: Job, tmp_path: Path, out: Path
):
    folder = tmp_path / "films"
    folder.mkdir()
    accepts = Accepts(modalities=("DX",), body_parts=("CHEST",))
    square_model(job.models, "chest", accepts=accepts)
    for name, more in {
        "chest": {},
        "knee": {"BodyPartExamined": "KNEE", "PatientName": "Canary^Patient"},
        "side": {"ViewPosition": "LATERAL"},
        "nameless": {"SOPInstanceUID": ""},
    }.items():
        film = make_dicom(make_film(), StudyInstanceUID="1.2.3", **more)
        film.save_as(folder / name, enforce_file_format=True)
    job = dataclasses.replace(job, model="chest", exclude={"view": ("LATERAL",)})
    forced = dataclasses.replace(job, force=True, overlays=True, captures=True, draw=("dark",))
    seen = set()

    for one in (job, forced, dataclasses.replace(forced, batch=3, frame=1, draw="positive")):
        folders = {"overlays": tmp_path / "o", "captures": tmp_path / "c"} if one.force else {}
        score(folder, one, out, **folders)
        seen |= {row["error_code"] for row in read_rows(out)}
        before = sorted(tmp_path.rglob("*"))
        assert replayed(out, 4) == [IDENTICAL] * 4
        assert sorted(tmp_path.rglob("*")) == before

    assert seen == {"", "not_suitable", "excluded", "forced", "not_captured"}


def test_a_row_of_circumstance_differs_when_that_has_passed(films: Path, job: Job, out: Path):
    (films / "B" / "empty").write_bytes(CRASH)
    score(films, job, out, trapped(workers=1))
    number = FILES.index("B/empty") + 1
    assert read_rows(out)[number - 1]["error_code"] == "crashed"

    found = replay(out, number)

    assert {name: now for name, _, now in found.differences}["error_code"] == "unreadable"
    assert ("sha256", None) in {(name, was) for name, was, _ in found.differences}
    assert replay(out, 1) == IDENTICAL


def test_a_difference_is_shown_column_by_column(films: Path, job: Job, out: Path):
    score(films, job, out)
    number = FILES.index("a.png") + 1
    lines = out.read_text().splitlines()
    row = lines[number].split(",")
    row[5] = row[7] = "0.25"
    lines[number] = ",".join(row)
    out.write_text("\n".join(lines) + "\n")

    found = replay(out, number)

    assert [(name, was) for name, was, _ in found.differences] == [
        ("probability", 0.25),
        ("p_square", 0.25),
    ]
    assert all(now > 0.9 for _, _, now in found.differences)
    assert found.changes == []


def test_another_version_is_said_where_a_row_differs(films: Path, job: Job, out: Path):
    score(films, job, out)
    entries = json.loads(record(out).read_text())
    entries["versions"]["opencv-python"] = "4.0"
    record(out).write_text(json.dumps(entries))

    assert replay(out, 1) == IDENTICAL
    out.write_text(out.read_text().replace(",DX", ","))
    lines = out.read_text().splitlines()
    out.write_text(
        "\n".join([lines[0], *(line.replace(",square,", ",dark,") for line in lines[1:])])
    )
    found = replay(out, 1)

    assert [name for name, _, _ in found.differences] == ["label"]
    assert any(change.startswith("opencv-python was 4.0, is 5") for change in found.changes)


def test_a_moved_file_is_found_where_one_says(films: Path, job: Job, out: Path, tmp_path: Path):
    score(films, job, out)
    number = FILES.index("a/inner.png") + 1
    moved = tmp_path / "archive" / "2024"
    shutil.move(films, moved)
    with pytest.raises(BatchError, match=r"the source of row 6: .*; --source says where it is now"):
        replay(out, number)

    for source in (moved, moved.parent, moved / "a", moved / "a" / "inner.png"):
        assert replay(out, number, source=str(source)) == IDENTICAL
    packed = shutil.make_archive(str(tmp_path / "packed"), "zip", moved.parent)
    assert replay(out, number, source=packed) == IDENTICAL
    with pytest.raises(BatchError, match="has changed"):
        replay(out, number, source=str(moved / "a.png"))
    with pytest.raises(BatchError, match="not where it was"):
        replay(out, number, source=str(moved / "B"))
    with pytest.raises(BatchError, match="No such file"):
        replay(out, number, source="gone")


def test_a_moved_model_is_found_where_one_says(films: Path, job: Job, out: Path, tmp_path: Path):
    score(films, job, out)
    shutil.move(job.models, tmp_path / "moved")
    with pytest.raises(ModelNotFound, match="no model 'square'"):
        replay(out, 1)

    assert replay(out, 1, models=tmp_path / "moved") == IDENTICAL


def test_another_or_a_broken_model_is_refused_by_its_digest(films: Path, job: Job, out: Path):
    score(films, job, out)
    shutil.rmtree(job.models / "square")
    square_model(job.models, threshold=0.4)
    with pytest.raises(BatchError, match="row 1 was scored by the model with digest"):
        replay(out, 1)

    shutil.rmtree(job.models / "square")
    (square_model(job.models) / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(BrokenModel, match="digest"):
        replay(out, 1)


def test_a_record_that_is_gone_broken_or_that_of_another_table_is_said(
    films: Path, job: Job, out: Path
):
    score(films, job, out)
    entries = json.loads(record(out).read_text())
    for content, said in [
        (None, "is not there"),
        ("no JSON", "is no record"),
        ("[]", "is no record"),
        (json.dumps(entries | {"format": 2}), "is no record"),
        ('{"format": 1}', "is no record"),
        (json.dumps(entries | {"options_sha256": "0"}), "not that of this table"),
        (json.dumps(entries | {"columns": entries["columns"][:-1]}), "not that of this table"),
    ]:
        record(out).unlink(missing_ok=True)
        if content is not None:
            record(out).write_text(content)
        with pytest.raises(BatchError, match=said):
            replay(out, 1)


def test_a_damaged_row_is_said_and_costs_no_other(films: Path, job: Job, out: Path):
    (films / "Icon\r").touch()
    score(films, job, out)
    rows = read_rows(out)
    assert replayed(out, len(rows)) == [IDENTICAL] * len(rows)
    number = [row["file"] for row in rows].index("Icon\r") + 1
    whole = out.read_bytes()

    for damaged in (b"Icon\r", b"", b'"",1'):
        out.write_bytes(whole.replace(b'"Icon\r"', damaged))
        for other in set(range(1, len(rows) + 1)) - {number}:
            assert replay(out, other) == IDENTICAL
        with pytest.raises(BatchError, match=f"row {number} is damaged: expected 17 values"):
            replay(out, number)


def test_no_message_names_the_file(job: Job, tmp_path: Path, out: Path):
    folder = tmp_path / "films"
    write_picture(folder / "Canary.png", bright=True)
    write_picture(folder / "Canary two.png", bright=False)
    score(folder, job, out)
    write_picture(folder / "Canary.png", bright=False, size=90)
    (folder / "Canary two.png").unlink()

    for number in (1, 2):
        with pytest.raises(BatchError) as refused:
            replay(out, number)
        assert f"row {number}" in str(refused.value)
        assert "Canary" not in str(refused.value)
