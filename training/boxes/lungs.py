"""Chest film → lung fields: a drawing of two lungs is laid over the film where it fits best.

Method of ours. Thresholds that part lung from heart and air fail on films that differ in exposure,
crop and disease; the outline of two dark lungs in a brighter chest does not. The film, evened out
in brightness and contrast, is correlated with the drawing at every place and at many widths and
heights; behind the heart, whose size differs most, the drawing says nothing. Frontal films only.
"""

from functools import cache
from typing import NamedTuple

import cv2
import numpy as np

from training.boxes.find import FoundBox

SIDE = 96  # the film is squashed to this square: lungs are large
EVEN = 24  # sigma over which brightness and contrast are evened out, in pixels of that square
SIZES = tuple(range(40, 97, 5))  # widths and heights of the drawing, likewise
SHAPES = (0.55, 1.8)  # least and greatest width over height
MARGIN = 0.12  # of the chest that is drawn around the lungs, share of their width and height
BEYOND = 10  # pixels that lungs may reach beyond the film
OFF_CENTER = (0.13, 0.25)  # how far the lungs' center may be from the film's: across, down
LARGER = (
    0.15,
    0.4,
)  # what a drawing e times as wide, e times as high gains: part of a lung fits too
LEAST = 0.2  # correlation under which nothing was found

# What the outline leaves out, and what those who draw boxes on films draw around it: the apices
# behind the collar bones most of all. Shares of width and height: left, top, right, bottom.
GROWN = np.array([-0.05, -0.13, 0.05, 0.04])

# Outlines in shares of the lungs' common width and height, x then y.
LUNG = (
    *((0.28, 0.0), (0.38, 0.06), (0.41, 0.3), (0.38, 0.6), (0.36, 0.86), (0.2, 0.88)),
    *((0.06, 0.94), (0.0, 1.0), (0.0, 0.72), (0.04, 0.42), (0.12, 0.15), (0.2, 0.03)),
)
OTHER_LUNG = tuple((1 - x, y) for x, y in LUNG)
HEART = (
    ((0.58, 0.35), (0.66, 0.45), (0.8, 0.7), (0.82, 0.9), (0.62, 0.88), (0.58, 0.6)),
    ((0.42, 0.45), (0.36, 0.55), (0.3, 0.75), (0.3, 0.9), (0.42, 0.9)),
)


class Lungs(NamedTuple):
    """Where the lungs are.

    Attributes:
        box: Around both, [x0, y0, x1, y1] in picture pixels, cut at the picture's border.
        sides: Around each, the picture's left one first, (2, 4).
        fit: Correlation with the drawing, at most 1.
    """

    box: np.ndarray
    sides: np.ndarray
    fit: float


def find_lungs(picture: np.ndarray) -> Lungs | None:
    """Find the lungs on a frontal chest film, uint8 (H, W[, 3]); None where nothing looks alike."""
    gray = picture if picture.ndim == 2 else cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    even = np.pad(_evened(gray), BEYOND, mode="edge")
    best, place, fit = -np.inf, np.zeros(4), 0.0
    for width in SIZES:
        for height in SIZES:
            if not SHAPES[0] < width / height < SHAPES[1]:
                continue
            drawing, weight = _drawing(width, height)
            if (np.array(drawing.shape) > even.shape).any():
                continue
            fits = cv2.matchTemplate(even, drawing, cv2.TM_CCOEFF_NORMED, mask=weight)
            fits = np.where(_central(fits.shape, width, height) & np.isfinite(fits), fits, -1)
            _, value, _, (x, y) = cv2.minMaxLoc(fits)
            gain = LARGER[0] * np.log(width / SIDE) + LARGER[1] * np.log(height / SIDE)
            if value + gain > best:
                left, top = x + MARGIN * width - BEYOND, y + MARGIN * height - BEYOND
                best, fit = value + gain, value
                place = np.array([left, top, left + width, top + height])
    if not LEAST < fit <= 1:
        return None
    size = np.tile(place[2:] - place[:2], 2)
    x0, y0, x1, y1 = place + GROWN * size
    inner = place[0] + np.array([LUNG[2][0], OTHER_LUNG[2][0]]) * size[0]
    film = np.tile(np.array(gray.shape[::-1]), 2)
    boxes = np.array([[x0, y0, x1, y1], [x0, y0, inner[0], y1], [inner[1], y0, x1, y1]])
    boxes = (boxes / SIDE * film).clip(0, film)
    return Lungs(boxes[0], boxes[1:], fit)


def lung_boxes(picture: np.ndarray, most: int) -> list[FoundBox]:
    """The box around both lungs; one around each where two boxes or more are wanted."""
    lungs = find_lungs(picture)
    if lungs is None:
        return []
    boxes = [lungs.box] if most == 1 else lungs.sides
    return [FoundBox(box, lungs.fit) for box in boxes]


def _evened(gray: np.ndarray) -> np.ndarray:
    """The film on the square, with local mean 0 and local standard deviation about 1, float32."""
    shrunk = cv2.resize(gray, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(shrunk.astype(np.float32), (0, 0), 1)
    apart = small - cv2.GaussianBlur(small, (0, 0), EVEN)
    spread = np.sqrt(cv2.GaussianBlur(apart**2, (0, 0), EVEN))
    return apart / (spread + 4)  # 4 gray levels: noise in even areas stays small


@cache
def _drawing(width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    """Lungs dark (0) in a bright chest (1), blurred; and where it counts, 0 behind the heart."""
    fine = 8  # drawn larger and averaged down: outlines fall between pixels
    shape = [round(side * (1 + 2 * MARGIN)) for side in (height, width)]
    drawing, weight = np.ones((2, shape[0] * fine, shape[1] * fine), np.float32)
    scale = np.array([width, height]) * fine
    for canvas, outlines in ((drawing, (LUNG, OTHER_LUNG)), (weight, HEART)):
        for outline in outlines:
            points = (np.array(outline) + MARGIN) * scale
            cv2.fillPoly(canvas, [points.round().astype(np.int32)], (0,))
    blurred = cv2.GaussianBlur(drawing, (0, 0), 0.02 * width * fine)
    down = (shape[1], shape[0])
    return (
        cv2.resize(blurred, down, interpolation=cv2.INTER_AREA),
        cv2.resize(weight, down, interpolation=cv2.INTER_AREA),
    )


def _central(shape: tuple[int, ...], width: int, height: int) -> np.ndarray:
    """Which places of the drawing's corner keep the lungs' center near the film's, bool `shape`."""
    down, across = (
        abs((np.arange(places) + MARGIN * length - BEYOND + length / 2) / SIDE - 0.5)
        for places, length in zip(shape, (height, width), strict=True)
    )
    return (across < OFF_CENTER[0])[None] & (down < OFF_CENTER[1])[:, None]
