"""How far a figure is to be believed: draws of whole patients or lesions, and intervals of them."""

from collections.abc import Callable, Iterable, Sequence

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


def estimate(
    measure: Callable[[np.ndarray], np.ndarray],
    groups: np.ndarray,
    counted: Sequence[int] | np.ndarray,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Figures of a list, and the 95 % interval of each by a bootstrap over groups.

    Args:
        measure: From rows of the list, of which some come several times, to figures (K,).
        groups: Patient or lesion of each row, (N,).
        counted: Of how many groups each figure is a share, (K,); 0 for one that is no share.
        resamples: Draws.
        seed: Of the draws.

    Returns:
        Values, lower and upper ends, (K,) each; NaN where there is none. The ends of a share that
        is 0 or 1 in every draw are those of Clopper & Pearson (1934).
    """
    values = measure(np.arange(len(groups)))
    low, high = interval(np.array([measure(rows) for rows in resample(groups, resamples, seed)]))
    counted = np.asarray(counted)
    slack = 1 - 0.025 ** (1 / np.maximum(counted, 1))
    alike = (low == high) & (counted > 0)
    low = np.where(alike & (values == 1), 1 - slack, low)
    return values, low, np.where(alike & (values == 0), slack, high)


def mean_of(table: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """What `estimate` measures where figures are means of a table's columns, (N, K)."""
    return lambda rows: table[rows].mean(0)


def interval(drawn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """2.5th and 97.5th percentile of each column of (draws, figures); NaN for a column of NaN."""
    low, high = np.full((2, drawn.shape[1]), np.nan)
    known = ~np.isnan(drawn).all(0)
    low[known], high[known] = np.nanpercentile(drawn[:, known], [2.5, 97.5], axis=0)
    return low, high
