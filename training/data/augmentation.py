"""Random changes of training pictures. One matrix moves the pixels and the boxes alike."""

import cv2
import numpy as np

from training.config import AugmentationSettings

BORDERS = {"reflect": cv2.BORDER_REFLECT_101, "black": cv2.BORDER_CONSTANT}


class Augmentation:
    """Draws a change and applies it to a picture and to the corners of its boxes.

    Args:
        settings: How much of what.
    """

    def __init__(self, settings: AugmentationSettings) -> None:
        self.settings = settings

    def __call__(
        self, picture: np.ndarray, corners: np.ndarray, random: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Change a picture and its boxes.

        Args:
            picture: uint8 RGB (S, S, 3).
            corners: Corners of the boxes in model pixels, float (M, 4, 2) as (x, y): a turned box
                is no upright box any more, its corners still say exactly where it is.
            random: Source of the draws; the same state gives the same change.

        Returns:
            The changed picture, uint8 (S, S, 3), and the corners where they went, (M, 4, 2).
        """
        matrix = self.draw_matrix(picture.shape[0], random)
        if matrix is not None:
            picture = move_pixels(picture, matrix, self._draw_border(random))
            corners = move_points(corners, matrix)
        return self._recolor(picture, random), corners

    def draw_matrix(self, size: int, random: np.random.Generator) -> np.ndarray | None:
        """Draw a geometric change, old pixel → new pixel, (3, 3); None where nothing moves."""
        it = self.settings
        turn = np.deg2rad(random.uniform(-it.rotation, it.rotation))
        zoom = np.exp(random.uniform(*np.log(it.zoom)))
        stretch = np.exp(0.5 * random.uniform(-1, 1) * np.log(it.aspect))
        shift = random.uniform(-it.shift, it.shift, 2) * size
        mirror_x = -1 if it.flip_horizontal and random.random() < 0.5 else 1
        mirror_y = -1 if it.flip_vertical and random.random() < 0.5 else 1
        cos, sin = np.cos(turn), np.sin(turn)
        scale = np.diag([mirror_x * zoom * stretch, mirror_y * zoom / stretch, 1])
        rotation = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
        there = np.array([[1, 0, size / 2 + shift[0]], [0, 1, size / 2 + shift[1]], [0, 0, 1]])
        back = np.array([[1, 0, -size / 2], [0, 1, -size / 2], [0, 0, 1]])
        matrix = there @ rotation @ scale @ back
        return None if np.allclose(matrix, np.eye(3)) else matrix

    def _draw_border(self, random: np.random.Generator) -> int:
        border = self.settings.border
        if border == "either":
            border = "black" if random.random() < 0.5 else "reflect"
        return BORDERS[border]

    def _recolor(self, picture: np.ndarray, random: np.random.Generator) -> np.ndarray:
        it = self.settings
        contrast = np.exp(random.uniform(-1, 1) * np.log1p(it.contrast))
        gamma = np.exp(random.uniform(-1, 1) * np.log1p(it.gamma))
        brightness = random.uniform(-it.brightness, it.brightness)
        if it.contrast or it.gamma or it.brightness:
            gray = (np.linspace(0, 1, 256) ** gamma - 0.5) * contrast + 0.5 + brightness
            picture = cv2.LUT(picture, (255 * gray.clip(0, 1)).round().astype(np.uint8))
        if it.saturation or it.hue:
            saturation = np.exp(random.uniform(-1, 1) * np.log1p(it.saturation))
            hue = random.uniform(-it.hue, it.hue) / 2  # OpenCV counts hue in steps of 2 degrees
            hsv = cv2.cvtColor(picture, cv2.COLOR_RGB2HSV)
            levels = np.arange(256)
            table = np.stack([(levels + hue) % 180, levels * saturation, levels], 1).clip(0, 255)
            hsv = cv2.LUT(hsv, table.round().astype(np.uint8)[None])
            picture = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
        if it.blur and random.random() < 0.5:
            # OpenCV takes no sigma of 0 for none
            picture = cv2.GaussianBlur(picture, (0, 0), max(random.uniform(0, it.blur), 0.1))
        return picture


def move_points(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Move points (..., 2) as (x, y) by a matrix (3, 3)."""
    return points @ matrix[:2, :2].T + matrix[:2, 2]


def move_pixels(picture: np.ndarray, matrix: np.ndarray, border: int) -> np.ndarray:
    """Move a picture by a matrix (3, 3) given in coordinates where pixel 0 covers [0, 1)."""
    # OpenCV puts coordinate 0 in the middle of pixel 0: half a pixel aside.
    half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    centered = np.linalg.inv(half) @ matrix @ half
    height, width = picture.shape[:2]
    return cv2.warpAffine(
        picture, centered[:2], (width, height), flags=cv2.INTER_LINEAR, borderMode=border
    )


def box_corners(boxes: np.ndarray) -> np.ndarray:
    """Corners (M, 4, 2) as (x, y), in order around, of boxes [x0, y0, x1, y1] (M, 4)."""
    x0, y0, x1, y1 = np.asarray(boxes, np.float64).reshape(-1, 4).T
    return np.stack([[x0, y0], [x1, y0], [x1, y1], [x0, y1]]).transpose(2, 0, 1)


def lesion_mask(corners: np.ndarray, size: int) -> np.ndarray:
    """Union of (turned) boxes as a mask: 1 for pixels whose middle is inside, uint8 (S, S).

    A box too small to hold the middle of any is the pixel that its own middle is in.
    """
    mask = np.zeros((size, size), np.uint8)
    x, y = np.meshgrid(np.arange(size) + 0.5, np.arange(size) + 0.5)
    for quad in corners:
        edges = np.roll(quad, -1, axis=0) - quad
        sides = [
            ex * (y - qy) - ey * (x - qx) for (qx, qy), (ex, ey) in zip(quad, edges, strict=True)
        ]
        # a mirrored box runs around the other way
        box = np.all([side >= 0 for side in sides], 0) | np.all([side <= 0 for side in sides], 0)
        column, row = np.floor(quad.mean(0)).astype(int)
        if not box.any() and min(column, row) >= 0 and max(column, row) < size:
            box[row, column] = True
        mask |= box
    return mask
