"""How far a figure is to be believed: draws of whole patients or lesions, and intervals of them."""

from collections.abc import Iterable, Sequence

import numpy as np

RESAMPLES = 1000


def resample(groups: np.ndarray, times: int, seed: int) -> Iterable[np.ndarray]:
    """Draw whole groups with replacement; yields the rows of each draw."""
    members = rows_of_groups(groups, np.unique(groups))
    for pick in draw_groups(len(members), times, seed):
        yield np.concatenate([members[n] for n in pick])


def draw_groups(count: int, times: int, seed: int) -> Iterable[np.ndarray]:
    """Draw as many of so many groups as there are, with replacement; yields their positions."""
    random = np.random.default_rng(seed)
    for _ in range(times):
        yield random.integers(0, count, count)


def rows_of_groups(groups: np.ndarray, wanted: np.ndarray) -> list[np.ndarray]:
    """The rows of each wanted group, in order; none for one that is not there.

    Args:
        groups: Group of each row, (N,).
        wanted: Groups, each once.
    """
    order = np.argsort(groups, kind="stable")
    starts, ends = (np.searchsorted(groups[order], wanted, side) for side in ("left", "right"))
    return [order[start:end] for start, end in zip(starts, ends, strict=True)]


def holds_every_class(drawn: np.ndarray, truth: np.ndarray) -> bool:
    """Whether the true classes of a draw are all those of the list."""
    return len(np.unique(drawn)) == len(np.unique(truth))


def exact_at_ends(
    values: np.ndarray, low: np.ndarray, high: np.ndarray, counted: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Intervals of shares; exact ones where a share is 0 or 1 in every draw.

    Args:
        values: Shares, (K,).
        low: Lower ends by the bootstrap, (K,).
        high: Upper ends.
        counted: How many groups each is a share of.

    Returns:
        Lower and upper ends; of 0 and 1 as Clopper & Pearson (1934) have them.
    """
    slack = 1 - 0.025 ** (1 / np.maximum(counted, 1))
    alike = low == high
    low = np.where(alike & (values == 1), 1 - slack, low)
    return low, np.where(alike & (values == 0), slack, high)


def interval(drawn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """2.5th and 97.5th percentile of each column of (draws, figures); NaN for a column of NaN."""
    low, high = np.full((2, drawn.shape[1]), np.nan)
    known = ~np.isnan(drawn).all(0)
    low[known], high[known] = np.nanpercentile(drawn[:, known], [2.5, 97.5], axis=0)
    return low, high
