"""Figures of a classifier, from labels and logits or probabilities."""

import numpy as np


def recalls(labels: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Share of each class's pictures that were found, float64 (C,); NaN for a class without any."""
    counts = np.bincount(labels, minlength=classes)
    hits = np.bincount(labels[labels == predicted], minlength=classes)
    with np.errstate(invalid="ignore"):
        return hits / counts


def mean_class_accuracy(labels: np.ndarray, scores: np.ndarray) -> float:
    """Mean recall over the classes present: the papers' MCA, also called balanced accuracy.

    Args:
        labels: True classes, (N,).
        scores: Logits or probabilities, (N, C).
    """
    return float(np.nanmean(recalls(labels, scores.argmax(1), scores.shape[1])))
