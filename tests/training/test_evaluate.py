"""Where attention falls, intervals, reports on disk, and two models compared."""

import json
import resource
from dataclasses import replace
from math import comb
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from imaging.preprocessing import Placement, Preprocessing
from models.card import Accepts, ModelCard
from models.classifier import Classifier, Prediction
from models.store import shipped_models
from training.bootstrap import resample
from training.card_page import card_page
from training.compare import compare, comparison_markdown, mcnemar
from training.config import TrainingRun
from training.data.samples import Sample, SampleList
from training.errors import DataError
from training.evaluate import AttentionFigures, Results, attention_figures, classify_list
from training.figures import figures
from training.figures_page import markdown
from training.report import plot_roc, read_predictions, write_report

LABELS = ("common", "rare")
RUNS = Path(__file__).parents[2] / "training" / "runs"


def prediction(cam: np.ndarray) -> Prediction:
    """Of a picture of 80 x 40 pixels, squashed to a square of 64."""
    return Prediction(
        labels=LABELS,
        probabilities=np.array([0.4, 0.6]),
        cams=np.stack([np.zeros_like(cam), cam]).astype(np.float32),
        placement=Placement(64 / 80, 64 / 40, 0, 0, 80, 40, 64),
        embedding=np.zeros(3, np.float32),
    )


def sample(*boxes: list[float], label: int = 1) -> Sample:
    return Sample("a.png", Path("a.png"), label, "g", np.array(boxes, float).reshape(-1, 4))


def results(random, pictures=200, skill=1.0, attention=False) -> Results:
    """Two pictures a patient; scores that know the truth as well as `skill` says."""
    truth = (np.arange(pictures) // 2 % 5 == 0).astype(int)
    odds = skill * (2 * truth - 1) + random.normal(size=pictures)
    rare = 1 / (1 + np.exp(-odds))
    seen = {n: AttentionFigures(float(n % 3 == 0), 0.25, 0.5, 0.0) for n in range(0, pictures, 4)}
    return Results(
        labels=LABELS,
        names=tuple(f"{n}.png" for n in range(pictures)),
        truth=truth,
        groups=np.arange(pictures) // 2,
        probabilities=np.stack([1 - rare, rare], 1),
        attention=seen if attention else {},
    )


def test_attention_inside_the_box_is_counted_in_the_pictures_own_pixels():
    cam = np.zeros((8, 8))
    cam[2, 6] = 1  # columns 60 to 70 and rows 10 to 15 of the picture
    inside = attention_figures(sample([50, 5, 80, 20]), prediction(cam))
    assert inside.pointing == 1
    assert inside.energy == pytest.approx(1, abs=0.02)
    assert inside.blank == 0
    outside = attention_figures(sample([0, 5, 40, 20], [0, 30, 80, 40]), prediction(cam))
    assert outside.pointing == 0
    assert outside.energy == pytest.approx(0, abs=0.02)
    assert outside.iou == 0


def test_half_of_the_maximum_outlines_a_box_of_the_same_size():
    cam = np.zeros((8, 8))
    cam[2:6, 2:6] = 1
    told = attention_figures(sample([20, 10, 60, 30]), prediction(cam))
    assert told.iou > 0.9


def test_a_blank_map_is_a_miss_and_is_counted():
    told = attention_figures(sample([0, 0, 80, 40]), prediction(np.zeros((8, 8))))
    assert told == AttentionFigures(pointing=0, energy=0, iou=0, blank=1)
    told = attention_figures(sample([0, 0, 80, 40], label=0), prediction(np.ones((8, 8))))
    assert told.blank == 1  # the map of the true class counts, not that of the top one


class Unasked:
    """Stands for a model; nothing can be asked of it."""

    card = ModelCard(
        name="unasked",
        version="1",
        labels=LABELS,
        preprocessing=Preprocessing(size=16, fit="pad", color="rgb"),
        accepts=Accepts(),
        temperature=1.0,
        operating_points=dict.fromkeys(LABELS, 0.5),
        license="none",
    )


def test_pictures_that_cannot_be_measured_are_named_all_at_once(tmp_path):
    items = []
    for name in ("more/1.png", "2.png"):
        path = tmp_path / Path(name).name
        path.write_bytes(b"\x89PNG\r\n\x1a\n")
        items.append(Sample(name, path, 0, "g"))

    words = r"2 pictures cannot be read: more/1\.png: .*PNG; 2\.png: .*PNG"
    with pytest.raises(DataError, match=words):
        classify_list(cast(Classifier, Unasked()), SampleList(LABELS, tuple(items)))


def test_intervals_hold_the_value_and_widen_with_fewer_patients():
    random = np.random.default_rng(0)
    many = figures(results(random, 400), resamples=200)["mean_class_accuracy"]
    few = figures(results(random, 60), resamples=200)["mean_class_accuracy"]
    for figure in (many, few):
        assert figure["low"] <= figure["value"] <= figure["high"]
    assert few["high"] - few["low"] > many["high"] - many["low"]


def test_of_a_perfect_score_a_share_has_its_exact_interval_and_what_is_no_share_has_none():
    measured = figures(results(np.random.default_rng(0), 40, skill=50.0), resamples=50)

    # of 20 patients, 4 of them with the rare class (Clopper & Pearson)
    assert measured["accuracy"] == {"value": 1, "low": round(0.025 ** (1 / 20), 4), "high": 1}
    rare = measured["per_class"]["rare"]
    assert rare["recall"] == {"value": 1, "low": round(0.025 ** (1 / 4), 4), "high": 1}
    for name in ("macro_f1", "macro_auroc"):
        assert measured[name] == {"value": 1, "low": None, "high": None}
    for name in ("f1", "auroc", "average_precision"):
        assert rare[name] == {"value": 1, "low": None, "high": None}
    assert "| macro f1 | 1.000 | - |" in markdown(measured)


def test_the_roc_curve_is_the_same_whatever_the_order_of_pictures_that_are_alike(tmp_path):
    told = results(np.random.default_rng(1), 60)
    told = replace(told, probabilities=told.probabilities.round(1))
    turned = replace(told, truth=told.truth[::-1], probabilities=told.probabilities[::-1])

    for name, each in (("one", told), ("other", turned)):
        plot_roc(each, tmp_path / f"{name}.png")

    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "other.png").read_bytes()


def test_a_class_without_pictures_has_no_figures_and_breaks_nothing():
    one = results(np.random.default_rng(0), 40)
    only = one.truth == 0
    part = Results(
        LABELS,
        tuple(np.array(one.names)[only]),
        one.truth[only],
        one.groups[only],
        one.probabilities[only],
    )
    measured = figures(part, resamples=20)
    assert measured["per_class"]["rare"]["recall"] is None
    assert "| rare | 0 | - |" in markdown(measured)


def test_the_reliability_diagram_has_an_interval_for_every_bin_with_pictures():
    told = results(np.random.default_rng(2), 400, skill=2.0)
    rows = figures(told, resamples=50)["reliability"]
    assert sum(row["pictures"] for row in rows) == 400
    assert rows[-1]["to"] == 1
    for row in rows:
        assert row["from"] <= row["probability"] <= row["to"]
        assert row["right"]["low"] <= row["right"]["value"] <= row["right"]["high"]
    assert rows[-1]["right"]["value"] > rows[0]["right"]["value"]


def test_the_report_says_what_operating_points_and_the_detector_of_strange_pictures_do():
    told = results(np.random.default_rng(2), 400, skill=2.0)
    known = np.arange(400) % 10 > 0
    measured = figures(
        replace(told, operating_points=np.array([0.0, 1.1]), in_distribution=known), resamples=20
    )
    common, rare = measured["per_class"].values()
    assert (common["sensitivity"]["value"], common["specificity"]["value"]) == (1, 0)
    assert (rare["sensitivity"]["value"], rare["specificity"]["value"]) == (0, 1)
    page = markdown(measured)
    assert "| rare | 0.000 (0.000 to 0.088) | 1.000 (0.977 to 1.000) |" in page
    assert "| like the training pictures | 0.900 | - |" in page
    assert "sensitivity" not in markdown(figures(told, resamples=20))


def test_a_report_is_read_back_as_it_was_written(tmp_path):
    told = results(np.random.default_rng(1), 40, attention=True)
    write_report(told, figures(told, resamples=20), tmp_path)
    back = read_predictions(tmp_path)
    assert (back.names, back.labels, back.attention) == (told.names, told.labels, told.attention)
    np.testing.assert_array_equal(back.truth, told.truth)
    np.testing.assert_array_equal(back.groups, told.groups)
    np.testing.assert_allclose(back.probabilities, told.probabilities, atol=1e-8)


@pytest.mark.parametrize("room", [100, 9000])
def test_a_report_that_finds_no_room_is_said_and_leaves_what_was_there(tmp_path, room):
    told = results(np.random.default_rng(1), 40, attention=True)
    measured = figures(told, resamples=20)
    write_report(told, measured, tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert any(len(content) > room for content in before.values())

    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, usual[1]))
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            write_report(told, measured, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)

    assert Path(caught.value.filename) in before
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_better_model_is_told_from_a_worse_one_whatever_the_order_of_rows():
    worse = results(np.random.default_rng(2), 400, skill=0.3, attention=True)
    better = results(np.random.default_rng(2), 400, skill=3.0, attention=True)
    order = np.random.default_rng(3).permutation(400)
    place = {int(old): new for new, old in enumerate(order)}
    shuffled = Results(
        LABELS,
        tuple(better.names[n] for n in order),
        better.truth[order],
        better.groups[order],
        better.probabilities[order],
        {place[row]: seen for row, seen in better.attention.items()},
    )
    told = compare(worse, shuffled, resamples=200)
    gain = told["figures"]["mean_class_accuracy"]
    assert gain["low"] > 0
    assert gain["difference"] == pytest.approx(gain["second"] - gain["first"], abs=2e-4)
    assert told["mcnemar"]["all"]["p"] < 0.01
    assert told["figures"]["attention pointing"]["difference"] == 0
    assert "of one patient or lesion for independent" in comparison_markdown(told)


def test_the_interval_of_a_difference_is_that_of_the_same_draws_for_both():
    random = np.random.default_rng(6)
    first, second = results(random, 100, skill=0.5), results(random, 100, skill=1.5)
    second = replace(second, truth=first.truth)

    told = compare(first, second, resamples=40, seed=3)["figures"]

    drawn = []
    for rows in resample(first.groups, 40, seed=3):
        if len(set(first.truth[rows])) == 2:
            found = [
                [
                    balanced_accuracy_score(each.truth[rows], each.probabilities[rows].argmax(1)),
                    roc_auc_score(each.truth[rows], each.probabilities[rows, 1]),
                ]
                for each in (first, second)
            ]
            drawn.append(np.subtract(*found[::-1]))
    ends = np.percentile(drawn, [2.5, 97.5], axis=0)
    for n, name in enumerate(("mean_class_accuracy", "macro_auroc")):
        assert (told[name]["low"], told[name]["high"]) == pytest.approx(tuple(ends[:, n]), abs=1e-6)


def test_draws_without_a_class_count_in_no_mean_over_classes():
    random = np.random.default_rng(0)
    first, second = results(random, 60, skill=0.5), results(random, 60, skill=1.5)
    truth = np.zeros(60, int)
    truth[:2] = 1  # one patient, missing from a third of the draws; found by the second alone
    first, second = (
        replace(one, truth=truth, probabilities=np.eye(2)[np.full(60, 0) if n == 0 else truth])
        for n, one in enumerate((first, second))
    )

    told = compare(first, second, resamples=100)["figures"]

    for name in ("mean_class_accuracy", "recall rare"):
        gain = 0.5 if name == "mean_class_accuracy" else 1
        assert told[name]["low"] == told[name]["high"] == told[name]["difference"] == gain


def test_attention_follows_its_pictures_into_the_other_order():
    random = np.random.default_rng(1)
    first = results(random, 40, attention=True)
    order = random.permutation(40)
    seen = {n: replace(each, energy=n / 40) for n, each in first.attention.items()}
    place = {int(old): new for new, old in enumerate(order)}
    only = {row: each for row, each in seen.items() if row >= 20}  # boxes of half of them
    second = Results(
        LABELS,
        tuple(first.names[n] for n in order),
        first.truth[order],
        first.groups[order],
        first.probabilities[order],
        {place[row]: each for row, each in only.items()},
    )

    told = compare(first, second, resamples=20)["figures"]["attention energy"]

    assert told["first"] == 0.25
    assert told["second"] == pytest.approx(np.mean([row / 40 for row in only]), abs=1e-6)


def test_mcnemar_is_the_exact_binomial_test():
    random = np.random.default_rng(4)
    first, second = results(random, 60, skill=1.0), results(random, 60, skill=1.5)
    told = mcnemar(first, second, np.ones(60, bool))
    only = (told["only_first"], told["only_second"])
    total, least = sum(only), min(only)
    tail = sum(comb(total, k) for k in range(least + 1)) / 2**total
    assert told["p"] == pytest.approx(min(1, 2 * tail), abs=1e-6)


def test_different_pictures_are_not_compared():
    random = np.random.default_rng(5)
    with pytest.raises(DataError, match="pictures differ"):
        compare(results(random, 40), results(random, 44))


def test_nothing_is_compared_of_a_class_without_pictures():
    random = np.random.default_rng(3)
    first, second = (
        replace(results(random, 40, skill), truth=np.zeros(40, int)) for skill in (0.5, 2.0)
    )

    told = compare(first, second, resamples=50)

    assert "recall common" in told["figures"]
    assert "recall rare" not in told["figures"]
    assert set(told["mcnemar"]) == {"all", "common"}
    json.loads(json.dumps(told, allow_nan=False))
    assert "nan" not in comparison_markdown(told)


def page(stage: str, text: str, tmp_path: Path) -> str:
    """The page of a model that a run's stage made; figures and lists are the shipped model's."""
    (tmp_path / "mine.toml").write_text(text)
    card = ModelCard.load(shipped_models() / "dermoscopy" / "card.json")
    card = replace(card, training=card.training | {"stage": stage})
    return card_page(card, TrainingRun.load(tmp_path / "mine.toml"))


@pytest.mark.parametrize("name", ["chest-xray", "dermoscopy"])
def test_a_shipped_models_page_says_what_its_card_says(name):
    card = ModelCard.load(shipped_models() / name / "card.json")
    run = TrainingRun.load(RUNS / f"{name}.toml")

    assert (shipped_models() / name / "README.md").read_text() == card_page(card, run)


@pytest.mark.parametrize(
    ("stage", "text", "words"),
    [
        ("stage1", "", "Stage 1 only: the classification loss alone"),
        (
            "stage2",
            "attention.attend = ['mel']",
            "then stage 2 with the CARE attention loss",
        ),
        ("stage2", "control.second_stage = true", "then stage 2 with the same, no attention loss"),
        (
            "crt",
            "crt.epochs = 2",
            "the classification loss alone, then the last layer",
        ),
        (
            "crt",
            "crt.epochs = 2\nattention.attend = ['mel']",
            "tau 0.5), then the last layer",
        ),
    ],
)
def test_a_page_tells_the_stages_that_were(tmp_path, stage, text, words):
    told = page(stage, text, tmp_path)

    assert words in told
    assert ("attention loss on the boxes" in told) == ("attend" in text)


def test_a_page_promises_no_terms_commands_or_patients_that_are_not_there(tmp_path):
    bare = page("stage1", "", tmp_path)
    full = page("stage1", "data.group_column = 'patient'\nmodel.license_file = 'L'", tmp_path)

    assert "in `LICENSE`" not in bare
    assert "To make it again" not in bare
    assert "Every picture stands for itself" in bare
    assert "The terms are in `LICENSE`" in full
    assert "All pictures of one patient are in one list" in full


@pytest.mark.parametrize(
    ("layout", "words"),
    [("folders", "Every picture stands for itself"), ("isic2018", "All pictures of one lesion")],
)
def test_a_page_says_what_stays_together_in_a_published_layout(tmp_path, layout, words):
    assert words in page("stage1", f"data.layout = '{layout}'", tmp_path)
