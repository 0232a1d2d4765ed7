"""`care score`, as a person types it."""

import csv
import json
import resource
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner, Result

from cli.main import app
from service.batch.local import Local
from tests.factories import make_dicom, make_film
from tests.models_factory import square_model


def make_folder(tmp_path: Path) -> Path:
    square_model(tmp_path / "models")
    folder = tmp_path / "films"
    folder.mkdir()
    cv2.imwrite(str(folder / "good.png"), np.full((32, 32), 200, np.uint8))
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_folder(tmp_path)


def care_score(folder: Path, *options: str, model: str = "square") -> Result:
    models, out = folder.parent / "models", folder.parent / "scores.csv"
    arguments = ["score", folder, "--model", model, "--models", models, "--out", out]
    return CliRunner().invoke(app, [*map(str, arguments), "--workers", "0", *options])


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder.parent / "scores.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_folder_becomes_a_table(folder: Path):
    result = care_score(folder)

    assert result.exit_code == 0
    assert [row["status"] for row in rows(folder)] == ["ok"]
    assert "1 file: 1 scored, 0 errors" in result.stderr


def test_a_bad_file_is_no_failure_unless_asked(folder: Path):
    (folder / "bad.dcm").write_text("no picture")

    assert care_score(folder).exit_code == 0
    assert care_score(folder, "--fail-on-error").exit_code == 1
    assert [row["status"] for row in rows(folder)] == ["error", "ok"]


def test_an_empty_folder_gives_a_header_and_a_word(folder: Path):
    (folder / "good.png").unlink()

    result = care_score(folder)

    assert result.exit_code == 0
    assert rows(folder) == []
    assert "no files" in result.stderr


def test_overlays_appear_in_the_folder_asked_for(folder: Path):
    overlays = folder.parent / "overlays"

    assert care_score(folder, "--overlays", str(overlays)).exit_code == 0
    assert [path.name[:7] for path in overlays.iterdir()] == ["000001-"]


def test_with_names_overlays_are_named_like_their_files(folder: Path):
    overlays = folder.parent / "overlays"

    assert care_score(folder, "--overlays", str(overlays), "--names").exit_code == 0
    assert [path.name for path in overlays.iterdir()] == ["000001-good.png.png"]


def test_what_is_asked_for_is_what_is_done_and_recorded(folder: Path):
    asked = ["--frame", "1", "--force", "--batch-size", "3", "--exclude", "view=lateral"]
    asked += ["--include", "modality=dx", "--include", "modality=CR"]
    asked += ["--overlay-for", "dark,square", "--overlays", str(folder.parent / "overlays")]

    result = care_score(folder, *asked)

    assert result.exit_code == 0
    record = json.loads((folder.parent / "scores.csv.run.json").read_text())
    expected = {"frame": 1, "force": True, "batch": 3, "draw": ["dark", "square"]}
    expected |= {"include": {"modality": ["CR", "DX"]}, "exclude": {"view": ["LATERAL"]}}
    assert record["options"].items() >= (expected | {"overlays": True, "captures": False}).items()


def test_a_file_may_take_as_long_as_one_allows(folder: Path, monkeypatch: pytest.MonkeyPatch):
    allowed = []
    monkeypatch.setattr(
        "service.batch.local.Local",
        lambda seconds, **more: allowed.append(seconds) or Local(seconds=seconds, **more),
    )

    assert care_score(folder, "--timeout", "7").exit_code == 0
    assert allowed == [7]


def test_a_summary_appears_where_asked_for_and_is_what_one_is_told_of(folder: Path):
    summary = folder.parent / "pages" / "summary.html"

    result = care_score(folder, "--summary", str(summary))

    assert result.exit_code == 0
    assert f"see {summary}" in result.stderr
    assert "Scores of 1 file" in summary.read_text()


def test_the_table_makes_its_own_folder(folder: Path):
    out = folder.parent / "results" / "today" / "scores.csv"

    assert care_score(folder, "--out", str(out)).exit_code == 0
    assert out.is_file()


def test_quiet_says_nothing_and_else_only_counts(folder: Path):
    assert care_score(folder, "--quiet").stderr == ""
    assert care_score(folder).stderr.count("\n") == 1


def test_skipped_files_are_counted_and_are_no_errors(folder: Path):
    result = care_score(folder, "--include", "modality=DX,CR", "--fail-on-error")

    assert result.exit_code == 0
    assert "1 file: 0 scored, 1 skipped, 0 errors" in result.stderr
    assert [row["error_code"] for row in rows(folder)] == ["excluded"]


def test_several_sources_and_a_list_make_one_table(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(folder.parent)
    (folder.parent / "list.txt").write_text("films/good.png\nfilms/gone.png\n")

    assert care_score(folder, "list.txt").exit_code == 0

    assert [row["file"] for row in rows(folder)] == [
        f"{folder}/good.png",
        "films/good.png",
        "films/gone.png",
    ]


def test_a_mistake_of_ours_is_told_and_fails_the_run_that_wrote_the_table(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    def stumble(*_: object) -> None:
        raise ZeroDivisionError("Canary^Patient")

    monkeypatch.setattr("imaging.preprocessing.Preprocessing.__call__", stumble)

    result = care_score(folder)

    assert result.exit_code == 1
    assert "1 file met a mistake of this program" in result.stderr
    assert "Canary" not in result.stderr
    assert [row["error_code"] for row in rows(folder)] == ["internal_error"]


def test_captures_appear_in_the_folder_asked_for(folder: Path):
    film = make_dicom(make_film(), StudyInstanceUID="1.2.3", PatientName="A^B", PatientID="1")
    film.save_as(folder / "film.dcm", enforce_file_format=True)
    captures = folder.parent / "captures"

    assert care_score(folder, "--dicom-out", str(captures)).exit_code == 0
    assert [path.name[:7] for path in captures.iterdir()] == ["000001-"]
    assert [row["error_code"] for row in rows(folder)] == ["", ""]  # of a PNG none is asked for


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--model", "knee"], "no model 'knee'; there are square"),
        (["--out", "good.png/scores.csv"], "good.png: "),
        (["--out", "."], "is a directory"),
        (["--models", "missing"], "does not exist"),
        (["--out", "scores.xlsx"], "expected a name that ends in .csv, .parquet, .jsonl"),
        (["--overlay-for", "cat", "--overlays", "o"], "no label cat; square knows dark, square"),
        (["--summary", "summary.pdf"], "expected a file's name that ends in .html, .htm"),
        (["--include", "patient=X"], "--include patient=X: expected modality or view or sop_class"),
        (["--exclude", "view"], "--exclude view: expected"),
        (["--overlay-for", "positive"], "--overlay-for: nothing is drawn without --overlays"),
        (["--timeout", "0"], "--timeout"),
        (["--batch-size", "0"], "--batch-size"),
        (["--engine", "abacus"], "--engine"),
        (["--provider", "cuda"], "is run by cpu, expected cuda"),
        (["gone.dcm"], "gone.dcm: No such file or directory"),
        (["*.dcm"], "*.dcm: nothing matches"),
        (["--workers", "-1"], "--workers"),
        (["--frame", "0"], "--frame"),
    ],
)
def test_a_wrong_option_ends_in_one_line_and_exit_code_2(
    folder: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], problem: str
):
    monkeypatch.chdir(folder)

    result = care_score(folder, *options)

    assert result.exit_code == 2
    assert problem in result.stderr
    assert "Traceback" not in result.stderr


def test_a_folder_that_is_not_there_ends_in_exit_code_2(folder: Path):
    (folder / "good.png").unlink()
    folder.rmdir()

    result = care_score(folder)

    assert result.exit_code == 2
    assert "No such file or directory" in result.stderr


@pytest.mark.parametrize("kilobytes", [0, 4, 12, 20, 24])
def test_a_disk_full_from_the_start_ends_in_one_line_and_exit_code_2(folder: Path, kilobytes: int):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (kilobytes * 1024, before[1]))
    try:
        result = care_score(folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)

    assert result.exit_code == 2
    assert "the same command goes on from there" in result.stderr
    assert "Traceback" not in result.stderr


def test_overlays_never_go_among_the_files_that_are_scored(folder: Path):
    assert care_score(folder, "--overlays", str(folder)).exit_code == 2


def test_a_stopped_run_says_so_and_leaves_no_table(folder: Path, monkeypatch: pytest.MonkeyPatch):
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("service.batch.scorer.Scorer.score", stop)

    result = care_score(folder)

    assert result.exit_code == 130
    assert "the same command goes on from there" in result.stderr
    assert not (folder.parent / "scores.csv").exists()
