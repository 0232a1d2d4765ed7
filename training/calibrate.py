"""What turns logits into probabilities and probabilities into findings; fitted on validation."""

import numpy as np
from scipy.optimize import minimize_scalar
from sklearn.metrics import roc_curve

from models.card import DIGITS
from models.classifier import softmax


def fit_temperature(labels: np.ndarray, logits: np.ndarray) -> float:
    """The temperature that makes the true labels most likely (Guo et al. 2017, section 4.2).

    Args:
        labels: True classes, (N,).
        logits: (N, C).

    Returns:
        A temperature in [0.05, 20]; 1 where every label is right, for then the likelihood grows
        the colder it gets, and such a list does not say how sure to be.
    """
    if (logits.argmax(1) == labels).all():
        return 1.0

    def cost(log_temperature: float) -> float:
        probabilities = softmax(logits.astype(np.float64) / np.exp(log_temperature))
        return float(-np.log(probabilities[np.arange(len(labels)), labels] + 1e-12).mean())

    fitted = minimize_scalar(cost, bounds=(np.log(0.05), np.log(20)), method="bounded")
    return float(np.exp(fitted.x))


def operating_points(labels: np.ndarray, probabilities: np.ndarray) -> list[float]:
    """Per class, the probability that best tells it from the rest, as probabilities are published.

    Best by Youden's index, sensitivity + specificity - 1; halfway between the two pictures that
    the threshold separates, so that processors that differ do not move either across.

    Args:
        labels: True classes, (N,); every class occurs.
        probabilities: Calibrated, (N, C).

    Returns:
        One threshold per class, in (0, 1], of `DIGITS` decimals: at 0 all would be found.
    """
    points = []
    probabilities = probabilities.round(DIGITS)
    for label in range(probabilities.shape[1]):
        scores = probabilities[:, label]
        false_alarms, hits, thresholds = roc_curve(labels == label, scores)
        best = thresholds[1:][np.argmax((hits - false_alarms)[1:])]
        below = scores[scores < best].max(initial=0)
        halfway = round(float(best + below) / 2, DIGITS)
        points.append(max(halfway if halfway > below else float(best), 10**-DIGITS))
    return points
