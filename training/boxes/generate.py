"""Saliency → boxes; a folder of pictures → boxes.csv; and how good the boxes are."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from tqdm import tqdm

from imaging.errors import ImagingError
from imaging.reading import read_image
from training.data.samples import SampleList
from training.data.tables import read_boxes
from training.errors import DataError

COLUMNS = ("image", "x", "y", "w", "h", "method", "confidence")


class FoundBox(NamedTuple):
    """A lesion box made by machine.

    Attributes:
        box: [x0, y0, x1, y1] in picture pixels, float64 (4,).
        confidence: Mean saliency of the component over what the most salient tenth of the picture
            begins with, in [0, 1]; 0 marks the fallback, the central box.
    """

    box: np.ndarray
    confidence: float


def find_box(saliency: np.ndarray, *, scale: float = 1.0) -> FoundBox:
    """Threshold, clean, take the largest component, box it, scale it (methods of ours).

    Otsu's threshold; opening, then closing, with a disk of radius 5 at 224 pixels; components
    smaller than 1 % of the picture, or with over a quarter of their outline on its border, are
    dropped. If nothing survives: the central box of 60 % of either side, with confidence 0.

    Args:
        saliency: In [0, 1], float32 (H, W).
        scale: The box is scaled by this about its center, and cut at the picture's border.
    """
    height, width = saliency.shape
    levels = (255 * saliency.clip(0, 1)).astype(np.uint8)
    _, mask = cv2.threshold(levels, 0, 1, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    side = 2 * max(1, round(5 * min(height, width) / 224)) + 1
    disk = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    mask = cv2.morphologyEx(cv2.morphologyEx(mask, cv2.MORPH_OPEN, disk), cv2.MORPH_CLOSE, disk)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask)
    for component in np.argsort(-stats[1:, cv2.CC_STAT_AREA]) + 1:
        x, y, w, h, area = stats[component]
        if area < 0.01 * height * width:
            break
        inside = labels == component
        on_border = sum(
            int(line.sum()) for line in (inside[0], inside[-1], inside[:, 0], inside[:, -1])
        )
        if on_border > 0.25 * 2 * (w + h):
            continue
        strongest = np.quantile(saliency, 0.9)
        confidence = float(np.clip(saliency[inside].mean() / max(strongest, 1e-6), 0, 1))
        return FoundBox(
            _scaled(np.array([x, y, x + w, y + h], float), scale, width, height), confidence
        )
    middle = np.array([0.2 * width, 0.2 * height, 0.8 * width, 0.8 * height])
    return FoundBox(_scaled(middle, scale, width, height), 0.0)


def _scaled(box: np.ndarray, scale: float, width: int, height: int) -> np.ndarray:
    center = np.tile((box[:2] + box[2:]) / 2, 2)
    return (center + (box - center) * scale).clip(0, [width, height, width, height])


def write_boxes(
    samples: SampleList,
    method: str,
    saliency: Callable[[np.ndarray], np.ndarray],
    out: Path,
    *,
    scale: float = 1.0,
) -> int:
    """Make one box for each picture and write them as a person would, with method and confidence.

    Args:
        samples: Which pictures.
        method: Name of the method, for the list.
        saliency: Picture → saliency.
        out: CSV `image,x,y,w,h,method,confidence` in picture pixels; complete or not there.
        scale: See `find_box`.

    Returns:
        How many pictures got the fallback, the central box.

    Raises:
        DataError: A picture cannot be read.
    """
    fallbacks = 0
    part = out.with_name(out.name + ".part")
    out.parent.mkdir(parents=True, exist_ok=True)
    with part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for item in tqdm(samples.samples, desc=f"boxes by {method}", unit="picture"):
            try:
                picture = read_image(item.path).pixels
            except ImagingError as error:
                raise DataError(f"{item.name}: {error}") from error
            found = find_box(saliency(picture), scale=scale)
            fallbacks += found.confidence == 0
            x0, y0, x1, y1 = found.box
            numbers = [f"{value:.1f}" for value in (x0, y0, x1 - x0, y1 - y0)]
            writer.writerow([item.name, *numbers, method, f"{found.confidence:.3f}"])
    part.replace(out)
    return fallbacks


def compare_boxes(made: Path, drawn: Path) -> str:
    """One line on how well made boxes fit drawn ones; of several drawn ones, their common hull."""
    found, wanted = read_boxes(made), read_boxes(drawn)
    both = sorted(set(found) & set(wanted))
    if not both:
        raise DataError(f"{made.name} and {drawn.name} have no picture in common")
    hulls = [
        np.concatenate([wanted[name][:, :2].min(0), wanted[name][:, 2:].max(0)]) for name in both
    ]
    overlaps = np.array([iou(found[name][0], hull) for name, hull in zip(both, hulls, strict=True)])
    return (
        f"IoU with {drawn.name} on {len(both)} pictures: mean {overlaps.mean():.3f}, "
        f"median {np.median(overlaps):.3f}, above 0.5 on {(overlaps > 0.5).mean():.0%}"
    )


def iou(one: np.ndarray, other: np.ndarray) -> float:
    """Intersection over union of two boxes [x0, y0, x1, y1]."""
    corners = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
    shared = float(np.prod(corners.clip(0)))
    areas = [float(np.prod(box[2:] - box[:2])) for box in (one, other)]
    return shared / (sum(areas) - shared)
