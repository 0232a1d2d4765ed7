"""A folder of pictures → boxes.csv, by one of the methods."""

import csv
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from imaging.image import MedicalImage
from imaging.overlay import shrink
from training.boxes.find import OF_PROBABILITY, FoundBox, central_box, find_boxes, scaled
from training.boxes.lungs import find_lungs, lung_boxes
from training.boxes.pool import map_pictures
from training.boxes.saliency import SALIENCY, SIDE
from training.data.samples import Sample, SampleList
from training.errors import ConfigError
from training.files import complete

if TYPE_CHECKING:
    from models.segmenter import Segmenter

METHODS = (*SALIENCY, "lungs", "segment", "center")
COLUMNS = ("image", "x", "y", "w", "h", "method", "confidence")


@dataclass(frozen=True, slots=True, kw_only=True)
class Generator:
    """How boxes are made; called with a picture, it makes them.

    Attributes:
        method: One of `METHODS`.
        scale: Boxes are scaled by this about their centers; None for what suits the method.
        most: How many boxes at most.
        within_lungs: Look in the lung fields of a chest film only; their box is the fallback.
        segmenter: The ONNX model of "segment"; see `models.segmenter`.
    """

    method: str
    scale: float | None = None
    most: int = 1
    within_lungs: bool = False
    segmenter: Path | None = None

    def check(self) -> None:
        """See that the settings go together, before the first picture is read.

        Raises:
            ConfigError: There is no such method, or it lacks its model, or has one it cannot use.
            BrokenModel: The model is no segmenter.
        """
        if self.method not in METHODS:
            raise ConfigError(f"method {self.method!r}: expected {', '.join(METHODS)}")
        if (self.method == "segment") != (self.segmenter is not None):
            raise ConfigError("the method segment and a segmenter go together, one was named alone")
        if self.within_lungs and self.method in ("lungs", "center"):
            raise ConfigError(f"{self.method} cannot be looked for within the lungs")
        if self.segmenter is not None:
            _segmenter(self.segmenter)

    def __call__(self, picture: np.ndarray) -> list[FoundBox]:
        """Make the boxes of one picture, uint8 (H, W[, 3]); always at least one."""
        height, width = picture.shape[:2]
        # a segmenter may look closer than saliency does
        finest = _segmenter(self.segmenter).preprocessing.size if self.segmenter else 0
        small = shrink(MedicalImage.of(picture), max(SIDE, finest))
        factor = np.tile([width / small.shape[1], height / small.shape[0]], 2)
        boxes = self._found(small)
        return [
            FoundBox(scaled(found.box * factor, self._scale, width, height), found.confidence)
            for found in boxes
        ] or [central_box(width, height)]

    @property
    def name(self) -> str:
        """The method as lists and reports name it."""
        return self.method + " within lungs" * self.within_lungs

    @property
    def _scale(self) -> float:
        if self.scale is not None:
            return self.scale
        return 1.1 if self.method in SALIENCY else 1.0

    def _found(self, picture: np.ndarray) -> list[FoundBox]:
        if self.method == "center":
            return []
        if self.method == "lungs":
            return lung_boxes(picture, self.most)
        if self.segmenter is not None:
            seen = _segmenter(self.segmenter)(picture)
            find = partial(find_boxes, rules=OF_PROBABILITY, most=self.most)
        else:
            seen = SALIENCY[self.method](picture)
            find = partial(find_boxes, most=self.most)
        if not self.within_lungs:
            return find(seen)
        lungs = find_lungs(picture)
        if lungs is None:
            return []
        inside = np.zeros_like(seen)
        for x0, y0, x1, y1 in lungs.sides.round().astype(int):
            inside[y0:y1, x0:x1] = 1
        return find(seen * inside) or [FoundBox(lungs.box, 0.0)]


@cache
def _segmenter(path: Path) -> "Segmenter":
    # here and not above: the other methods need no ONNX Runtime
    from models.segmenter import Segmenter

    return Segmenter.load(path)


def write_boxes(
    samples: SampleList, generator: Generator, out: Path, *, workers: int | None = None
) -> int:
    """Make boxes for each picture and write them as a person would, with method and confidence.

    Args:
        samples: Which pictures.
        generator: How.
        out: CSV `image,x,y,w,h,method,confidence` in picture pixels; complete or not there.
        workers: See `map_pictures`.

    Returns:
        How many pictures got a fallback.

    Raises:
        DataError: A picture cannot be read.
        ConfigError: See `Generator.check`.
        BrokenModel: See `Generator.check`.
    """
    generator.check()
    out.parent.mkdir(parents=True, exist_ok=True)
    fallbacks = 0
    with complete(out) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        made = partial(_rows, generator)
        for rows in map_pictures(made, samples, workers=workers, doing=generator.name):
            writer.writerows(rows)
            fallbacks += float(rows[0][-1]) == 0
    return fallbacks


def _rows(generator: Generator, item: Sample, picture: np.ndarray) -> list[list[str]]:
    rows = []
    for (x0, y0, x1, y1), confidence in generator(picture):
        numbers = [f"{value:.1f}" for value in (x0, y0, x1 - x0, y1 - y0)]
        # 0 is for fallbacks alone
        sure = max(confidence, 0.001) if confidence else 0
        rows.append([item.name, *numbers, generator.name, f"{sure:.3f}"])
    return rows
