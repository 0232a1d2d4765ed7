"""The CARE attention loss (Zhuang et al., MIDL 2019, PMLR 102:588-597, equations 3 and 4).

Equations 1 and 2, which put it on top of a method's own loss, are `Method.with_attention`.

For a picture with lesion boxes, the Grad-CAM map of its true class - signed, no ReLU - is scaled
to [0, 1] on its own coarse grid, stretched over the input, and then rewarded for lying inside the
boxes, up to a point, and punished for lying outside.

Stretching is linear, and so are the sums over a mask: instead of the maps (S, S), which would have
to be differentiated, the masks go through the transposed stretch, down to the coarse grid. The
numbers are the same.
"""

from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor

FLAT = 1e-8  # a map whose values differ by less, on the scale of logits, says nothing about where
ROUNDING = 1e-6  # nor does one whose values differ by less than this share of their size


class AttentionTerms(NamedTuple):
    """The two halves of the attention loss, one value per picture, shape (M,).

    Attributes:
        inside: L_in = -min(mean attention inside the boxes, tau), in [-tau, 0].
        outside: L_out = weighted mean attention outside the boxes, in [0, 1].
    """

    inside: Tensor
    outside: Tensor


def attention_maps(maps: Tensor) -> Tensor:
    """Scale signed maps to [0, 1], each on its own coarse grid.

    A flat map, which says nothing about where, becomes 0 everywhere and gives no gradient.

    Args:
        maps: Signed Grad-CAM of the true class, (M, h, w).

    Returns:
        Attention F before it is stretched, float32 (M, h, w).
    """
    maps = maps.float()
    above = maps - maps.amin((1, 2), keepdim=True)
    highest = above.amax((1, 2), keepdim=True)
    flat = highest < FLAT + ROUNDING * maps.abs().amax((1, 2), keepdim=True)
    return torch.where(flat, 0.0, above / highest.masked_fill(flat, 1.0))


def coarse_masks(masks: Tensor, height: int, width: int) -> Tensor:
    """Bring masks to a map's grid: their weight on each cell once the map is stretched over them.

    The transposed bilinear stretch. The sum of a mask times a stretched map is that of the coarse
    mask times the map, and a mask's own sum stays what it was.

    Args:
        masks: Weights of pixels, float32 (M, S, S).
        height: Rows h of the map.
        width: Its columns w.

    Returns:
        Weights of cells, float32 (M, h, w).
    """
    with torch.autocast(masks.device.type, enabled=False):
        rows, columns = (_stretch(cells, masks) for cells in (height, width))
        return rows @ masks @ columns.T


def _stretch(cells: int, masks: Tensor) -> Tensor:
    """How much each pixel of a line takes from each cell, (cells, S)."""
    unit_maps = torch.eye(cells, device=masks.device)[None]
    return torch.nn.functional.interpolate(
        unit_maps, size=masks.shape[2], mode="linear", align_corners=False
    )[0]


def attention_losses(
    maps: Tensor, inside: Tensor, outside: Tensor, *, tau: float
) -> AttentionTerms:
    """L_in and L_out of pictures with boxes, from their maps.

    Args:
        maps: Signed Grad-CAM of the true classes, (M, h, w).
        inside: M_in, float32 (M, S, S).
        outside: M_out, float32 (M, S, S).
        tau: See `attention_terms`.
    """
    masks = (coarse_masks(each, *maps.shape[1:]) for each in (inside, outside))
    return attention_terms(attention_maps(maps), *masks, tau=tau)


def attention_terms(
    attention: Tensor, inside: Tensor, outside: Tensor, *, tau: float
) -> AttentionTerms:
    """Equations 3 and 4: reward attention inside lesion boxes, up to tau; punish it outside.

    Args:
        attention: F in [0, 1], (M, h, w).
        inside: M_in, 1 inside any lesion box, 0 elsewhere, brought to the map's grid, (M, h, w).
        outside: M_out, weight of each pixel outside the boxes, 0 inside, likewise, (M, h, w). All
            0 where the boxes fill the picture: then there is nothing to punish and L_out is 0.
        tau: Mean attention beyond which a box earns no further reward, in (0, 1].
    """
    mean_inside = (attention * inside).sum((1, 2)) / inside.sum((1, 2)).clamp(min=1)
    mean_outside = (attention * outside).sum((1, 2)) / outside.sum((1, 2)).clamp(min=1e-6)
    return AttentionTerms(-mean_inside.clamp(max=tau), mean_outside)


def outside_mask(inside: np.ndarray, *, slope: float = 0.0) -> np.ndarray:
    """M_out: what attention outside the boxes costs, pixel by pixel.

    Uniform by default; with a slope it is 1 + slope * d, where d is the city-block distance to the
    nearest box, 1 for a pixel beside it (the paper's "value relevant to the distance", as in the
    authors' mask generator). Its overall scale does not matter: the loss divides by its sum.

    Args:
        inside: 1 inside any box, 0 elsewhere, uint8 (S, S).
        slope: Growth of the weight per pixel of distance.

    Returns:
        Weights, float32 (S, S), 0 inside.
    """
    outside = (1 - inside).astype(np.float32)
    if slope and inside.any():
        distance = cv2.distanceTransform(1 - inside, cv2.DIST_L1, 3)
        return outside * (1 + slope * distance.astype(np.float32))
    return outside
