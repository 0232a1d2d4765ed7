"""Figures against scikit-learn; the bootstrap, the temperature and the operating points."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import binomtest
from sklearn import metrics as sklearn
from sklearn.calibration import calibration_curve

from tests.training.tiny import softmax
from training import metrics
from training.bootstrap import resample
from training.calibrate import fit_temperature, operating_points
from training.evaluate import AttentionFigures, Results
from training.figures import figures
from training.figures_page import markdown

CLASSES = 4


def answers(seed: int, *, count: int = 60, levels: int | None = None) -> tuple:
    """Labels and better-than-chance probabilities; with few levels, many of them are equal."""
    random = np.random.default_rng(seed)
    labels = random.choice(CLASSES, count, p=[0.6, 0.2, 0.15, 0.05])
    labels[:CLASSES] = range(CLASSES)
    scores = softmax(random.normal(size=(count, CLASSES)) + 1.2 * np.eye(CLASSES)[labels])
    if levels:
        scores = np.round(scores * levels) / levels
    return labels, scores


@pytest.mark.parametrize("levels", [None, 5])
@pytest.mark.parametrize("seed", range(4))
def test_figures_per_class_are_those_of_scikit_learn(seed, levels):
    labels, scores = answers(seed, levels=levels)
    called = scores.argmax(1)
    precision, recall, f1, _ = sklearn.precision_recall_fscore_support(
        labels, called, labels=range(CLASSES), zero_division=np.nan
    )
    absent = np.bincount(called, minlength=CLASSES) == 0

    found_precision = metrics.precisions(labels, called, CLASSES)
    np.testing.assert_allclose(metrics.recalls(labels, called, CLASSES), recall)
    np.testing.assert_allclose(found_precision[~absent], precision[~absent])
    assert np.isnan(found_precision[absent]).all()
    np.testing.assert_allclose(
        metrics.f1_scores(labels, called, CLASSES), np.nan_to_num(f1), atol=1e-12
    )
    np.testing.assert_array_equal(
        metrics.confusion_matrix(labels, called, CLASSES),
        sklearn.confusion_matrix(labels, called, labels=range(CLASSES)),
    )
    assert metrics.mean_class_accuracy(labels, scores) == pytest.approx(
        sklearn.balanced_accuracy_score(labels, called)
    )


@pytest.mark.parametrize("levels", [None, 5])
@pytest.mark.parametrize("seed", range(4))
def test_areas_are_those_of_scikit_learn_also_with_equal_scores(seed, levels):
    labels, scores = answers(seed, levels=levels)

    for label in range(CLASSES):
        one, score = labels == label, scores[:, label]
        assert metrics.roc_areas(labels, scores)[label] == pytest.approx(
            sklearn.roc_auc_score(one, score)
        )
        assert metrics.average_precision(labels, scores)[label] == pytest.approx(
            sklearn.average_precision_score(one, score)
        )


def test_a_class_that_does_not_occur_has_no_figures_and_does_not_count():
    labels, scores = answers(0)
    kept = labels != 2
    labels, scores = labels[kept], scores[kept]

    for found in (
        metrics.recalls(labels, scores.argmax(1), CLASSES),
        metrics.f1_scores(labels, scores.argmax(1), CLASSES),
        metrics.roc_areas(labels, scores),
        metrics.average_precision(labels, scores),
    ):
        np.testing.assert_array_equal(np.isnan(found), [False, False, True, False])
    recalls = metrics.recalls(labels, scores.argmax(1), CLASSES)
    assert metrics.mean_class_accuracy(labels, scores) == pytest.approx(recalls[[0, 1, 3]].mean())


def test_sensitivity_and_specificity_at_the_operating_points_are_those_of_scikit_learn():
    labels, scores = answers(1)
    points = np.array([0.1, 0.4, 0.3, 0.9])
    points[0] = scores[5, 0]  # a probability at the point itself counts as found

    sensitivity, specificity = metrics.at_operating_points(labels, scores, points)

    for label in range(CLASSES):
        found = scores[:, label] >= points[label]
        for share, of_class in ((sensitivity, True), (specificity, False)):
            expected = sklearn.recall_score(labels == label, found, pos_label=of_class)
            assert share[label] == pytest.approx(expected)
    kept = labels != 2
    without = metrics.at_operating_points(labels[kept], scores[kept], points)
    assert np.isnan(without[0][2])
    assert not np.isnan(without[1]).any()


def test_what_is_found_on_a_list_is_what_the_service_finds():
    scores = np.array([[0.3000004, 0.6999996], [0.2999996, 0.7000004], [0.2999994, 0.7000006]])
    points = np.array([0.3, 0.700001])

    sensitivity, specificity = metrics.at_operating_points(np.array([0, 0, 1]), scores, points)

    assert sensitivity.tolist() == [1, 1]
    assert specificity.tolist() == [1, 1]


@pytest.mark.parametrize("seed", range(3))
def test_the_calibration_error_is_that_of_its_definition(seed):
    labels, scores = answers(seed, count=300)

    expected = 0.0
    for low in np.arange(15) / 15:
        chosen = (scores.max(1) > low) & (scores.max(1) <= low + 1 / 15)
        if chosen.any():
            accuracy = (scores.argmax(1) == labels)[chosen].mean()
            expected += chosen.mean() * abs(accuracy - scores.max(1)[chosen].mean())
    assert metrics.calibration_error(labels, scores) == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(3))
def test_the_reliability_diagram_is_that_of_scikit_learn(seed):
    labels, scores = answers(seed, count=300)
    sure, correct = scores.max(1), scores.argmax(1) == labels

    number, probability, right = metrics.reliability(labels, scores, 10)

    expected_right, expected_probability = calibration_curve(correct, sure, n_bins=10)
    np.testing.assert_allclose(probability[number > 0], expected_probability)
    np.testing.assert_allclose(right[number > 0], expected_right)
    np.testing.assert_array_equal(number, np.histogram(sure, 10, (0, 1))[0])
    assert np.isnan(right[number == 0]).all()


def test_certainty_that_is_right_is_calibrated_and_certainty_that_is_wrong_is_not():
    labels = np.array([0, 1, 1, 0])
    certain = np.eye(2)[labels]

    assert metrics.calibration_error(labels, certain) == 0
    assert metrics.calibration_error(1 - labels, certain) == 1


def test_the_bootstrap_draws_whole_groups():
    groups = np.array([3, 1, 3, 0, 1, 3, 2])

    drawn = list(resample(groups, 200, seed=0))

    for rows in drawn:
        times = np.bincount(rows, minlength=7)
        for group in range(4):
            assert len(set(times[groups == group])) == 1  # all of its pictures equally often
        assert sum(times[[3, 1, 6, 0]]) == 4  # as many groups as there are
    assert {len(rows) for rows in drawn} > {7}  # so the pictures vary in number
    again = list(resample(groups, 200, seed=0))
    assert all((one == other).all() for one, other in zip(drawn, again, strict=True))


def test_intervals_over_patients_are_wider_than_over_pictures_where_patients_repeat():
    labels, scores = answers(0, count=40)
    labels, scores = np.repeat(labels, 6), np.repeat(scores, 6, axis=0)
    widths = {}
    for groups in (np.repeat(np.arange(40), 6), np.arange(240)):
        results = Results(tuple("abcd"), ("",) * 240, labels, groups, scores)
        found = figures(results, resamples=300)["accuracy"]
        assert found["low"] < found["value"] < found["high"]
        widths[len(np.unique(groups))] = found["high"] - found["low"]

    assert widths[40] / widths[240] == pytest.approx(np.sqrt(6), rel=0.25)


def test_the_interval_is_that_of_the_percentile_bootstrap():
    labels, scores = answers(1, count=80)
    groups = np.arange(80) // 2
    results = Results(tuple("abcd"), ("",) * 80, labels, groups, scores)

    found = figures(results, resamples=200, seed=3)

    drawn = [
        sklearn.balanced_accuracy_score(labels[rows], scores[rows].argmax(1))
        for rows in resample(groups, 200, seed=3)
    ]
    low, high = np.percentile(drawn, [2.5, 97.5])
    assert found["mean_class_accuracy"]["low"] == pytest.approx(low, abs=1e-4)
    assert found["mean_class_accuracy"]["high"] == pytest.approx(high, abs=1e-4)
    assert found["groups"] == 40
    assert found["pictures"] == 80
    assert found["macro_f1"]["value"] == pytest.approx(
        sklearn.f1_score(labels, scores.argmax(1), average="macro"), abs=1e-4
    )


def test_a_share_of_none_or_all_has_the_exact_interval_of_its_patients():
    labels = np.repeat([0, 1], [46, 6])  # two pictures of each patient
    scores = np.eye(2)[np.zeros(52, int)]  # all of them called the first

    found = figures(Results(("a", "b"), ("",) * 52, labels, np.arange(52) // 2, scores))

    for label, hits, patients in (("a", 23, 23), ("b", 0, 3)):
        exact = binomtest(hits, patients).proportion_ci(method="exact")
        recall = found["per_class"][label]["recall"]
        assert (recall["low"], recall["high"]) == pytest.approx(tuple(exact), abs=1e-4)
    mean = found["mean_class_accuracy"]
    assert mean["value"] == 0.5
    assert mean["low"] < 0.5 < mean["high"]


def exact_low(patients: int) -> float:
    """The lower end where all of so many have it."""
    return binomtest(patients, patients).proportion_ci(method="exact").low


def test_a_precision_of_all_has_the_exact_interval_of_those_called_so():
    labels = np.repeat([0, 1], [46, 40])  # two pictures of each patient
    called = labels.copy()
    called[:6] = 1  # three patients of the first class are called the second
    results = Results(("a", "b"), ("",) * 86, labels, np.arange(86) // 2, np.eye(2)[called])

    found = figures(results, resamples=50)["per_class"]

    assert found["a"]["precision"]["low"] == pytest.approx(exact_low(20), abs=1e-4)
    assert found["b"]["recall"]["low"] == pytest.approx(exact_low(20), abs=1e-4)


def test_a_specificity_of_all_has_the_exact_interval_of_the_others():
    labels = np.repeat([0, 1], [46, 10])
    results = Results(
        ("a", "b"),
        ("",) * 56,
        labels,
        np.arange(56) // 2,
        np.eye(2)[labels],
        operating_points=np.array([0.5, 0.5]),
    )

    found = figures(results, resamples=50)["per_class"]

    for label, own, others in (("a", 23, 5), ("b", 5, 23)):
        assert found[label]["sensitivity"]["low"] == pytest.approx(exact_low(own), abs=1e-4)
        assert found[label]["specificity"]["low"] == pytest.approx(exact_low(others), abs=1e-4)


def test_a_bin_that_is_always_right_has_the_exact_interval_of_its_patients():
    labels = np.zeros(60, int)
    sure = np.repeat([0.75, 0.95], [24, 36])
    results = Results(
        ("a", "b"), ("",) * 60, labels, np.arange(60) // 3, np.stack([sure, 1 - sure], 1)
    )

    low, high = figures(results, resamples=50)["reliability"]

    assert (low["pictures"], high["pictures"]) == (24, 36)
    assert low["right"]["low"] == pytest.approx(exact_low(8), abs=1e-4)
    assert high["right"]["low"] == pytest.approx(exact_low(12), abs=1e-4)


def test_attention_is_told_of_each_class_and_its_patients_stay_together():
    labels = np.repeat([0, 1], [40, 20])
    seen = {
        n: AttentionFigures(pointing=1.0, energy=float(n // 4 % 2), iou=0.1 * label, blank=0.0)
        for n, label in enumerate(labels)
        if n % 2
    }
    results = Results(
        ("a", "b"), ("",) * 60, labels, np.arange(60) // 4, np.eye(2)[labels], attention=seen
    )

    found = figures(results, resamples=200)["attention"]

    assert [found[label]["pictures"] for label in ("all", "a", "b")] == [30, 20, 10]
    assert [found[label]["iou"]["value"] for label in ("a", "b")] == [0, 0.1]
    for label, patients in (("all", 15), ("a", 10), ("b", 5)):
        assert found[label]["pointing"]["low"] == pytest.approx(exact_low(patients), abs=1e-4)
    # a mean over ten patients of 0 or 1, not over twenty pictures
    width = found["a"]["energy"]["high"] - found["a"]["energy"]["low"]
    assert width == pytest.approx(2 * 1.96 * np.sqrt(0.25 / 10), abs=0.12)


def test_the_seed_says_which_draws():
    groups = np.arange(30)

    drawn = [np.concatenate(list(resample(groups, 5, seed=seed))) for seed in (0, 1, 1)]

    assert (drawn[0] != drawn[1]).any()
    np.testing.assert_array_equal(drawn[1], drawn[2])


def test_means_over_classes_are_those_of_draws_that_hold_every_class():
    labels = np.repeat([0, 1, 2], [30, 30, 2])
    scores = np.eye(3)[np.where(labels == 2, 0, labels)]  # the third is never found
    scores[0] = scores[-3]  # nor is the first, once
    groups = np.where(labels == 2, 61, np.arange(62))  # and is one patient's

    found = figures(Results(tuple("abc"), ("",) * 62, labels, groups, scores))

    assert found["mean_class_accuracy"]["high"] <= 0.6667


def test_the_calibration_error_has_no_interval():
    labels, scores = answers(0)

    found = figures(Results(tuple("abcd"), ("",) * 60, labels, np.arange(60), scores))

    error = found["calibration_error"]
    assert error["low"] is error["high"] is None
    assert f"| calibration error | {error['value']:.3f} | - |" in markdown(found)


@pytest.mark.parametrize("scale", [0.25, 1.0, 3.0])
def test_the_temperature_undoes_a_known_scale(scale):
    random = np.random.default_rng(0)
    logits = random.normal(0, 2, (20000, 3))
    chances = softmax(logits)
    labels = (random.random((20000, 1)) > chances.cumsum(1)).sum(1)

    assert fit_temperature(labels, scale * logits) == pytest.approx(scale, rel=0.05)


def test_the_temperature_is_the_minimum_that_another_method_finds():
    labels, scores = answers(2, count=200)
    logits = np.log(scores) * 2.5

    def cost(log_temperature):
        probabilities = softmax(logits / np.exp(log_temperature[0]))
        return sklearn.log_loss(labels, probabilities, labels=range(CLASSES))

    best = np.exp(minimize(cost, [0.0], method="Nelder-Mead").x[0])
    assert fit_temperature(labels, logits) == pytest.approx(best, rel=1e-3)


def test_a_list_without_a_mistake_leaves_the_temperature_alone():
    labels = np.array([0, 1, 2, 1])

    assert fit_temperature(labels, 5.0 * np.eye(3)[labels]) == 1


@pytest.mark.parametrize("levels", [None, 10])
@pytest.mark.parametrize("seed", range(4))
def test_operating_points_reach_the_best_youden_index_of_scikit_learn(seed, levels):
    labels, scores = answers(seed, levels=levels)

    points = operating_points(labels, scores)

    for label, point in enumerate(points):
        false_alarms, hits, _ = sklearn.roc_curve(labels == label, scores[:, label])
        called = scores[:, label] >= point
        sensitivity = sklearn.recall_score(labels == label, called)
        specificity = sklearn.recall_score(labels != label, ~called)
        best = (hits - false_alarms)[1:].max()
        assert sensitivity + specificity - 1 == pytest.approx(best)
        # halfway between the two neighbours: rounding moves neither across
        assert np.abs(scores[:, label] - point).min() > 1e-9
        assert 0 < point < 1


@pytest.mark.parametrize(
    ("rare", "others", "point"),
    [
        (3e-7, 1e-7, 1e-6),  # as published, both are 0: never found, not always
        (1e-6, 1e-7, 1e-6),
        (4e-6, 2e-6, 3e-6),
        (3e-6, 2e-6, 3e-6),  # nothing lies between
        (1.0, 0.999999, 1.0),
    ],
)
def test_an_operating_point_tells_apart_what_is_published_apart(rare, others, point):
    labels = np.array([0, 0, 0, 1, 1])
    column = np.array([others] * 3 + [rare] * 2)

    points = operating_points(labels, np.stack([1 - column, column], 1))

    assert points[1] == pytest.approx(point, abs=1e-12)
    assert points[1] == round(points[1], 6)
    found = metrics.at_operating_points(labels, np.stack([1 - column, column], 1), np.array(points))
    assert found[1][1] == 1
    assert found[0][1] == float(rare >= 1e-6)
