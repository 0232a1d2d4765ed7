"""A map of where the lesion may be → boxes: threshold, clean, box, scale."""

from typing import NamedTuple

import cv2
import numpy as np

from training.data.samples import scale_boxes


class FoundBox(NamedTuple):
    """A lesion box made by machine.

    Attributes:
        box: [x0, y0, x1, y1] in picture pixels, float64 (4,).
        confidence: How sure the method is, in [0, 1], on a scale of its own; 0 marks the fallback.
    """

    box: np.ndarray
    confidence: float


class Rules(NamedTuple):
    """What makes a lesion of a component (methods of ours).

    Attributes:
        threshold: What a pixel must exceed; None for Otsu's threshold.
        least: Smallest component, as a share of the picture.
        border: Most of a component's outline that may lie on the picture's border, as a share.
    """

    threshold: float | None
    least: float
    border: float


OF_SALIENCY = Rules(threshold=None, least=0.01, border=0.25)
OF_PROBABILITY = Rules(threshold=0.5, least=0.002, border=1.0)
"""A segmenter knows what a lesion is: it is believed when one is small or cut by the border."""


def find_boxes(found: np.ndarray, rules: Rules = OF_SALIENCY, *, most: int = 1) -> list[FoundBox]:
    """Threshold, clean, and box the largest components.

    Opening, then closing, with a disk of radius 5 at 224 pixels. The confidence is the component's
    mean, of saliency over what the most salient tenth of the picture begins with.

    Args:
        found: Saliency or probability, in [0, 1], float32 (H, W).
        rules: What makes a lesion of a component.
        most: How many boxes at most.

    Returns:
        Boxes, the largest component's first; none if nothing is left.
    """
    height, width = found.shape
    levels = (255 * found.clip(0, 1)).astype(np.uint8)
    if rules.threshold is None:
        _, mask = cv2.threshold(levels, 0, 1, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
        full = max(float(np.quantile(found, 0.9)), 1e-6)
    else:
        mask, full = (found > rules.threshold).astype(np.uint8), 1.0
    side = 2 * max(1, round(5 * min(height, width) / 224)) + 1
    disk = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    mask = cv2.morphologyEx(cv2.morphologyEx(mask, cv2.MORPH_OPEN, disk), cv2.MORPH_CLOSE, disk)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask)
    boxes: list[FoundBox] = []
    for component in np.argsort(-stats[1:, cv2.CC_STAT_AREA], kind="stable") + 1:
        x, y, w, h, area = stats[component]
        if area < rules.least * height * width or len(boxes) == most:
            break
        inside = labels == component
        on_border = sum(
            int(line.sum()) for line in (inside[0], inside[-1], inside[:, 0], inside[:, -1])
        )
        if on_border > rules.border * 2 * (w + h):
            continue
        confidence = float(np.clip(found[inside].mean() / full, 0, 1))
        boxes.append(FoundBox(np.array([x, y, x + w, y + h], float), confidence))
    return boxes


def central_box(width: int, height: int) -> FoundBox:
    """What is given where nothing is found: 60 % of either side, with confidence 0."""
    return FoundBox(np.array([0.2 * width, 0.2 * height, 0.8 * width, 0.8 * height]), 0.0)


def scaled(box: np.ndarray, scale: float, width: int, height: int) -> np.ndarray:
    """A box [x0, y0, x1, y1] scaled about its center, and cut at the picture's border."""
    return scale_boxes(box[None], scale)[0].clip(0, [width, height, width, height])
