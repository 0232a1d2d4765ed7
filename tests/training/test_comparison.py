"""Methods compared and taken apart: what each cell changes, how one is chosen, what is shared."""

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import training.fit
import training.stages
from tests.lesion_factory import lesion_recipes, lesion_run, lesion_set
from tests.training.test_evaluate import results
from tests.training.test_reproduce import base_run, places
from training.config import TrainingRun
from training.errors import ConfigError
from training.figures import figures
from training.release import recipe
from training.reproduce import plan
from training.reproduce.cells import to_plain
from training.reproduce.command import Reproduction
from training.reproduce.comparison import comparison
from training.reproduce.grids import GRIDS
from training.reproduce.plan import Pace
from training.reproduce.rows import Cell, Choices, Grid
from training.reproduce.tables import table_markdown

LOSSES = ("baseline", "csl", "focal", "class-balanced", "ldam-drw", "logit-adjusted", "crt")
METHODS = ("deep-pneumonia", "proco", "ecl")
EPOCHS = ("stage1.epochs=3", "stage2.epochs=4")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return lesion_set(tmp_path_factory.mktemp("lesions"))


@pytest.fixture(scope="module")
def recipes(tmp_path_factory) -> Path:
    return lesion_recipes(tmp_path_factory.mktemp("recipes"))


@pytest.fixture
def compared(data, recipes, tmp_path) -> Reproduction:
    base = base_run(data, *EPOCHS)
    return Reproduction.of("compare", base, (0, 1), places(tmp_path), Choices(recipes=recipes))


def cells_of(grid: Grid) -> dict[str, Cell]:
    return {cell.name: cell for cell in grid.cells}


def different(one: TrainingRun, other: TrainingRun) -> set[str]:
    """Settings that two runs do not share, as section.key."""
    ours, theirs = asdict(one), asdict(other)
    found = set()
    for key, value in ours.items():
        if isinstance(value, dict):
            found |= {f"{key}.{name}" for name in value if value[name] != theirs[key][name]}
        elif value != theirs[key]:
            found.add(key)
    return found


@pytest.mark.parametrize("table", ["compare", "ablation_deep_pneumonia"])
def test_every_arm_learns_for_as_many_epochs_of_as_many_pictures(table, data):
    base = base_run(data, *EPOCHS)
    grid = GRIDS[table](base, Choices())  # with the methods' own runs, as shipped
    for cell in grid.cells:
        for each in cell.all():
            run = each.run(base, 0)
            stages = [stage for stage in training.stages.stages_of(run) if stage.name != "pretrain"]
            assert sum(stage.settings.epochs for stage in stages) == 7, each.title
            assert {stage.sampler.epoch_pictures for stage in stages} == {18}
            for name in ("data", "input", "network", "augmentation"):
                expected = asdict(base)[name]
                assert asdict(run)[name] == expected, f"{each.title}: {name}"


def test_the_comparison_has_every_method_and_care_on_top_of_any_loss(data):
    base = base_run(data, *EPOCHS)
    cells = cells_of(comparison(base, Choices()))

    assert list(cells) == [*LOSSES, "care", "best", "best-care", *METHODS, "proco-care"]
    assert {cell.partners for cell in cells.values()} == {
        (),
        ("baseline",),
        ("best",),
        ("proco",),
    }
    runs = {name: cell.run(base, 0) for name, cell in cells.items() if not cell.options}
    names = [runs[name].loss.name for name in LOSSES]
    assert names[1:6] == ["cost_sensitive", "focal", "class_balanced", "ldam_drw", "logit_adjusted"]
    assert runs["care"].attention == base.attention == runs["proco-care"].attention
    for name in LOSSES:
        without, with_care = (
            cells[which].choose(name).run(base, 0) for which in ("best", "best-care")
        )
        assert without == runs[name]
        extra = {"stage2.epochs", "crt.epochs", "control.second_stage"} if name == "crt" else set()
        assert different(without, with_care) == {"attention.attend"} | extra
    assert [stage.name for stage in training.stages.stages_of(runs["crt"])] == ["stage1", "crt"]
    taken = training.stages.stages_of(cells["best-care"].choose("crt").run(base, 0))
    assert [(each.name, each.settings.epochs) for each in taken] == [
        ("stage1", 3),
        ("stage2", 2),
        ("crt", 2),
    ]


def test_a_method_has_what_its_own_run_says_and_the_data_and_budget_of_the_run(data):
    base = base_run(data, *EPOCHS)
    for name in METHODS:
        file = Path(training.__path__[0]) / "runs" / f"{name}.toml"
        own = TrainingRun.load(file)
        run = cells_of(comparison(base, Choices()))[name].run(base, 5)
        assert (run.method, run.loss, run.pretraining) == (own.method, own.loss, own.pretraining)
        assert run.sampler.batch == own.sampler.batch
        assert run.seed == 5
        for key in ("optimizer", "learning_rate", "schedule", "weight_decay"):
            assert getattr(run.stage1, key) == getattr(own.stage1, key)
        assert run.views == (base.views if own.input.color == "gray" else own.views)
        gray = replace(base, input=replace(base.input, color="gray"))
        of_films = cells_of(comparison(gray, Choices()))[name].run(gray, 5)
        assert not of_films.views.flip_vertical  # a film has an upper end
    assert run.stage1.patience >= 100  # ECL's schedule needs all of its epochs


def test_each_part_of_deep_pneumonia_is_switched_off_alone(data, tmp_path):
    file = lesion_run(data, "own", 'method = "deep_pneumonia"\n[pretraining]\nname = "simclr"\n')
    own = TrainingRun.load(file, settings=("deep_pneumonia.lesion_only=0.5", "stage1.epochs=5"))
    for base in (base_run(data), own):
        cells = cells_of(GRIDS["ablation_deep_pneumonia"](base, Choices()))
        runs = {name: cell.run(base, 0) for name, cell in cells.items()}
        before = different(runs["no-pretraining"], runs["full"])
        assert {name: different(run, runs["full"]) for name, run in runs.items()} == {
            "full": set(),
            "no-pretraining": {key for key in before if key.startswith("pretraining.")},
            "no-attention": {"deep_pneumonia.attention"}
            | ({"deep_pneumonia.lesion_only"} if base is own else set()),
            "no-regulation": {"deep_pneumonia.regulation"},
            "no-class-balance": {"loss.name"},
            "plain": different(runs["plain"], runs["full"]),
        }
        plain = runs["plain"]
        assert (plain.method, plain.loss.name) == ("care", "cross_entropy")
        assert [(each.name, each.care) for each in training.stages.stages_of(plain)] == [
            ("stage1", None)
        ]
    assert runs["full"].pretraining.name == "simclr"
    assert runs["full"].stage1.epochs == 5


@pytest.mark.parametrize(
    ("table", "settings", "words"),
    [
        ("compare", ("method=ecl",), 'expected "care"'),
        ("compare", ("stage2.epochs=1",), r"stage2.epochs = 1: CARE and cRT share them"),
        ("compare", ("attention.attend=[]",), "attention.attend is empty"),
        ("compare", ("precision=16-mixed",), "proxies gather gradients"),
        ("compare", ("proco.rows=3",), r"\[proco\] is set, but method = 'care'"),
        ("ablation_deep_pneumonia", ("method=proco",), "expected deep_pneumonia, or care"),
        ("ablation_deep_pneumonia", ('data.boxes=""',), "learns from lesion boxes"),
        (
            "ablation_deep_pneumonia",
            ("method=deep_pneumonia",),
            "has no pre-training: each part can be switched off alone where all are on",
        ),
    ],
)
def test_what_does_not_go_together_is_refused_in_a_sentence(
    table, settings, words, data, recipes, tmp_path
):
    base = base_run(data, "stage2.epochs=2", *settings)
    with pytest.raises(ConfigError, match=words):
        Reproduction.of(table, base, (0,), places(tmp_path), Choices(recipes=recipes))
    assert not list(tmp_path.iterdir())


def test_methods_whose_batches_are_too_large_or_that_are_not_there_are_refused(data, tmp_path):
    base = base_run(data, *EPOCHS)
    with pytest.raises(ConfigError, match="no full batch of 64"):  # as shipped
        Reproduction.of("compare", base, (0,), places(tmp_path), Choices())
    with pytest.raises(ConfigError, match=r"deep-pneumonia\.toml: No such file"):
        comparison(base, Choices(recipes=tmp_path))
    lesion_run(tmp_path, "deep-pneumonia", 'method = "ecl"')
    with pytest.raises(ConfigError, match="'ecl', expected 'deep_pneumonia'"):
        comparison(base, Choices(recipes=tmp_path))


def pretend(asked: Reproduction, told: Mapping[tuple[str, int], float]) -> None:
    """Leave results that say no more than how a cell did on validation."""
    cells = cells_of(asked.grid)
    for (name, seed), mca in told.items():
        trial = asked.trial(cells[name], seed)
        record: dict[str, Any] = {"config": trial.config, "split": trial.split}
        record["run"] = recipe(trial.run, trial.parts, trial.last)["run"]
        record["validation"] = {"mean_class_accuracy": mca}
        trial.file(asked.places).parent.mkdir(parents=True, exist_ok=True)
        trial.file(asked.places).write_text(json.dumps(record))


def chosen(asked: Reproduction) -> dict[tuple[str, int], str]:
    return {
        (trial.cell.name, trial.run.seed): trial.cell.chosen
        for trial in asked.trials()
        if trial.cell.chosen
    }


def test_the_best_is_chosen_for_each_seed_on_its_own_validation_list(compared):
    assert not chosen(compared)
    pretend(compared, {(name, 0): 0.5 for name in LOSSES[:-1]})
    assert not chosen(compared)  # one is still to be run

    pretend(compared, {("crt", 0): 0.4, ("focal", 0): 0.7, ("ldam-drw", 0): 0.7})
    assert chosen(compared) == {("best", 0): "focal", ("best-care", 0): "focal"}

    pretend(compared, {(name, 1): 0.5 + 0.01 * n for n, name in enumerate(LOSSES)})
    assert chosen(compared) == {
        ("best", 0): "focal",  # what another seed says changes nothing
        ("best-care", 0): "focal",
        ("best", 1): "crt",
        ("best-care", 1): "crt",
    }
    trials = {(trial.cell.name, trial.run.seed): trial for trial in compared.trials()}
    assert trials["best", 0].folder(compared.places) == trials["focal", 0].folder(compared.places)
    assert trials["best-care", 0].run.loss.name == "focal"
    assert trials["best-care", 0].run.attention == compared.base.attention


@pytest.fixture
def steady(monkeypatch) -> None:
    """A full epoch of stage 1 or 2 takes 10 s, of pre-training 5, of cRT 2; looking nothing."""
    seconds = {"pretrain": 5.0, "crt": 2.0}

    def pace(trial, stage, timings) -> Pace:
        return Pace(seconds.get(stage.name, 10.0), 0.0, "decree")

    monkeypatch.setattr(plan, "pace_by_timing", pace)


def test_a_plan_of_the_comparison_adds_up_before_anything_is_chosen(compared, steady):
    told = compared.plan()

    firsts = 6 * 3  # of the losses, shared by CARE, the best and cRT
    seconds = 6 * 4 + 4 + 4  # of the losses, CARE, CARE with some other loss
    single = 3 * 7 + 3 + 4  # Deep Pneumonia, ProCo, ECL; ProCo + CARE
    once = 10 * (firsts + seconds + single) + 2 * 4 + 5  # cRT's classifier, pre-training
    assert told.seconds == pytest.approx(2 * once)
    heads = next(line for line in str(told).splitlines() if line.startswith("cell"))
    assert heads.split("  ")[-1].strip() == "measure"
    assert all(title in heads for title in ("pre-training", "stage 1", "stage 2", "cRT"))


def test_each_kind_of_stage_is_timed_by_its_own_steps(compared, monkeypatch):
    seen = []
    monkeypatch.setattr(plan, "_seconds", lambda call: seen.append(call()) or 1.0)

    paces = compared.plan().paces

    kinds = {load.rpartition(": ")[0] or "care": pace for load, pace in paces.items()}
    assert kinds.keys() == {"care", "moco", "deep_pneumonia", "proco", "ecl", "crt"}
    looked = len(compared.parts[0]["validation"].samples)
    # an epoch of 18 pictures, in batches of 18 for CARE and of 6 for the methods
    assert kinds["care"].epoch == pytest.approx(1 + looked / 18)
    assert kinds["proco"].epoch == pytest.approx(3 + looked / 6)
    trained = len(compared.parts[0]["train"].samples)
    assert kinds["moco"].epoch == trained // 6  # full batches of all pictures, no validation
    assert len(seen) == 2 * 6  # a step and a look of each, for both seeds


def record(random, stages: Mapping[str, tuple[int, float]], skill: float, **told: Any) -> dict:
    """A result as a cell leaves it: epochs and seconds of each stage, and how good it is."""
    found = results(random, 60, skill=skill, attention=True)
    run = {"sampler": {"name": "plain"}, "input": {"size": 64}, "network": {"weights": "none"}}
    counts = {"common": 48, "rare": 12}
    return {
        "rare": ["rare"],
        "run": run | {name: {"epochs": epochs} for name, (epochs, _) in stages.items()},
        "pictures": {"train": counts, "test": counts},
        "stages": {
            name: {"epochs": epochs, "seconds": seconds}
            for name, (epochs, seconds) in stages.items()
        },
        "machine": "this one",
        "split": "lists",
        "environment": {"commit": "abc"},
        "validation": {"mean_class_accuracy": skill / 2},
        "chosen": "",
        "figures": figures(found, resamples=5),
        "predictions": to_plain(found),
        **told,
    }


def test_the_table_tells_time_in_the_baselines_epochs_and_what_was_chosen():
    random = np.random.default_rng(0)
    grid = Grid(
        "small",
        "Some methods",
        (
            Cell("baseline", "cross-entropy"),
            Cell("csl", "CSL"),
            Cell("best", "the best", {}, ("baseline",), options={"baseline": {}, "csl": {}}),
            Cell("dp", "Deep Pneumonia"),
            Cell("late", "not run"),
        ),
        about="All alike.",
        baseline="baseline",
    )
    both = {"stage1": (3, 30.0), "stage2": (2, 20.0)}
    told = {
        ("baseline", 0): record(random, both, 1.0),
        ("baseline", 1): record(random, {"stage1": (3, 60.0), "stage2": (2, 40.0)}, 1.0),
        ("csl", 0): record(random, {"stage1": (3, 30.0), "stage2": (2, None)}, 1.5),
        ("csl", 1): record(random, both, 0.5, machine="another"),
        ("best", 0): record(random, both, 1.5, chosen="csl"),
        ("dp", 0): record(random, {"pretrain": (9, 45.0), "stage1": (5, 75.0)}, 1.2),
        ("dp", 1): record(random, {"pretrain": (9, 90.0), "stage1": (5, 200.0)}, 1.2),
    }

    text = table_markdown(grid, (0, 1), told, resamples=5)

    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("|")]
    assert lines[0][:3] == ["method", "rare recall", "MCA"]  # no column for what none published
    assert lines[0][-4:] == ["blank", "time", "pre-training", "seeds"]
    rows = {line[0]: line[-3:] for line in lines[2:7]}
    assert rows == {
        "cross-entropy": ["1.00 ± 0.00", "-", "2"],
        "CSL": ["1.00", "-", "2"],  # not timed on one machine with the other seed
        "the best": ["1.00", "-", "1"],
        "Deep Pneumonia": ["1.75 ± 0.35", "4.50 ± 0.00", "2"],
        "not run": ["-", "-", "0"],
    }
    assert {len(line) for line in lines[:7]} == {12}
    assert "*Paper*" not in text
    assert "All alike." in text
    assert "- seed 0: CSL, of cross-entropy 50.0, CSL 75.0" in text
    assert "- the best: seed 1" in text
    assert "every arm has the second stage" not in text
    assert "at most 3 + 2 epochs" in text
    uneven = "rows that do not have the same seeds are compared by the paired tests below"
    assert uneven not in text  # all seeds have the same lists
    own = {(name, seed): one | {"split": f"of {seed}"} for (name, seed), one in told.items()}
    assert uneven in table_markdown(grid, (0, 1), own, resamples=5)
    first = {(name, seed): one for (name, seed), one in own.items() if seed == 0}
    assert uneven not in table_markdown(grid, (0, 1), first, resamples=5)


@pytest.mark.timeout(600)
def test_cells_share_pre_training_and_a_method_goes_on_with_what_it_brought(
    data, recipes, tmp_path, monkeypatch
):
    """Deep Pneumonia with either loss, and ProCo with CARE on top."""
    trained = []
    run_stage = training.fit.run_stage

    def counted(work) -> None:
        trained.append((work.run.method, work.stage.name))
        run_stage(work)

    monkeypatch.setattr(training.fit, "run_stage", counted)
    base, choices = base_run(data, "stage2.epochs=2"), Choices(recipes=recipes)
    for table, names in (
        ("ablation_deep_pneumonia", ("full", "no-class-balance")),
        ("compare", ("proco-care",)),
    ):
        asked = Reproduction.of(table, base, (0,), places(tmp_path), choices)
        cells = tuple(cell for cell in asked.grid.cells if cell.name in names)
        replace(asked, grid=replace(asked.grid, cells=cells)).run(lambda words: None)

    assert trained == [
        ("deep_pneumonia", "pretrain"),
        ("deep_pneumonia", "stage1"),
        ("deep_pneumonia", "stage1"),
        ("proco", "stage1"),
        ("proco", "stage2"),
    ]
    [first, second, on_top] = (
        json.loads((tmp_path / "results" / name).read_text())
        for name in (
            "ablation_deep_pneumonia/full-seed0.json",
            "ablation_deep_pneumonia/no-class-balance-seed0.json",
            "compare/proco-care-seed0.json",
        )
    )
    assert first["stages"]["pretrain"] == second["stages"]["pretrain"]
    assert [list(each["stages"]) for each in (first, on_top)] == [
        ["pretrain", "stage1"],
        ["stage1", "stage2"],
    ]
    for each in (first, second, on_top):
        assert len(each["predictions"]["attention"]) == len(each["predictions"]["truth"])
        assert 0 <= each["validation"]["mean_class_accuracy"] <= 1
