"""The way from a picture to a model's square input, and back for maps."""

import math
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from imaging.image import MedicalImage


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a picture landed on the model's square: scaled per axis, then padded.

    Attributes:
        scale_x: Model pixels per picture pixel, along the columns.
        scale_y: Model pixels per picture pixel, along the rows.
        left: Padding before the picture's first column, in model pixels.
        top: Padding before the picture's first row, in model pixels.
        width: Columns of the picture, in picture pixels.
        height: Rows of the picture, in picture pixels.
        size: Side of the model's square, in model pixels.
    """

    scale_x: float
    scale_y: float
    left: int
    top: int
    width: int
    height: int
    size: int

    def boxes_to_model(self, boxes: np.ndarray) -> np.ndarray:
        """Move (M, 4) boxes [x0, y0, x1, y1] from picture pixels to model pixels, as float64."""
        scale = np.array([self.scale_x, self.scale_y] * 2)
        return np.asarray(boxes, np.float64).reshape(-1, 4) * scale + [self.left, self.top] * 2

    def cells(self, shape: tuple[int, ...]) -> tuple[slice, slice]:
        """The cells of an (h, w) map over the square that lie over the picture, if only in part."""
        found = []
        for cells, start, length in (
            (shape[0], self.top, self.height * self.scale_y),
            (shape[1], self.left, self.width * self.scale_x),
        ):
            first = int(start * cells / self.size)
            last = math.ceil((start + length) * cells / self.size - 1e-9)
            found.append(slice(first, max(last, first + 1)))
        return found[0], found[1]

    def map_to_picture(
        self, model_map: np.ndarray, size: tuple[int, int] | None = None
    ) -> np.ndarray:
        """Stretch a coarse (h, w) map over the model's square and cut the picture out of it.

        One bilinear look-up per picture pixel; pixel centers are at half-integers, so nothing
        shifts whatever the two sizes.

        Args:
            model_map: Map over the whole square, float, shape (h, w).
            size: (height, width) wanted; the picture's own if None.

        Returns:
            The map over the picture, float32, shape `size`, in memory of its own.
        """
        height, width = size or (self.height, self.width)
        h, w = model_map.shape
        model_map = np.ascontiguousarray(model_map, np.float32)
        # Along an axis with padding first, while the other one is short: what is left is to stretch
        # the other one, which is many times faster than to look up every pixel.
        affine, cut = np.eye(2, 3), [w, h]
        for axis, (start, length, wanted) in enumerate(
            (
                (self.left, self.width * self.scale_x, width),
                (self.top, self.height * self.scale_y, height),
            )
        ):
            if round(length) < self.size:
                # map cells per wanted pixel, and the map cell on which wanted pixel 0 falls
                step = length / self.size * cut[axis] / wanted
                affine[axis, axis] = step
                affine[axis, 2] = start / self.size * cut[axis] + 0.5 * step - 0.5
                cut[axis] = wanted
        model_map = cv2.warpAffine(
            model_map,
            affine,
            cut,
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
        return cv2.resize(model_map, (width, height), interpolation=cv2.INTER_LINEAR)


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocessing:
    """How a picture becomes a model's input. Scaling and normalization are in the graph, not here.

    Attributes:
        size: Side S of the model's square input, in pixels.
        fit: "squash" stretches the picture over the whole square, whatever its proportions;
            "pad" keeps the proportions and centers the picture on black.
        color: "rgb" feeds color pictures as they are; "gray" feeds their luminance. Either way the
            input has three channels.
    """

    size: int
    fit: Literal["squash", "pad"]
    color: Literal["rgb", "gray"]

    def place(self, width: int, height: int) -> Placement:
        """Say where a picture of this many columns and rows lands on the square."""
        if self.fit == "squash":
            inner_width = inner_height = self.size
        else:
            longest = max(width, height)
            inner_width = max(1, round(width * self.size / longest))
            inner_height = max(1, round(height * self.size / longest))
        return Placement(
            scale_x=inner_width / width,
            scale_y=inner_height / height,
            left=(self.size - inner_width) // 2,
            top=(self.size - inner_height) // 2,
            width=width,
            height=height,
            size=self.size,
        )

    def __call__(self, image: MedicalImage) -> tuple[np.ndarray, Placement]:
        """Fit a picture to the model.

        Returns:
            Model input, uint8 RGB, shape (S, S, 3); and where the picture landed on it.
        """
        placement = self.place(image.width, image.height)
        inner_width = round(image.width * placement.scale_x)
        inner_height = round(image.height * placement.scale_y)
        # Averaging 2x2 is 40 times faster than by a broken number; 4 to 1 is left to the latter.
        least = 4 * max(inner_width / image.width, inner_height / image.height)
        pixels = _resize(image.halved(least), inner_width, inner_height)
        if pixels.ndim == 3 and self.color == "gray":
            pixels = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
        if pixels.ndim == 2:
            pixels = cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB)
        square = np.zeros((self.size, self.size, 3), np.uint8)
        square[
            placement.top : placement.top + inner_height,
            placement.left : placement.left + inner_width,
        ] = pixels
        return square, placement


def _resize(pixels: np.ndarray, width: int, height: int) -> np.ndarray:
    """Resize without aliasing: area-averaging along an axis that shrinks, linear where it grows."""
    rows, columns = pixels.shape[:2]
    if (rows, columns) == (height, width):
        return pixels
    # OpenCV's INTER_AREA averages only where both axes shrink: shrink first, then grow.
    shrunk = (min(width, columns), min(height, rows))
    if shrunk != (columns, rows):
        pixels = cv2.resize(pixels, shrunk, interpolation=cv2.INTER_AREA)
    if shrunk != (width, height):
        pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_LINEAR)
    return pixels
