"""The papers' grids on a small drawn data set: what is shared, skipped, resumed and written."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import balanced_accuracy_score, f1_score, recall_score, roc_auc_score
from torch import nn

import training.fit
import training.stages
from tests.lesion_factory import RUN, lesion_run, lesion_set
from tests.training.test_evaluate import results
from training.compare import differences
from training.config import AttentionSettings, DataSettings, TrainingRun
from training.data.cache import PictureCache
from training.errors import ConfigError, DataError
from training.reproduce import cells, plan
from training.reproduce.command import Reproduction
from training.reproduce.grids import GRIDS
from training.reproduce.paper import TABLE1, TABLE2, TABLE3, TABLE4
from training.reproduce.plan import Pace
from training.reproduce.rows import WITHOUT_CARE, Choices
from training.reproduce.tables import paired_rows, spread
from training.reproduce.trials import Places, make_boxes, unusual

SMALL = ("stage1.epochs=1", "stage2.epochs=1", "sampler.epoch_pictures=18")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return lesion_set(tmp_path_factory.mktemp("lesions"))


def base_run(data: Path, *settings: str) -> TrainingRun:
    return TrainingRun.load(
        lesion_run(data, text=RUN), settings=(f"data.root={data}", *SMALL, *settings)
    )


def places(folder: Path) -> Places:
    return Places(folder / "results", folder / "work", folder / "cache")


def asked(
    table: str, base: TrainingRun, folder: Path, seeds: tuple[int, ...] = (0,)
) -> Reproduction:
    return Reproduction.of(table, base, seeds, places(folder), Choices(("resnet18",)))


@pytest.fixture(scope="module")
def figure2(data, tmp_path_factory) -> tuple[Path, list[str]]:
    """A finished grid of two cells, and what was done for it."""
    folder = tmp_path_factory.mktemp("figure2")
    trained = []
    run_stage = training.fit.run_stage

    def counted(work) -> None:
        trained.append(work.stage.name)
        run_stage(work)

    def looked_for(pictures, parts) -> list[tuple[str, str]]:
        trained.append("looked for twins")
        return []

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training.fit, "run_stage", counted)
        patch.setattr(PictureCache, "twins", looked_for)
        asked("figure2", base_run(data), folder).run(lambda words: None)
    return folder, trained


@pytest.fixture
def no_training(monkeypatch) -> None:
    def refuse(*arguments) -> None:
        raise AssertionError("nothing was left to train")

    monkeypatch.setattr(training.fit, "run_stage", refuse)


def records(folder: Path, table: str) -> dict[str, dict]:
    return {
        path.stem: json.loads(path.read_text()) for path in (folder / "results" / table).iterdir()
    }


@pytest.mark.parametrize("table", GRIDS)
def test_a_grid_names_each_cell_once_and_tests_it_against_cells_it_has(table, data):
    base = base_run(data, "stage2.epochs=2")
    grid = GRIDS[table](base, Choices())
    names = [cell.name for cell in grid.cells]

    assert len(set(names)) == len(names)
    assert {partner for cell in grid.cells for partner in cell.partners} <= set(names)
    assert grid.name == table
    for each in (each for cell in grid.cells for each in cell.all()):
        training.stages.check(replace(each.run(base, 0), input=TrainingRun(name="").input))


def test_every_published_row_is_beside_a_cell(data):
    for table, published in (
        ("table1", TABLE1),
        ("table2", TABLE2),
        ("table3", TABLE3),
        ("table4", TABLE4),
    ):
        grid = GRIDS[table](base_run(data), Choices())
        assert [cell.paper for cell in grid.cells] == list(published.values())


@pytest.mark.parametrize("table", ["table1", "table2", "table4", "figure2", "boxes"])
def test_the_arms_differ_in_attention_and_in_nothing_else(table, data):
    base = base_run(data)
    runs = {cell.name: cell.run(base, 0) for cell in GRIDS[table](base, Choices()).cells}
    pairs = [
        (cell.name, partner)
        for cell in GRIDS[table](base, Choices()).cells
        for partner in cell.partners
    ]
    assert pairs
    for one, other in pairs:
        ours, theirs = asdict(runs[one]), asdict(runs[other])
        assert {key for key in ours if ours[key] != theirs[key]} <= {"attention"}
        assert ours["control"] == {"second_stage": True}
    without = [cell for cell in GRIDS[table](base, Choices()).cells if not cell.partners]
    for cell in without:
        run = cell.run(base, 0)
        assert run.attention == replace(base.attention, attend=WITHOUT_CARE["attention.attend"])
        assert [(stage.name, stage.care) for stage in training.stages.stages_of(run)] == [
            ("stage1", None),
            ("stage2", None),
        ]


def test_an_option_changes_one_thing_of_the_run(data):
    base = base_run(data)
    grid = GRIDS["options"](base, Choices())
    runs = {cell.name: asdict(cell.run(base, 0)) for cell in grid.cells}

    def changes(one: str, other: str) -> set[str]:
        ours, theirs = runs[one], runs[other]
        return {
            f"{section}.{key}"
            for section in ours
            if isinstance(ours[section], dict)
            for key in ours[section]
            if ours[section][key] != theirs[section][key]
        }

    assert changes("tau-0.9", "csl-care") == {"attention.tau"}
    assert changes("lambda-0.0", "csl-care") == {"attention.lam"}
    assert changes("head", "csl-care") == {"attention.head_learns"}
    assert changes("all", "csl-care") == {"attention.attend"}
    assert changes("all-head", "all") == {"attention.head_learns"}
    assert changes("previous", "csl-care") == {"network.map_layer"}
    assert changes("longer", "csl") == {"stage2.epochs", "stage2.patience"}
    assert changes("uniform", "csl") == {"loss.name", "sampler.name"}
    assert changes("larger", "csl") == {"input.size"}
    for name in ("longer", "uniform", "larger"):
        assert changes(f"{name}-care", name) == {"attention.attend"}


def test_options_that_the_run_has_are_no_rows_of_their_own(data):
    own = 'attention.attend="all"', "attention.tau=0.7", 'network.map_layer="previous"'
    names = {cell.name for cell in GRIDS["options"](base_run(data, *own), Choices()).cells}

    assert "tau-0.5" in names
    assert not {"tau-0.7", "all", "all-head", "previous"} & names


@pytest.mark.parametrize("batch_norm", ["frozen", "train"])
def test_a_timed_step_is_that_of_the_run_batch_norm_included(
    tmp_path, data, monkeypatch, batch_norm
):
    base = base_run(data, f'network.batch_norm="{batch_norm}"')
    trial = next(asked("options", base, tmp_path).trials())
    learning = set()
    monkeypatch.setattr(
        plan,
        "train_step",
        lambda fabric, model, method, optimizers, batch: (
            learning.update(
                part.training for part in model.modules() if isinstance(part, nn.BatchNorm2d)
            )
            or training.fit.train_step(fabric, model, method, optimizers, batch)
        ),
    )

    timing = plan.time_steps(trial, training.stages.stages_of(trial.run)[0])

    assert timing.step > 0 < timing.look
    assert learning == {batch_norm == "train"}


def test_options_are_told_on_the_validation_list_and_leave_the_test_list_alone(
    tmp_path, data, monkeypatch
):
    base = base_run(data)
    reproduction = asked("options", base, tmp_path)
    first = next(reproduction.trials())
    seen = []
    look = cells.look
    monkeypatch.setattr(
        cells,
        "look",
        lambda network, samples, pictures: (
            seen.extend(samples.samples) or look(network, samples, pictures)
        ),
    )

    record = cells.run_trial(first, reproduction.reference, reproduction.places)

    names = {part: {item.name for item in subset.samples} for part, subset in first.parts.items()}
    assert set(record["predictions"]["image"]) == names["validation"]
    assert not {item.name for item in seen} & names["test"]
    assert record["figures"]["mean_class_accuracy"]["value"] == pytest.approx(
        record["validation"]["mean_class_accuracy"], abs=1e-4
    )
    assert "on the validation lists" in reproduction.write_table(resamples=20).read_text()


def test_both_arms_start_from_one_first_stage(figure2):
    folder, trained = figure2

    assert trained == ["looked for twins", "stage1", "stage2", "stage2"]
    firsts = list((folder / "work" / "runs").glob("*/stage1.safetensors"))
    assert len(firsts) == 3  # the shared one and the two arms'
    assert len({path.read_bytes() for path in firsts}) == 1


def test_what_is_there_is_not_run_again(figure2, data, no_training):
    folder, _ = figure2
    said = []

    asked("figure2", base_run(data), folder).run(said.append)

    assert said == [f"figure2 {name} seed 0: there already" for name in ("csl", "csl-care")]


def test_a_result_of_other_settings_or_lists_does_not_count(figure2, data):
    folder, _ = figure2
    assert len(asked("figure2", base_run(data), folder).records()) == 2
    assert len(asked("figure2", base_run(data, "workers=1"), folder).records()) == 2
    assert not asked("figure2", base_run(data, "stage2.epochs=2"), folder).records()
    assert not asked("figure2", base_run(data, "data.keep={disc=20}"), folder).records()
    # attention's settings are nothing to the arm without it, but its boxes' digest
    moved = asked("figure2", base_run(data, "attention.alpha=0.4"), folder).records()
    assert ("csl-care", 0) not in moved


@pytest.mark.parametrize(
    ("told", "counts"),
    [
        ({"stage1": {"learning_rate": 3e-4}}, False),  # was usual then: the digest is silent
        ({"stage1": {}}, True),  # no setting yet
        ({"stage1": {"older": 1}}, True),  # none any more
        ({"workers": 7, "name": "other"}, True),
        ({"precision": "bf16-mixed"}, False),
    ],
)
def test_a_result_of_what_was_usual_once_does_not_count_as_one_of_what_is_now(
    figure2, data, tmp_path, told, counts
):
    folder, _ = figure2
    shutil.copytree(folder / "results", tmp_path / "results")
    for path in (tmp_path / "results" / "figure2").iterdir():
        record = json.loads(path.read_text())
        for section, settings in told.items():
            if isinstance(settings, dict) and settings:
                record["run"][section] |= settings
            else:
                record["run"][section] = settings
        path.write_text(json.dumps(record))

    found = asked("figure2", base_run(data), tmp_path).records()

    assert len(found) == (2 if counts else 0)


def test_an_option_that_no_run_used_to_have_outdates_no_result():
    """Only what differs from the defaults is told."""
    run = TrainingRun(name="mine", seed=3, attention=AttentionSettings(alpha=0.4))

    assert unusual(run) == {"name": "mine", "seed": 3, "attention": {"alpha": 0.4}}
    merged = replace(run, data=DataSettings(merge={"one": "two"}))
    assert unusual(merged)["data"] == {"merge": {"one": "two"}}


def test_every_seed_can_have_lists_of_its_own_written_down(tmp_path, data):
    base = base_run(data)
    listed = replace(base, data=replace(base.data, split=str(tmp_path / "lists-{seed}.csv")))

    first = asked("figure2", listed, tmp_path, seeds=(0, 1))
    again = asked("figure2", listed, tmp_path, seeds=(0, 1))

    assert {path.name for path in tmp_path.iterdir()} == {"lists-0.csv", "lists-1.csv"}
    splits = [[trial.split for trial in one.trials()] for one in (first, again)]
    assert splits[0] == splits[1]
    assert len(set(splits[0])) == 2


def test_boxes_drawn_anew_are_learnt_anew_under_the_same_name(tmp_path, data):
    base = base_run(data)
    drawn = (data / "boxes.csv").read_text()
    folders = []
    for moved in (drawn, drawn.replace(",17,17", ",16,17")):
        (tmp_path / "boxes.csv").write_text(moved)
        named = replace(base, data=replace(base.data, boxes=str(tmp_path / "boxes.csv")))
        trials = list(asked("figure2", named, tmp_path).trials())
        folders.append([trial.folder(places(tmp_path)) for trial in trials])
        folders[-1].append(trials[0].portions(places(tmp_path))[0].folder)

    (without, with_care, first), (without_again, with_care_again, first_again) = folders
    assert (without, first) == (without_again, first_again)
    assert with_care != with_care_again


def test_sources_of_boxes_are_compared_where_nobody_drew_any(tmp_path, data):
    base = base_run(data, 'data.boxes=""')

    names = {trial.cell.name for trial in asked("boxes", base, tmp_path).trials()}

    assert {"csl", "boxes-center", "boxes-border"} <= names
    assert "csl-care" not in names


def test_boxes_made_by_machine_are_found_wherever_the_pictures_lie(tmp_path, data, monkeypatch):
    monkeypatch.chdir(tmp_path)
    here = Places(Path("results"), Path("work"), Path("cache"))
    base = base_run(data)
    reproduction = Reproduction.of("boxes", base, (0,), here, Choices())
    middle = next(cell for cell in reproduction.grid.cells if cell.name == "boxes-center")

    make_boxes(middle, base, here)

    assert all(len(item.boxes) for item in reproduction.trial(middle, 0).samples.samples)


def test_a_cell_that_another_table_has_trained_is_only_measured(figure2, data, no_training):
    folder, _ = figure2
    base = base_run(data)
    grid = asked("table1", base, folder)
    shared = replace(
        grid, grid=replace(grid.grid, cells=tuple(c for c in grid.grid.cells if "csl" in c.name))
    )

    shared.run(lambda words: None)

    ours, theirs = records(folder, "figure2"), records(folder, "table1")
    for name in ("csl-seed0", "csl-care-seed0"):
        assert ours[name]["predictions"] == theirs[name]["predictions"]
        assert ours[name]["config"] == theirs[name]["config"]


def test_a_killed_grid_goes_on_and_ends_where_an_undisturbed_one_does(
    figure2, data, tmp_path, monkeypatch
):
    save_progress = training.fit.save_progress
    saved = []

    def die_in_the_second_cell(*arguments) -> None:
        save_progress(*arguments)
        saved.append(arguments)
        if len(saved) == 3:  # stage 1, stage 2 without, stage 2 with
            raise KeyboardInterrupt

    monkeypatch.setattr(training.fit, "save_progress", die_in_the_second_cell)
    with pytest.raises(KeyboardInterrupt):
        asked("figure2", base_run(data), tmp_path).run(lambda words: None)
    monkeypatch.undo()
    assert list(records(tmp_path, "figure2")) == ["csl-seed0"]
    text = asked("figure2", base_run(data), tmp_path).write_table(resamples=5).read_text()
    assert "- CARE+CSL: seed 0" in text

    asked("figure2", base_run(data), tmp_path).run(lambda words: None)

    undisturbed = records(figure2[0], "figure2")
    for name, record in records(tmp_path, "figure2").items():
        assert record["predictions"] == undisturbed[name]["predictions"]


def test_the_tables_numbers_are_those_of_scikit_learn_on_the_predictions(figure2, data):
    folder, _ = figure2
    text = asked("figure2", base_run(data), folder).write_table(resamples=5).read_text()

    for record in records(folder, "figure2").values():
        told = record["predictions"]
        truth, scores = np.array(told["truth"]), np.array(told["probabilities"])
        called = scores.argmax(1)
        rare = [list(record["pictures"]["test"]).index(label) for label in record["rare"]]
        expected = [
            recall_score(truth, called, labels=rare, average="macro"),
            balanced_accuracy_score(truth, called),
            f1_score(truth, called, average="macro"),
            roc_auc_score(truth, scores, multi_class="ovr"),
        ]
        attention = np.array(list(told["attention"].values()))
        [row] = [line for line in text.splitlines() if line.startswith(f"| {record['title']} | ")][
            :1
        ]
        shown = [float(cell) for cell in row.strip("| ").split(" | ")[3:]]
        np.testing.assert_allclose(shown[:4], 100 * np.array(expected), atol=0.06)
        pointing, energy, _, blank = 100 * attention.mean(0)
        np.testing.assert_allclose(shown[5:8], [pointing, energy, blank], atol=0.06)
        assert shown[8] == 1
        assert len(told["attention"]) == len(truth)  # every test picture has a box here
    assert "Every cell was run with every seed asked for." in text
    assert "11.11 / 57.88" in text


def test_a_result_says_what_it_was_made_of_and_no_place_on_the_machine(figure2, data):
    folder, _ = figure2
    for record in records(folder, "figure2").values():
        assert record["stages"]["stage2"]["epochs"] == 1
        assert record["stages"]["stage2"]["seconds"] > 0
        assert record["rare"] == ["ring", "cross"]
        assert str(folder) not in json.dumps(record)
        assert str(data) not in json.dumps(record)


def test_spread_is_mean_and_sample_standard_deviation_in_percent():
    assert spread([0.5, 0.6, 0.7]) == "60.0 ± 10.0"
    assert spread([0.5, float("nan")]) == "50.0"
    assert spread([float("nan")]) == "-"


def test_pairs_are_tested_seed_by_seed_and_patients_stay_together():
    random = np.random.default_rng(0)
    first = [results(random, 80, skill=0.2) for _ in range(2)]
    second = [results(random, 80, skill=1.5) for _ in range(2)]

    rows = {row[0]: row[1:] for row in paired_rows(first, second, 50)}

    gained = []
    for one, other in zip(first, second, strict=True):
        rare = one.truth == 1
        right = [each.probabilities.argmax(1) == each.truth for each in (one, other)]
        only = [(right[a] & ~right[b] & rare).sum() for a, b in ((0, 1), (1, 0))]
        gained.append(f"{binomtest(only[0], sum(only)).pvalue:.3f}")
    assert rows["recall rare"][3] == ", ".join(gained)
    alone = [paired_rows([one], [other], 1)[0] for one, other in zip(first, second, strict=True)]
    assert rows["MCA"][2] == ", ".join(row[1] for row in alone)
    found = [
        [balanced_accuracy_score(one.truth, one.probabilities.argmax(1)) for one in models]
        for models in (first, second)
    ]
    assert float(rows["MCA"][0]) == pytest.approx(100 * np.diff(np.mean(found, 1))[0], abs=0.06)


def test_scores_of_different_seeds_are_never_ranked_together():
    random = np.random.default_rng(0)
    whole = results(random, 80, skill=100.0)  # tells the classes apart without a mistake
    shifted = replace(whole, probabilities=np.c_[whole.probabilities[:, :1] * 1e-3, np.ones(80)])
    shifted.probabilities[:, 1] -= shifted.probabilities[:, 0]

    rows = {row[0]: row[1:] for row in paired_rows([whole, shifted], [whole, whole], 20)}

    assert rows["macro-AUROC"][:3] == ["+0.0", "+0.0 to +0.0", "+0.0, +0.0"]


def test_a_patient_drawn_is_drawn_for_every_seed():
    random = np.random.default_rng(0)
    pairs = [[results(random, 80, skill=skill) for _ in range(2)] for skill in (0.2, 1.5)]

    found = differences(*pairs, resamples=60, seed=4)["recall rare"]

    drawn = []
    source = np.random.default_rng(4)
    for _ in range(60):
        pick, gains = source.integers(0, 40, 40), []
        for one, other in zip(*pairs, strict=True):
            rows = np.concatenate([np.flatnonzero(one.groups == group) for group in pick])
            rare = rows[one.truth[rows] == 1]
            right = [each.probabilities[rare].argmax(1) == 1 for each in (one, other)]
            gains.append(right[1].mean() - right[0].mean())
        drawn.append(np.mean(gains))
    assert (found.low, found.high) == pytest.approx(tuple(np.percentile(drawn, [2.5, 97.5])))


@pytest.fixture
def steady(monkeypatch) -> Iterator[None]:
    """Every network takes 10 s per epoch and a quarter of a second per picture looked at."""
    monkeypatch.setattr(plan, "pace_by_timing", lambda *asked: Pace(10.0, 0.25, "decree"))


def test_a_plan_adds_up(data, tmp_path, steady):
    base = base_run(data, "stage1.epochs=3", "stage2.epochs=5")
    found = asked("table1", base, tmp_path, seeds=(0, 1)).plan()

    looked = sum(len(found.steps[0].trial.parts[part].samples) for part in ("validation", "test"))
    firsts = 2 * 4  # seeds; strategies, each shared by its two arms
    assert len(found.steps) == 2 * 8
    assert sum("stage1" in step.stages for step in found.steps) == firsts
    assert found.seconds == pytest.approx(firsts * 3 * 10 + 16 * 5 * 10 + 16 * looked * 0.25)
    assert str(found).endswith(
        f"16 cells: 0 done, 16 to do with 8 first stages among them; "
        f"{plan.duration(found.seconds)}, less where a stage stops early, "
        "and some seconds a cell to start and to write"
    )
    assert not (tmp_path / "results").exists()
    assert not (tmp_path / "work").exists()


def test_a_plan_knows_what_is_done_and_takes_seconds_from_it(figure2, data, steady, no_training):
    folder, _ = figure2
    found = asked("figure2", base_run(data), folder, seeds=(0, 1)).plan()

    assert [step.done for step in found.steps] == [True, True, False, False]
    epochs = [
        stage["seconds"] / stage["epochs"]
        for path in (folder / "results").glob("*/*.json")
        for stage in json.loads(path.read_text())["stages"].values()
    ]
    [pace] = found.paces.values()
    assert pace.epoch == pytest.approx(np.median(epochs))
    assert "finished cells" in pace.source
    assert found.steps[2].stages["stage1"] == pytest.approx(pace.epoch)
    assert "stage1" not in found.steps[3].stages


def test_a_network_that_no_result_tells_of_is_timed(data, tmp_path):
    found = asked("figure2", base_run(data), tmp_path).plan()
    [pace] = found.paces.values()
    assert pace.epoch > 3 * pace.look > 0


def test_seconds_of_a_stopped_stage_count_its_other_epochs(tmp_path, monkeypatch):
    clock = iter([0.0, 30.0])
    epochs = iter([2, 5])
    monkeypatch.setattr(cells.time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(cells, "epochs_done", lambda folder, stage: next(epochs))
    monkeypatch.setattr(cells, "train", lambda run, folder, **how: None)
    run = TrainingRun(name="x")

    taken = cells.train_timed(run, tmp_path, "stage2", tmp_path)

    assert taken == {"epochs": 5, "seconds": 50.0}
    assert cells.train_timed(run, tmp_path, "stage2", tmp_path) == taken  # kept


def test_what_cannot_be_run_is_refused_before_anything_is_trained(data, tmp_path, no_training):
    for table, settings, words in (
        ("table9", (), "table1, table2"),
        ("table1", ("attention.attend=[]",), "attention.attend is empty"),
        ("table1", ('data.boxes=""',), "care boxes"),
        ("table1", ("data.test=0",), "test list is empty"),
    ):
        with pytest.raises((ConfigError, DataError), match=words):
            asked(table, base_run(data, *settings), tmp_path).run(print)
    with pytest.raises(ConfigError, match="IMAGENET1K_V1"):
        GRIDS["table2"](base_run(data, 'network.weights="mine.pth"'), Choices())
    with pytest.raises(ConfigError, match="takes 224 pixels"):
        Reproduction.of("table2", base_run(data), (0,), places(tmp_path), Choices())


def test_chest_films_get_the_lungs_as_a_source_of_boxes(data):
    def sources(*settings: str) -> set[str]:
        return {cell.name for cell in GRIDS["boxes"](base_run(data, *settings), Choices()).cells}

    assert {"csl", "csl-care", "boxes-center", "boxes-border"} <= sources()
    assert "boxes-lungs" not in sources()
    assert {"boxes-lungs", "boxes-border-within-lungs"} <= sources('input.color="gray"')
    assert "csl-care" not in sources('data.boxes=""')
