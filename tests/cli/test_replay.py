"""`care replay`, as a person types it."""

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from cli.main import app
from tests.cli.test_score import care_score, make_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_folder(tmp_path)


def care_replay(folder: Path, *options: str) -> Result:
    table = folder.parent / "scores.csv"
    return CliRunner().invoke(app, ["replay", str(table), *options])


def test_a_row_is_identical(folder: Path):
    care_score(folder)

    result = care_replay(folder, "--row", "1")

    assert (result.exit_code, result.stdout) == (0, "row 1: identical\n")


def test_a_row_that_differs_is_shown_and_fails(folder: Path):
    care_score(folder)
    table = folder.parent / "scores.csv"
    table.write_text(table.read_text().replace(",ok,,,", ",ok,forced,knee,"))

    result = care_replay(folder, "--row", "1")

    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        "row 1: differs",
        "  error_code: forced in the table, now nothing",
        "  error: knee in the table, now nothing",
    ]


def test_what_has_moved_is_found_where_one_says(folder: Path):
    care_score(folder)
    moved = folder.parent / "moved"
    moved.mkdir()
    options = ["--source", str(folder.rename(moved / "films"))]
    options += ["--models", str((folder.parent / "models").rename(moved / "models"))]

    assert care_replay(folder, "--row", "1").exit_code == 2
    assert care_replay(folder, "--row", "1", *options).stdout == "row 1: identical\n"


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--row", "2"], "there is no row 2: the table has 1"),
        (["--row", "0"], "--row"),
        ([], "--row"),
        (["--row", "1", "--source", "gone"], "No such file"),
        (["--row", "1", "--models", "gone"], "does not exist"),
    ],
)
def test_what_cannot_be_tried_is_one_line_and_exit_code_2(
    folder: Path,
    options: list[str],
    problem: str,
):
    care_score(folder)

    result = care_replay(folder, *options)

    assert result.exit_code == 2
    assert problem in result.stderr
    assert "Traceback" not in result.stderr


def test_a_table_that_is_not_there_ends_in_exit_code_2(folder: Path):
    result = care_replay(folder, "--row", "1")

    assert result.exit_code == 2
    assert "is not there" in result.stderr
