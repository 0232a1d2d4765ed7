"""The Grad-CAM formula, spelled once for NumPy arrays and PyTorch tensors.

What the two share is enough for it, so the training loss, the exported graph and a notebook run
the same lines. CARE trains on the signed map; people are shown the map after the ReLU.
"""

from typing import TypeVar

Array = TypeVar("Array")


def class_maps(activations: Array, weights: Array) -> Array:
    """Weigh feature maps by how much each one supports a class.

    Equations 1 and 2 of Selvaraju et al. 2017 (arXiv:1610.02391), before the ReLU:
    map[n, c] = sum over k of weights[n, c, k] * activations[n, k].

    Args:
        activations: Last convolutional features, shape (N, K, h, w).
        weights: Gradient of each class score, averaged over (h, w); shape (N, C, K) or, where it
            is the same for all pictures, (C, K).

    Returns:
        One signed map per class, shape (N, C, h, w), on the scale of the logits.
    """
    n, k, h, w = activations.shape  # type: ignore[attr-defined]
    classes = weights.shape[-2]  # type: ignore[attr-defined]
    maps = weights @ activations.reshape(n, k, h * w)  # type: ignore[attr-defined, operator]
    return maps.reshape(n, classes, h, w)


def gradcam(activations: Array, weights: Array) -> Array:
    """Grad-CAM as people see it: `class_maps`, and only the evidence *for* each class (ReLU)."""
    return class_maps(activations, weights).clip(0)  # type: ignore[attr-defined]
