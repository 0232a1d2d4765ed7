"""Figures of a classifier, from labels and scores. NaN for a class that does not occur."""

import numpy as np
from scipy.stats import rankdata

from models.card import DIGITS

BINS = 15  # of the calibration error, as in Guo et al. 2017


def confusion_matrix(labels: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Pictures of class i called j, int64 (C, C)."""
    return np.bincount(labels * classes + predicted, minlength=classes**2).reshape(classes, classes)


def recalls(labels: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Share of each class's pictures that were found, float64 (C,)."""
    table = confusion_matrix(labels, predicted, classes)
    return _ratio(np.diag(table), table.sum(1))


def precisions(labels: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Share of the pictures called by each name that are of the class, (C,); NaN if none is."""
    table = confusion_matrix(labels, predicted, classes)
    return _ratio(np.diag(table), table.sum(0))


def f1_scores(labels: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """2 TP / (2 TP + FP + FN) per class, (C,)."""
    table = confusion_matrix(labels, predicted, classes)
    scores = _ratio(2 * np.diag(table), table.sum(0) + table.sum(1))
    return np.where(table.sum(1) > 0, scores, np.nan)


def mean_class_accuracy(labels: np.ndarray, scores: np.ndarray) -> float:
    """Mean recall over the classes present: the papers' MCA, also called balanced accuracy.

    Args:
        labels: True classes, (N,).
        scores: Logits or probabilities, (N, C).
    """
    return mean_over_classes(recalls(labels, scores.argmax(1), scores.shape[1]))


def mean_over_classes(values: np.ndarray) -> float:
    """Mean over the classes that have a value, (C,); NaN if none has."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")


def roc_areas(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Area under each class's one-against-rest ROC curve, (C,), from ranks (Mann-Whitney)."""
    ranks = rankdata(scores, axis=0)
    of_class = labels[:, None] == np.arange(scores.shape[1])
    positives = of_class.sum(0)
    surplus = (ranks * of_class).sum(0) - positives * (positives + 1) / 2
    return _ratio(surplus, positives * (len(labels) - positives))


def at_operating_points(
    labels: np.ndarray, probabilities: np.ndarray, points: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Sensitivity and specificity of "found": a probability, as published, at or above the point.

    Several classes of a picture may be found, or none; each is judged against the rest.

    Args:
        labels: True classes, (N,).
        probabilities: Calibrated, (N, C).
        points: The classes' operating points, (C,).

    Returns:
        Share of a class's pictures in which it is found, and of the others in which it is not, (C,)
        each.
    """
    found = probabilities.round(DIGITS) >= points
    of_class = labels[:, None] == np.arange(len(points))
    sensitivity = _ratio((found & of_class).sum(0), of_class.sum(0))
    return sensitivity, _ratio((~found & ~of_class).sum(0), (~of_class).sum(0))


def average_precision(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Precision averaged over the recall steps, per class against the rest, (C,)."""
    areas = np.full(scores.shape[1], np.nan)
    for label in range(scores.shape[1]):
        order = np.argsort(-scores[:, label], kind="stable")
        hits = labels[order] == label
        if hits.any():
            # equal scores cannot be told apart: all of them come in at once
            last = np.flatnonzero(np.diff(scores[order, label], append=-np.inf))
            found = np.cumsum(hits)[last]
            areas[label] = (np.diff(found, prepend=0) * found / (last + 1)).sum() / hits.sum()
    return areas


def calibration_error(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Expected calibration error of the top label, 15 bins (Guo et al. 2017, equation 3)."""
    number, sure, right = reliability(labels, probabilities, BINS)
    return float(np.nansum(number * np.abs(right - sure)) / len(labels))


def reliability(
    labels: np.ndarray, probabilities: np.ndarray, bins: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A reliability diagram of the top label (Guo et al. 2017, section 2).

    Args:
        labels: True classes, (N,).
        probabilities: (N, C).
        bins: How many of equal width, from 0 to 1.

    Returns:
        Per bin the pictures whose top probability lies in it, the mean of it, and the share of them
        that the top label is right for, each (bins,); the latter two NaN where there are none.
    """
    confidence = probabilities.max(1)
    correct = probabilities.argmax(1) == labels
    which = reliability_bins(probabilities, bins)
    number, sure, right = (
        np.bincount(which, weights, bins) for weights in (None, confidence, correct)
    )
    return number, _ratio(sure, number), _ratio(right, number)


def reliability_bins(probabilities: np.ndarray, bins: int) -> np.ndarray:
    """In which of so many bins of equal width each picture's top probability lies, int (N,)."""
    return np.minimum((probabilities.max(1) * bins).astype(int), bins - 1)


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(np.shape(part), np.nan), where=np.asarray(whole) > 0)
