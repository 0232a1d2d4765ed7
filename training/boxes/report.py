"""How far boxes made by machine are from drawn ones, with intervals."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from training.bootstrap import RESAMPLES, interval, resample
from training.data.pictures import facts_of
from training.data.samples import SampleList, check_boxes
from training.data.tables import read_boxes, read_made_boxes, read_rows
from training.errors import DataError
from training.markdown import table

WHOLE = 0.99
"""Share of a drawn box from which on it counts as wholly covered: files hold tenths of a pixel."""


class Fit(NamedTuple):
    """How one picture's made boxes fit its drawn ones.

    Attributes:
        iou: Of the area in any made box and the area in any drawn one.
        covered: Share of the drawn area that lies in made boxes.
        precise: Share of the made area that lies in drawn boxes.
        area: Made area as a share of the picture.
        whole: How many drawn boxes are covered wholly.
        drawn: How many there are.
    """

    iou: float
    covered: float
    precise: float
    area: float
    whole: int
    drawn: int


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """One list of made boxes against drawn ones.

    Attributes:
        method: As the list names it.
        names: Pictures that have both, sorted.
        fits: One per picture.
        fallbacks: How many of these pictures got a fallback.
    """

    method: str
    names: tuple[str, ...]
    fits: tuple[Fit, ...]
    fallbacks: int


def compare_boxes(
    made: Path, drawn: Path, samples: SampleList, *, leave_out: Path | None = None
) -> Comparison:
    """Compare made boxes with drawn ones, on the pictures that have both.

    Args:
        made: CSV of made boxes, with or without method and confidence.
        drawn: CSV of drawn boxes.
        samples: The pictures, for their sizes.
        leave_out: CSV with a column `image`: pictures not to compare on.

    Raises:
        DataError: A list cannot be read, the lists have no picture in common, or a box leaves its
            picture.
    """
    found, wanted = read_made_boxes(made), read_boxes(drawn)
    skipped = {row["image"] for row in read_rows(leave_out, "image")} if leave_out else set()
    chosen = samples.subset((set(found.boxes) & set(wanted)) - skipped)
    if not chosen.samples:
        raise DataError(f"{made.name} and {drawn.name} have no picture in common")
    fits = {}
    for item in chosen.samples:
        facts = facts_of(item)
        size = facts.width * facts.height
        for path, boxes in ((made, found.boxes), (drawn, wanted)):
            name = f"{path.name}: {item.name}"
            check_boxes(name, boxes[item.name], facts.width, facts.height)
        fits[item.name] = fit_of(found.boxes[item.name], wanted[item.name], size)
    names = tuple(sorted(fits))
    return Comparison(
        method=next(reversed(found.methods.values())),
        names=names,
        fits=tuple(fits[name] for name in names),
        fallbacks=sum(0 in found.confidences[name] for name in names),
    )


def fit_of(made: np.ndarray, drawn: np.ndarray, size: float) -> Fit:
    """Compare boxes [x0, y0, x1, y1], (K, 4) and (M, 4), of a picture of `size` pixels."""
    both = np.concatenate([made, drawn])
    mine, theirs, either = area_of(made), area_of(drawn), area_of(both)
    shared = mine + theirs - either
    covers = [(mine + area_of(box[None]) - area_of(np.vstack([made, box]))) for box in drawn]
    whole = sum(
        cover >= WHOLE * area_of(box[None]) for cover, box in zip(covers, drawn, strict=True)
    )
    return Fit(shared / either, shared / theirs, shared / mine, mine / size, int(whole), len(drawn))


def area_of(boxes: np.ndarray) -> float:
    """Area that lies in any of the boxes [x0, y0, x1, y1], (M, 4), exactly."""
    x, y = (np.unique(boxes[:, [axis, axis + 2]]) for axis in (0, 1))
    inside = np.zeros((len(y) - 1, len(x) - 1), bool)
    for x0, y0, x1, y1 in boxes:
        inside |= ((y[:-1] >= y0) & (y[1:] <= y1))[:, None] & ((x[:-1] >= x0) & (x[1:] <= x1))
    return float(np.diff(y) @ inside @ np.diff(x))


HEAD = (
    "method",
    "pictures",
    "mean IoU",
    "median IoU",
    "IoU above 0.5",
    "drawn area covered",
    "drawn boxes covered wholly",
    "made area inside drawn",
    "made area of the picture",
    "fallbacks",
)


def markdown(comparisons: Sequence[Comparison], *, seed: int = 0) -> str:
    """A table with a row per list of made boxes, for people.

    95 % intervals are percentiles of a bootstrap over pictures.
    """
    lines = []
    for one in comparisons:
        fits = np.array(one.fits, float)
        draws = resample(np.arange(len(fits)), RESAMPLES, seed)
        low, high = interval(np.array([_figures(fits[rows]) for rows in draws]))
        cells = [
            f"{value:.3f} ({start:.3f} to {end:.3f})"
            for value, start, end in zip(_figures(fits), low, high, strict=True)
        ]
        lines.append([one.method, str(len(fits)), *cells, str(one.fallbacks)])
    return table(HEAD, lines) + "\n"


EXPLANATION = f"""\
Each picture counts once; IoU and shares are of the area in any of its boxes. A drawn box counts as
covered wholly from {WHOLE:.0%} of its area on. In brackets: 95 % intervals, percentiles of
{RESAMPLES} bootstrap draws over pictures. A fallback is a box in the middle, or around the lungs,
where nothing was found.
"""


def report(comparisons: Sequence[Comparison], drawn: Path, command: str) -> str:
    """The table as a page that says where it comes from."""
    boxes = sum(fit.drawn for fit in comparisons[0].fits)
    return (
        f"# Boxes made by machine, against {drawn.name}\n\n"
        f"```bash\n{command}\n```\n\n"
        f"{len(comparisons[0].names)} pictures with {boxes} drawn boxes.\n\n"
        f"{markdown(comparisons)}\n{EXPLANATION}"
    )


def _figures(fits: np.ndarray) -> np.ndarray:
    """The table's figures from the fits of some pictures, (N, 6)."""
    iou, covered, precise, area, whole, drawn = fits.T
    return np.array(
        [
            iou.mean(),
            np.median(iou),
            (iou > 0.5).mean(),
            covered.mean(),
            whole.sum() / drawn.sum(),
            precise.mean(),
            area.mean(),
        ]
    )
