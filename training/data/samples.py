"""What is known of a picture before it is opened."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from training.errors import DataError

BOX_SLACK = 1.0  # pixels that rounding may put a box over the border


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """One labelled picture.

    Attributes:
        name: Path of the picture below the images folder, POSIX; its key in every list.
        path: Where it lies.
        label: Index of its class.
        group: What it must stay together with in splits: patient or lesion.
        boxes: Lesion boxes [x0, y0, x1, y1] in picture pixels, float64 (M, 4); M may be 0.
    """

    name: str
    path: Path
    label: int
    group: str
    boxes: np.ndarray = field(default_factory=lambda: np.zeros((0, 4)))


@dataclass(frozen=True, slots=True, eq=False)
class SampleList:
    """All pictures of a data set, and what their labels mean.

    Attributes:
        labels: Class names in the order of the logits.
        samples: The pictures, in the order of their list.
    """

    labels: tuple[str, ...]
    samples: tuple[Sample, ...]

    def counts(self) -> np.ndarray:
        """Pictures per class, int64 (C,)."""
        counter = Counter(sample.label for sample in self.samples)
        return np.array([counter[label] for label in range(len(self.labels))])

    def subset(self, names: set[str]) -> "SampleList":
        """The pictures of these names, in the same order."""
        return SampleList(self.labels, tuple(item for item in self.samples if item.name in names))


def scale_boxes(boxes: np.ndarray, scale: float) -> np.ndarray:
    """Scale boxes [x0, y0, x1, y1] (M, 4) about their own centers."""
    centers = np.tile((boxes[:, :2] + boxes[:, 2:]) / 2, 2)
    return centers + (boxes - centers) * scale


def check_boxes(name: str, boxes: np.ndarray, width: int, height: int) -> None:
    """See that boxes lie in their picture; one may reach over the border by a pixel's rounding.

    Args:
        name: Of the picture.
        boxes: [x0, y0, x1, y1] in its pixels, (M, 4).
        width: Its columns.
        height: Its rows.

    Raises:
        DataError: A box lies outside its picture, or reaches over its border.
    """
    if len(boxes):
        low, high = boxes[:, :2].min(), (boxes[:, 2:] - [width, height]).max()
        if low < -BOX_SLACK or high > BOX_SLACK:
            raise DataError(
                f"{name}: box {boxes.round(1).tolist()} [x0, y0, x1, y1] leaves its picture of "
                f"{width} x {height} pixels"
            )
