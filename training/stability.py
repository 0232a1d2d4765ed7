"""How often a model changes its mind when the picture hardly changes.

The same film comes from another detector, through another window, with another border; the same
lesion is held a little askew. Each change is small enough for a person not to mind it, and is made
to the picture as it comes from its file, before the model's own resizing.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import cv2
import numpy as np

from imaging.image import MedicalImage
from models.classifier import Classifier
from training.bootstrap import RESAMPLES, estimate, mean_of
from training.data.augmentation import move_pixels
from training.data.samples import SampleList
from training.evaluate import Results, classify_list
from training.figures import figure
from training.figures_page import brief
from training.markdown import table
from training.metrics import mean_class_accuracy

Change = Callable[[np.ndarray], np.ndarray]
"""Pixels, uint8 (H, W) or (H, W, 3), to such pixels."""


def moved(*, turn: float = 0, zoom: float = 1, shift: float = 0) -> Change:
    """Turned (degrees) and magnified about the center, shifted right and down (share of the side).

    What comes in from beyond the edges is the picture mirrored.
    """

    def change(pixels: np.ndarray) -> np.ndarray:
        height, width = pixels.shape[:2]
        middle, angle = np.array([width, height]) / 2, np.deg2rad(turn)
        cos, sin = zoom * np.cos(angle), zoom * np.sin(angle)
        matrix = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
        matrix[:2, 2] = middle - matrix[:2, :2] @ middle + shift * 2 * middle
        return move_pixels(pixels, matrix, cv2.BORDER_REFLECT_101)

    return change


def stretched(aspect: float) -> Change:
    """Wider by a factor, as high as before."""

    def change(pixels: np.ndarray) -> np.ndarray:
        height, width = pixels.shape[:2]
        size = round(width * aspect), height
        kind = cv2.INTER_AREA if aspect < 1 else cv2.INTER_LINEAR
        return cv2.resize(pixels, size, interpolation=kind)

    return change


def windowed(*, low: float = 0, high: float = 1, gamma: float = 1) -> Change:
    """Seen through a window from `low` to `high` of its shades, with another gray curve."""
    shades = ((np.linspace(0, 1, 256) - low) / (high - low)).clip(0, 1) ** gamma
    shown = (255 * shades).round().astype(np.uint8)
    return lambda pixels: cv2.LUT(pixels, shown)


def framed(share: float) -> Change:
    """In a black border, as wide as a share of the side."""

    def change(pixels: np.ndarray) -> np.ndarray:
        above, beside = (round(share * side) for side in pixels.shape[:2])
        black = cv2.BORDER_CONSTANT
        return cv2.copyMakeBorder(pixels, above, above, beside, beside, black, value=(0, 0, 0))

    return change


CHANGES: dict[str, Change] = {
    "turned by 5 degrees": moved(turn=5),
    "turned by -5 degrees": moved(turn=-5),
    "magnified 1.1 times": moved(zoom=1.1),
    "reduced 1.1 times": moved(zoom=1 / 1.1),
    "shifted by 3 %": moved(shift=0.03),
    "1.1 times as wide": stretched(1.1),
    "1.1 times as high": stretched(1 / 1.1),
    "window 10 % narrower": windowed(low=0.05, high=0.95),
    "window 10 % wider": windowed(low=-0.05, high=1.05),
    "window 5 % higher": windowed(low=0.05, high=1.05),
    "window 5 % lower": windowed(low=-0.05, high=0.95),
    "gray curve brighter": windowed(gamma=1 / 1.15),
    "gray curve darker": windowed(gamma=1.15),
    "black border of 3 %": framed(0.03),
}
"""What is tried, in words."""


def stability(
    classifier: Classifier, samples: SampleList, *, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, Any]:
    """Measure flips of the top label under each change.

    Args:
        classifier: The exported model.
        samples: Pictures.
        resamples: Draws of the bootstrap over groups.
        seed: Of the draws.

    Returns:
        {"pictures", "unchanged": mean class accuracy, "changes": {change: {"flips": figure,
        "mean_class_accuracy"}}}, plain data for JSON; a figure has value, low and high (95 %).
    """
    samples = SampleList(
        samples.labels, tuple(replace(one, boxes=np.zeros((0, 4))) for one in samples.samples)
    )
    before = classify_list(classifier, samples)
    measured = {}
    for name, change in CHANGES.items():
        after = classify_list(classifier, samples, change=_on_image(change))
        flipped = before.probabilities.argmax(1) != after.probabilities.argmax(1)
        share, low, high = estimate(
            mean_of(flipped[:, None]),
            before.groups,
            [len(np.unique(before.groups))],
            resamples=resamples,
            seed=seed,
        )
        measured[name] = {
            "flips": figure(share[0], low[0], high[0]),
            "mean_class_accuracy": _accuracy(after),
        }
    return {
        "pictures": len(before.names),
        "unchanged": _accuracy(before),
        "changes": measured,
    }


def stability_markdown(measured: dict[str, Any]) -> str:
    """The same as a Markdown table."""
    rows = [["none", "-", f"{measured['unchanged']:.3f}"]]
    for name, row in measured["changes"].items():
        rows.append([name, brief(row["flips"]), f"{row['mean_class_accuracy']:.3f}"])
    return table(["change", "top label changes", "mean class accuracy"], rows) + "\n"


def _on_image(change: Change) -> Callable[[MedicalImage], MedicalImage]:
    return lambda image: replace(image, pixels=change(image.pixels))


def _accuracy(results: Results) -> float:
    return round(float(mean_class_accuracy(results.truth, results.probabilities)), 4)
