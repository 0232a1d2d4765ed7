"""care boxes: make, fit, compare; make when no verb is said."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.main import app
from tests.lesion_factory import lesion_set
from training.data.tables import read_boxes


def care_boxes(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["boxes", *map(str, arguments)])
    return result.exit_code, result.output


@pytest.fixture(scope="module")
def planted(tmp_path_factory) -> Path:
    return lesion_set(tmp_path_factory.mktemp("planted"), counts={"disc": 10})


def test_boxes_are_made_whether_or_not_the_verb_is_said(planted, tmp_path):
    options = ("--data", planted, "--method", "frequency-tuned", "--workers", 0)

    for verb, name in (((), "a.csv"), (("make",), "b.csv")):
        code, said = care_boxes(*verb, *options, "--out", tmp_path / name)
        assert code == 0, said
        assert "boxes for 10 pictures" in said

    assert (tmp_path / "a.csv").read_text() == (tmp_path / "b.csv").read_text()
    assert len(read_boxes(tmp_path / "a.csv")) == 10


def test_a_list_with_columns_of_other_names_is_read(planted, tmp_path):
    rows = (planted / "labels.csv").read_text().replace("image,label,", "Datei,Diagnose,", 1)
    (planted / "liste.csv").write_text(rows)

    code, said = care_boxes(
        *("--data", planted, "--out", tmp_path / "a.csv", "--method", "center", "--workers", 0),
        *("--manifest", "liste.csv", "--image-column", "Datei", "--label-column", "Diagnose"),
    )

    assert code == 0, said
    assert len(read_boxes(tmp_path / "a.csv")) == 10


@pytest.mark.parametrize("option", ["--compare", "--except"])
def test_drawn_boxes_are_not_overwritten_by_those_compared_with_them(planted, tmp_path, option):
    drawn = tmp_path / "drawn.csv"
    drawn.write_bytes((planted / "boxes.csv").read_bytes())

    code, said = care_boxes("--data", planted, "--out", drawn, option, drawn, "--workers", 0)

    assert code == 2
    assert "would be overwritten" in said
    assert drawn.read_bytes() == (planted / "boxes.csv").read_bytes()


def test_a_sheet_of_another_kind_is_refused_before_boxes_are_made(planted, tmp_path):
    code, said = care_boxes(
        *("--data", planted, "--out", tmp_path / "a.csv", "--sheet", tmp_path / "s.pdf")
    )

    assert code == 2
    assert "s.pdf: a sheet is .html or .png" in said
    assert not list(tmp_path.iterdir())


def test_a_comparison_is_printed_written_and_drawn(planted, tmp_path):
    drawn = planted / "boxes.csv"

    code, said = care_boxes(
        *("--data", planted, "--out", tmp_path / "made.csv", "--method", "center"),
        *("--compare", drawn, "--report", tmp_path / "r" / "report.md"),
        *("--sheet", tmp_path / "sheet.html", "--workers", 0),
    )

    assert code == 0, said
    assert "| center | 10 |" in said
    assert "| center | 10 |" in (tmp_path / "r" / "report.md").read_text()
    assert (tmp_path / "sheet.html").read_text().count("<img") == 10
    assert "patient" not in said
    assert "mind where it goes" in said


def test_several_lists_are_compared_in_one_table(planted, tmp_path):
    for method in ("center", "frequency-tuned"):
        care_boxes(
            "--data",
            planted,
            "--method",
            method,
            "--out",
            tmp_path / f"{method}.csv",
            "--workers",
            0,
        )

    code, said = care_boxes(
        "compare", planted / "boxes.csv", *sorted(tmp_path.glob("*.csv")), "--data", planted
    )

    assert code == 0, said
    assert "| center | 10 |" in said
    assert "| frequency-tuned | 10 |" in said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--method", "wrong"), "care: method 'wrong': expected border"),
        (("--method", "segment"), "care: the method segment and a segmenter go together"),
        (("--report", "r.md"), "care: --report needs --compare"),
        (("--layout", "wrong"), "care: layout 'wrong': expected manifest, folders"),
        (("--manifest", "none.csv"), "No such file"),
        (("--most", "0"), "Invalid value for '--most'"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(planted, tmp_path, arguments, words):
    code, said = care_boxes(
        "--data", planted, "--out", tmp_path / "b.csv", "--workers", 0, *arguments
    )

    assert code == 2
    assert words in said
    assert "Traceback" not in said
    assert not (tmp_path / "b.csv").exists()


def test_a_broken_segmenter_is_refused_in_one_line(planted, tmp_path):
    (tmp_path / "m.onnx").write_bytes(b"nothing")

    code, said = care_boxes(
        *("--data", planted, "--out", tmp_path / "b.csv", "--method", "segment"),
        *("--segmenter", tmp_path / "m.onnx"),
    )

    assert code == 2
    assert "care: m.onnx: ONNX Runtime cannot load it" in said


def test_fit_wants_boxes_or_masks_and_not_both(planted, tmp_path):
    options = ("fit", "--data", planted, "--out", tmp_path / "m.onnx")

    for more in ((), ("--boxes", planted / "boxes.csv", "--masks", planted)):
        code, said = care_boxes(*options, *more)
        assert code == 2
        assert "either --boxes or --masks" in said


def test_a_few_drawn_boxes_become_boxes_for_all(planted, tmp_path):
    rows = (planted / "boxes.csv").read_text().splitlines(keepends=True)
    (tmp_path / "few.csv").write_text("".join(rows[:7]))
    model = tmp_path / "m.onnx"

    code, said = care_boxes(
        *("fit", "--data", planted, "--boxes", tmp_path / "few.csv", "--out", model),
        *("--size", 32, "--steps", 10, "--workers", 0),
    )
    assert code == 0, said
    assert "fitted to 6 pictures" in said

    code, said = care_boxes(
        *("--data", planted, "--method", "segment", "--segmenter", model, "--workers", 0),
        *("--out", tmp_path / "all.csv", "--compare", planted / "boxes.csv"),
        *("--except", tmp_path / "few.csv"),
    )
    assert code == 0, said
    assert "| segment | 4 |" in said
    assert len(read_boxes(tmp_path / "all.csv")) == 10
