"""Picture → saliency: how much each pixel looks like a lesion."""

from collections.abc import Callable

import cv2
import numpy as np

BORDER = (
    0.06  # width of the picture's border that is taken for healthy skin, share of the short side
)
PRIOR = 0.3  # sigma of the center prior, share of the short side
DARK = 0.18  # Lab lightness, as a share, under which a border pixel is a dark corner, not skin


def border_contrast(picture: np.ndarray) -> np.ndarray:
    """Color distance to the picture's border, where skin is healthy, times a center prior.

    Dark corners of the dermatoscope are left out of the border and are never salient.

    Args:
        picture: uint8, gray (H, W) or RGB (H, W, 3).

    Returns:
        Saliency, float32 (H, W) in [0, 1].
    """
    if picture.ndim == 2:
        picture = cv2.cvtColor(picture, cv2.COLOR_GRAY2RGB)
    height, width = picture.shape[:2]
    short = min(height, width)
    lab = cv2.cvtColor(picture.astype(np.float32) / 255, cv2.COLOR_RGB2Lab)
    # hairs and bubbles are narrow: a closing of the lightness paints dark hairs over
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (_odd(0.04 * short),) * 2)
    lab = cv2.GaussianBlur(cv2.morphologyEx(lab, cv2.MORPH_CLOSE, kernel), (0, 0), 0.01 * short)
    dark = cv2.dilate((lab[..., 0] < 100 * DARK).astype(np.uint8), kernel).astype(bool)
    dark &= _touching_border(dark)
    edge = np.ones((height, width), bool)
    margin = max(1, round(BORDER * short))
    edge[margin:-margin, margin:-margin] = False
    skin = lab[edge & ~dark] if (edge & ~dark).sum() > 0.1 * edge.sum() else lab[edge]
    distance = np.linalg.norm(lab - np.median(skin, 0), axis=2)
    y, x = np.mgrid[:height, :width]
    off = ((x - width / 2 + 0.5) ** 2 + (y - height / 2 + 0.5) ** 2) / (2 * (PRIOR * short) ** 2)
    saliency = np.where(dark, 0, distance * np.exp(-off)).astype(np.float32)
    return saliency / max(float(saliency.max()), 1e-6)


def _touching_border(mask: np.ndarray) -> np.ndarray:
    """The components of a mask that touch the picture's border."""
    _, labels = cv2.connectedComponents(mask.astype(np.uint8))
    rim = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
    return np.isin(labels, rim[rim > 0])


def _odd(value: float) -> int:
    return 2 * max(1, round(value / 2)) + 1


METHODS: dict[str, Callable[[np.ndarray], np.ndarray]] = {"border": border_contrast}
