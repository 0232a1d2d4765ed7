"""Where the evidence for a class lies on a picture, as people are shown it."""

import numpy as np

from imaging.preprocessing import Placement

ROUNDING = 1e-6
"""Evidence, on the scale of the logits, that float32 may make out of none."""


def heatmap(
    cam: np.ndarray, placement: Placement, size: tuple[int, int] | None = None
) -> tuple[np.ndarray, float]:
    """Stretch a class's map over the picture, and scale it to its hottest.

    Args:
        cam: Grad-CAM over the model's square, float32 (h, w), at least 0, on the scale of the
            logits.
        placement: Where the picture lies on that square.
        size: (height, width) wanted; the picture's own if None.

    Returns:
        The heatmap, float32 in [0, 1] with 1 at its hottest, shape `size`; and the raw peak: the
        largest value of a map cell over the picture, on the scale of the logits, whatever the size
        wanted. Without positive evidence over the picture, beyond what rounding makes of none, the
        heatmap is 0 everywhere and so is the peak: noise is never stretched into heat.
    """
    heat = placement.map_to_picture(cam, size)
    peak = float(cam[placement.cells(cam.shape)].max())
    hottest = float(heat.max())
    if not (peak > ROUNDING and hottest > 0):
        return np.zeros_like(heat), 0.0
    heat /= hottest
    return heat, peak
