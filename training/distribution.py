"""Statistics of the embedding: they tell what is unlike the training pictures."""

import numpy as np

from models.distribution import Distribution

KEPT = 0.95  # share of the validation pictures that count as like the training pictures
DIRECTIONS = 128  # principal directions kept, at most


def fit_distribution(
    embeddings: np.ndarray, labels: np.ndarray, validation: np.ndarray
) -> Distribution:
    """Fit class means and one covariance for all (Lee et al. 2018), and the threshold.

    Args:
        embeddings: Of the training list, (N, K); every class occurs.
        labels: Their classes, (N,).
        validation: Embeddings of the validation list, (M, K).
    """
    embeddings = embeddings.astype(np.float64)
    center = embeddings.mean(0)
    means = np.stack([embeddings[labels == n].mean(0) for n in range(labels.max() + 1)]) - center
    within = embeddings - center - means[labels]
    variances, directions = np.linalg.eigh(within.T @ within / len(within))
    kept = min(DIRECTIONS, len(variances) - 1, len(within) - 1)
    # The smallest variances are estimated from next to nothing: one for all of them is steadier.
    rest = max(float(variances[:-kept].mean()), 1e-6 * float(variances[-1]), 1e-12)
    fitted = {
        "center": center,
        "basis": directions[:, -kept:],
        "variances": np.maximum(variances[-kept:], rest),
        "rest": np.array(rest),
        "means": means,
    }
    fitted = {name: values.astype(np.float32) for name, values in fitted.items()}
    distances = Distribution(**fitted, threshold=np.array(np.inf)).distance(validation)
    return Distribution(**fitted, threshold=np.array(np.quantile(distances, KEPT), np.float32))
