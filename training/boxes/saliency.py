"""Picture → saliency: how much each pixel stands out. No training, no weights.

Each function takes uint8, gray (H, W) or RGB (H, W, 3), and gives float32 (H, W) in [0, 1]: 0 for
the pixel that stands out least, 1 for the one that does most, 0 everywhere where all pixels are the
same. Large pictures are shrunk first: what a lesion is can be told from 320 pixels.
"""

from collections.abc import Callable
from functools import wraps

import cv2
import numpy as np

from imaging.image import MedicalImage
from imaging.overlay import shrink

Saliency = Callable[[np.ndarray], np.ndarray]

SIDE = 320
"""Longest side at which saliency is computed, in pixels."""

BORDER = (
    0.06  # width of the picture's border that is taken for healthy skin, share of the short side
)
PRIOR = 0.3  # sigma of the center prior, share of the short side
DARK = 0.18  # Lab lightness, as a share, under which a border pixel is a dark corner, not skin

SPECTRAL_SIDE = 64  # pixels at which an object's scale is that of the spectral residual
SPECTRAL_SIGMA = 2.5  # as in the authors' code
SURROUNDS = (12, 24, 28, 48, 56, 112)  # half widths of the surround, in pixels


def _in_unit_range(compute: Saliency) -> Saliency:
    """Shrink the picture, compute, stretch the result to [0, 1], enlarge it again."""

    @wraps(compute)
    def saliency(picture: np.ndarray) -> np.ndarray:
        height, width = picture.shape[:2]
        small = shrink(MedicalImage.of(picture), SIDE)
        if not np.ptp(small, axis=(0, 1)).any():
            return np.zeros((height, width), np.float32)
        found = compute(small)
        low, high = float(found.min()), float(found.max())
        unit = ((found - low) / max(high - low, 1e-12)).astype(np.float32)
        return cv2.resize(unit, (width, height), interpolation=cv2.INTER_LINEAR)

    return saliency


@_in_unit_range
def border_contrast(picture: np.ndarray) -> np.ndarray:
    """Color distance to the picture's border, where skin is healthy, times a center prior (ours).

    Dark corners of the dermatoscope are left out of the border and are never salient.
    """
    height, width = picture.shape[:2]
    short = min(height, width)
    # hairs and bubbles are narrow: a closing of the lightness paints dark hairs over
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (_odd(0.04 * short),) * 2)
    lab = cv2.morphologyEx(_lab(picture), cv2.MORPH_CLOSE, kernel)
    lab = cv2.GaussianBlur(lab, (0, 0), 0.01 * short)
    dark = cv2.dilate((lab[..., 0] < 100 * DARK).astype(np.uint8), kernel).astype(bool)
    dark &= _touching_border(dark)
    edge = np.ones((height, width), bool)
    margin = max(1, round(BORDER * short))
    edge[margin:-margin, margin:-margin] = False
    skin = lab[edge & ~dark] if (edge & ~dark).sum() > 0.1 * edge.sum() else lab[edge]
    distance = np.linalg.norm(lab - np.median(skin, 0), axis=2)
    y, x = np.mgrid[:height, :width]
    off = ((x - width / 2 + 0.5) ** 2 + (y - height / 2 + 0.5) ** 2) / (2 * (PRIOR * short) ** 2)
    return np.where(dark, 0, distance * np.exp(-off))


@_in_unit_range
def spectral_residual(picture: np.ndarray) -> np.ndarray:
    """What is unexpected in the log spectrum (Hou & Zhang, CVPR 2007, section 3).

    S = g * |F^-1[exp(R + iP)]|^2, where P is the phase of the spectrum and R its log amplitude L
    less the local mean of L over 3 x 3; on gray, the longer side at 64 pixels. The paper leaves the
    width of g and what lies beyond the border to the authors' code, which is followed here.
    """
    height, width = picture.shape[:2]
    small = shrink(MedicalImage.of(_gray(picture)), SPECTRAL_SIDE).astype(np.float64)
    spectrum = np.fft.fft2(small)
    log_amplitude = np.log(np.maximum(np.abs(spectrum), 1e-6))
    mean = cv2.blur(log_amplitude, (3, 3), borderType=cv2.BORDER_REPLICATE)
    residual = np.exp(log_amplitude - mean + 1j * np.angle(spectrum))
    energy = cv2.GaussianBlur(np.abs(np.fft.ifft2(residual)) ** 2, (0, 0), SPECTRAL_SIGMA)
    return cv2.resize(energy, (width, height), interpolation=cv2.INTER_LINEAR)


@_in_unit_range
def fine_grained(picture: np.ndarray) -> np.ndarray:
    """Center against surround at six scales (Montabone & Soto, Image Vis. Comput. 28, 2010).

    On-center max(c - s, 0) and off-center max(s - c, 0), summed over the scales, where c is a pixel
    and s the mean of the square around it without it, cut at the picture's border; from one
    integral image, as the paper has it. Of the intensity only: its color opponents are left out.
    """
    gray = _gray(picture).astype(np.float64)
    total = cv2.integral(gray, sdepth=cv2.CV_64F)
    height, width = gray.shape
    on, off = np.zeros((2, height, width))
    for reach in SURROUNDS:
        top, bottom = _reach(height, reach)
        left, right = _reach(width, reach)
        inside = (
            total[np.ix_(bottom, right)]
            - total[np.ix_(top, right)]
            - total[np.ix_(bottom, left)]
            + total[np.ix_(top, left)]
        )
        others = np.outer(bottom - top, right - left) - 1
        difference = gray - (inside - gray) / others
        on += difference.clip(0)
        off += (-difference).clip(0)
    return on + off


@_in_unit_range
def frequency_tuned(picture: np.ndarray) -> np.ndarray:
    """Distance of the blurred color to the mean color (Achanta et al., CVPR 2009).

    S = ||I_mean - I_blurred|| in Lab, blurred by the 5 x 5 binomial kernel.
    """
    lab = _lab(picture)
    binomial = np.array([1, 4, 6, 4, 1], np.float32) / 16
    blurred = cv2.sepFilter2D(lab, -1, binomial, binomial, borderType=cv2.BORDER_REPLICATE)
    return np.linalg.norm(lab.mean((0, 1)) - blurred, axis=2)


def _gray(picture: np.ndarray) -> np.ndarray:
    return picture if picture.ndim == 2 else cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)


def _lab(picture: np.ndarray) -> np.ndarray:
    """CIE Lab, float32 (H, W, 3), lightness in [0, 100]."""
    rgb = cv2.cvtColor(picture, cv2.COLOR_GRAY2RGB) if picture.ndim == 2 else picture
    return cv2.cvtColor(rgb.astype(np.float32) / 255, cv2.COLOR_RGB2Lab)


def _reach(length: int, reach: int) -> tuple[np.ndarray, np.ndarray]:
    """First and one-past-last index of the window around each of `length` pixels."""
    index = np.arange(length)
    return (index - reach).clip(0), (index + reach + 1).clip(max=length)


def _touching_border(mask: np.ndarray) -> np.ndarray:
    """The components of a mask that touch the picture's border."""
    _, labels = cv2.connectedComponents(mask.astype(np.uint8))
    rim = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
    return np.isin(labels, rim[rim > 0])


def _odd(value: float) -> int:
    return 2 * max(1, round(value / 2)) + 1


SALIENCY: dict[str, Saliency] = {
    "border": border_contrast,
    "spectral-residual": spectral_residual,
    "fine-grained": fine_grained,
    "frequency-tuned": frequency_tuned,
}
