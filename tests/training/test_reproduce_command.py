"""care reproduce on the command line; every grid runs through in the long test."""

import json
from collections import Counter
from pathlib import Path

import cv2
import pytest
from typer.testing import CliRunner

import training.fit
from cli.main import app
from tests.lesion_factory import lesion_recipes, lesion_run, lesion_set
from training.reproduce.command import Reproduction
from training.reproduce.grids import GRIDS

SMALL = ("stage1.epochs=1", "stage2.epochs=1", "sampler.epoch_pictures=18")


@pytest.fixture
def run(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return lesion_run(lesion_set(tmp_path))


def care(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, ["reproduce", *(str(argument) for argument in arguments)])
    assert result.exit_code == code, result.output
    return result.output


def small(run: Path) -> list[str]:
    settings = [word for setting in SMALL for word in ("--set", setting)]
    return [str(run), "--data", str(run.parent), *settings]


@pytest.mark.parametrize(
    "spelled", [("--seeds", 4, 5, 6), ("--seeds", 4, "--seeds", 5, "--seeds", 6)]
)
def test_seeds_are_named_in_one_go_or_one_by_one(run, monkeypatch, spelled):
    seen = []

    def note(table, base, seeds, places, choices):
        seen.append((table, tuple(seeds), choices.backbones))
        raise KeyboardInterrupt

    monkeypatch.setattr(Reproduction, "of", note)

    care("table2", run, *spelled, "--backbones", "resnet18", "vgg19", "--plan", code=130)
    care("table2", run, "--plan", code=130)

    assert seen == [
        ("table2", (4, 5, 6), ("resnet18", "vgg19")),
        ("table2", (0, 1, 2), ("resnet18", "resnet50", "resnet152", "vgg19")),
    ]


def test_a_sheet_of_patients_pictures_goes_where_the_user_says_or_nowhere(run):
    assert "--out" in care("figure2", *small(run), code=2)
    assert not (run.parent / "work").exists()


def test_figure_2_is_a_sheet_of_pictures_and_two_maps_each(run):
    told = care("figure2", *small(run), "--seeds", 0, "--out", "sheets/maps.png")

    sheet = cv2.imread("sheets/maps.png")
    assert sheet.shape == (12 * 64, 3 * 64, 3)  # a dozen pictures: plain, without, with
    plain, without, with_care = (sheet[:, 64 * n : 64 * (n + 1)] for n in range(3))
    assert (plain != without).any()
    assert (without != with_care).any()
    assert "mind where it goes" in told
    assert Path("work/results/figure2.md").read_text().startswith("# Activation maps")


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_every_table_runs_through_and_shares_what_it_can(run, monkeypatch):
    trained = []
    run_stage = training.fit.run_stage

    def counted(work) -> None:
        trained.append(work.stage.name)
        run_stage(work)

    monkeypatch.setattr(training.fit, "run_stage", counted)
    arguments = (*small(run), "--backbones", "resnet18", "mobilenet_v2", "--out", "maps.png")
    new = {  # trainings of the first and second stage that no table before has made
        "table1": (4, 8),
        "table2": (1, 2),  # ResNet-18 is table 1's
        "table3": (0, 4),  # scale 1 is
        "table4": (0, 4),  # alpha 0 and 0.5 are
        "figure2": (1, 2),  # one seed is
        "boxes": (0, 5),  # the middle, and four kinds of saliency
        # tau, lambda, head, all boxes without and with it, layer before; longer, uniform, larger
        "options": (3, 3 + 2 + 1 + 2 + 1 + 3 * 2),
    }
    assert {*new, "compare", "ablation_deep_pneumonia"} == set(GRIDS)
    for table, (firsts, seconds) in new.items():
        trained.clear()
        asked = (table, *arguments, "--seeds", 0, *([1] if table == "figure2" else []))
        assert "to do" in care(*asked, "--plan")
        assert not trained
        care(*asked)
        assert (trained.count("stage1"), trained.count("stage2")) == (firsts, seconds), table
        text = Path(f"work/results/{table}.md").read_text()
        assert "Every cell was run with every seed asked for." in text
        for path in Path("work/results").glob(f"{table}/*.json"):
            assert f"| {json.loads(path.read_text())['title']} | " in text
        Path(f"work/results/{table}.md").unlink()
        care(*asked, "--table")
        assert Path(f"work/results/{table}.md").read_text() == text
        assert " 0 to do" in care(*asked, "--plan")
    assert " ± " in Path("work/results/figure2.md").read_text()


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    ("table", "cells", "trained"),
    [
        # six losses, three methods, ProCo with CARE; CARE with the best may be CARE alone
        ("compare", 14, {"pretrain": {1}, "stage1": {10}, "stage2": {8, 9}, "crt": {1, 2}}),
        ("ablation_deep_pneumonia", 6, {"pretrain": {1}, "stage1": {6}}),
    ],
)
def test_methods_are_compared_and_taken_apart_in_one_go(run, monkeypatch, table, cells, trained):
    counts = Counter()
    run_stage = training.fit.run_stage

    def counted(work) -> None:
        counts[work.stage.name] += 1
        run_stage(work)

    monkeypatch.setattr(training.fit, "run_stage", counted)
    recipes = lesion_recipes(run.parent / "recipes")
    asked = (table, *small(run), "--set", "stage2.epochs=2", "--recipes", recipes, "--seeds", 0)
    planned = care(*asked, "--plan")
    assert f"{cells} cells: 0 done, {cells} to do" in planned
    assert not counts

    told = care(*asked)

    assert told.count("rare recall") == cells
    assert counts.keys() == trained.keys()
    assert all(counts[name] in expected for name, expected in trained.items()), counts
    page = Path(f"work/results/{table}.md")
    text = page.read_text()
    assert "Every cell was run with every seed asked for." in text
    [head, _, *rows] = [line.split("|") for line in text.splitlines() if line.startswith("|")][
        : 2 + cells
    ]
    time = [cell.strip() for cell in head].index("time")
    times = {row[1].strip(): float(row[time]) for row in rows}
    assert len(times) == cells
    assert times["cross-entropy" if table == "compare" else "without all: cross-entropy"] == 1
    assert min(times.values()) > 0
    if table == "compare":
        assert "## Chosen on validation" in text
    page.unlink()
    care(*asked, "--table")
    assert page.read_text() == text
    assert " 0 to do" in care(*asked, "--plan")
