"""The scripts of the evidence: which pictures take part, and what is drawn of the results."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from scripts.evidence_plots import draw, main, pairs, summary, words
from scripts.subset_lists import draw as draw_part
from tests.training.test_evaluate import results
from tests.training.tiny import sample, sample_list
from training.compare import Difference
from training.config import TrainingRun
from training.reproduce.cells import to_plain
from training.reproduce.comparison import recipe
from training.reproduce.rows import RECIPES, Choices

EVIDENCE = Path(__file__).parent.parent / "evidence"


@pytest.mark.parametrize("method", ["deep-pneumonia", "proco", "ecl"])
def test_a_method_is_compared_by_its_own_run_but_for_a_shorter_pre_training(method):
    run = TrainingRun.load(EVIDENCE / "ham10000.toml", settings=("data.root=DATA",))
    own = recipe(method, run, Choices(recipes=RECIPES))
    compared = recipe(method, run, Choices(recipes=EVIDENCE / "recipes"))

    if method == "deep-pneumonia":
        assert compared["pretraining"].epochs < own["pretraining"].epochs
        compared["pretraining"] = replace(compared["pretraining"], epochs=own["pretraining"].epochs)
    assert compared == own


def test_a_part_of_a_set_has_whole_groups_and_all_of_the_labels_asked_for():
    samples = [sample(f"{n:03}.png", int(n % 10 == 0), group=f"p{n // 3}") for n in range(300)]
    whole = sample_list(*samples, labels=("common", "rare"))

    part = draw_part(whole, 200, ["rare"])

    names = {item.name for item in part.samples}
    assert 198 <= len(names) <= 200
    assert names >= {item.name for item in samples if item.label == 1}
    left_out = {item.group for item in samples if item.name not in names}
    assert not left_out & {item.group for item in part.samples}
    assert {item.name for item in draw_part(whole, 200, ["rare"]).samples} == names


def write_cell(folder: Path, cell: str, seed: int, partners: list[str], skill: float) -> None:
    found = results(np.random.default_rng(seed), skill=skill, attention=True)
    record = {
        "cell": cell,
        "title": cell.upper(),
        "seed": seed,
        "partners": partners,
        "rare": ["rare"],
        "pictures": {"test": {"common": 0, "rare": 0}},
        "predictions": to_plain(found),
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{cell}-seed{seed}.json").write_text(json.dumps(record))


def test_cells_are_drawn_against_their_partners_with_the_seeds_that_both_have(tmp_path: Path):
    table = tmp_path / "set" / "table1"
    for seed in (0, 1, 2):
        write_cell(table, "csl", seed, [], skill=0.2)
    for seed in (0, 2):
        write_cell(table, "csl-care", seed, ["csl"], skill=2.0)
    write_cell(table, "focal-care", 0, ["focal"], skill=1.0)  # its partner was not run

    [pair] = pairs(table)

    assert pair.title == "CSL-CARE against CSL"
    assert [record["seed"] for record in pair.second] == [0, 2]
    change = pair.change(resamples=20)
    assert change.seeds == "0, 2"
    for out in (tmp_path / "a.svg", tmp_path / "b.svg"):
        draw("set-table1", [change], out)
    drawn = (tmp_path / "a.svg").read_text()
    assert drawn == (tmp_path / "b.svg").read_text()
    [row] = [line for line in summary({"set, table1": [change]}).splitlines() if "CSL-CARE" in line]
    accuracy = change.figures["mean_class_accuracy"]
    assert row.startswith(f"| CSL-CARE against CSL | 0, 2 | **{100 * accuracy.mean:+.1f} (")
    assert row.count("|") == 9  # title, seeds and six figures


def test_the_overview_has_the_pairs_of_three_seeds_alone(tmp_path: Path, monkeypatch):
    table = tmp_path / "results" / "set" / "table1"
    for cell, partners in {"csl": [], "csl-care": ["csl"], "focal-care": ["csl"]}.items():
        for seed in (0, 1) if cell == "focal-care" else (0, 1, 2):
            write_cell(table, cell, seed, partners, skill=1.0 + len(cell))
    asked = ["--results", str(tmp_path / "results"), "--out", str(tmp_path), "--resamples", "20"]
    monkeypatch.setattr("sys.argv", ["evidence_plots", *asked])

    main()

    whole, overview = (
        (tmp_path / "plots" / name).read_text() for name in ("set-table1.svg", "overview.svg")
    )
    assert "FOCAL-CARE against CSL" in whole
    assert "set: table1" in overview
    assert "CSL-CARE against CSL" in overview
    assert "FOCAL" not in overview


def test_a_difference_is_told_as_sure_where_all_seeds_agree():
    low, high = 0.01, 0.09
    assert words(Difference(0.05, low, high, (0.04, 0.06))) == "**+5.0 (1.0 to 9.0)** `++`"
    assert words(Difference(0.05, low, high, (0.12, -0.02))) == "+5.0 (1.0 to 9.0) `+-`"
    assert words(Difference(0.05, low, high, (0.1, 0.0))) == "+5.0 (1.0 to 9.0) `+0`"
    assert words(Difference(0.05, low, high, (0.05,))) == "+5.0 (1.0 to 9.0) `+`"
    assert words(Difference(-0.05, -0.1, 0.02, (-0.04, -0.06))) == "-5.0 (-10.0 to 2.0) `--`"
    assert words(Difference(-1e-5, -1e-5, 0.0, (-1e-5,))) == "+0.0 (0.0 to 0.0) `0`"
