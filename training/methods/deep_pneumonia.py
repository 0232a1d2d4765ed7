"""Deep Pneumonia: attention-based contrastive learning (Wei et al., 2022, arXiv 2207.11393).

The paper's text and code are not public. Theirs, from the abstract: contrastive pre-training on the
same pictures alone; mask-guided hard attention on the attention map, from lesions marked by
doctors; contrastive regulation of the extracted features, towards the lesions; class-balanced loss
in place of cross-entropy. Ours: every equation here, and which pictures count as marked.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import (
    adaptive_max_pool2d,
    binary_cross_entropy_with_logits,
    normalize,
    softplus,
)

LARGEST_RATIO = 10.0  # the ratio explodes where erasing the lesion changes nothing
STAGE_WEIGHTS = (1 / 8, 1 / 4, 1 / 2, 1.0)  # omega_l, from the earliest stage to the last


class SpatialGate(nn.Module):
    """CBAM's spatial attention (Woo et al., ECCV 2018), without batch norm: A' = a A.

    a = sigmoid(Conv7x7[mean over channels of A; max over channels of A]) in (0, 1)

    As the last layer of a network's features it is in the exported graph, and Grad-CAM is that of
    the gated map.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, 7, padding=3)

    def logits(self, activations: Tensor) -> Tensor:
        """Before the sigmoid, (N, 1, h, w), of feature maps (N, K, h, w)."""
        summary = [activations.mean(1, keepdim=True), activations.amax(1, keepdim=True)]
        return self.conv(torch.cat(summary, 1))

    def forward(self, activations: Tensor) -> Tensor:
        """The gated feature maps, (N, K, h, w)."""
        return self.logits(activations).sigmoid() * activations


def hard_mask(inside: Tensor, shape: tuple[int, int]) -> Tensor:
    """Which cells of a coarse grid touch a lesion, 0 or 1, (M, h, w), of masks (M, S, S)."""
    return adaptive_max_pool2d(inside[:, None], shape)[:, 0]


def hard_attention_loss(logits: Tensor, mask: Tensor, *, form: str = "bce") -> Tensor:
    """Mask-guided hard attention: the gate a = sigmoid(logits) against a binary mask m.

    "bce"   mean over cells of -m log a - (1 - m) log(1 - a)
    "mse"   mean over cells of (a - m)^2
    "dice"  1 - (2 sum(a m) + 1) / (sum a + sum m + 1)

    Args:
        logits: Of the gate, (M, h, w).
        mask: m, (M, h, w); all 0 for a picture known to hold no lesion.
        form: One of the three.

    Returns:
        One loss per picture, (M,).
    """
    if form == "bce":
        return binary_cross_entropy_with_logits(logits, mask, reduction="none").mean((1, 2))
    gate = logits.sigmoid()
    if form == "mse":
        return ((gate - mask) ** 2).mean((1, 2))
    return 1 - (2 * (gate * mask).sum((1, 2)) + 1) / (gate.sum((1, 2)) + mask.sum((1, 2)) + 1)


def lesion_only_and_erased(images: Tensor, inside: Tensor) -> tuple[Tensor, Tensor]:
    """The pictures with nothing but their lesions, and with all but these.

    What is taken away is filled with the picture's mean color: black would be a picture of
    another kind.

    Args:
        images: uint8 or float (M, S, S, 3).
        inside: 1 inside the lesions, (M, S, S).
    """
    images, inside = images.float(), inside[..., None]
    mean = images.mean((1, 2), keepdim=True)
    return mean + inside * (images - mean), images + inside * (mean - images)


def regulation(
    whole: Tensor, lesion: Tensor, erased: Tensor, *, form: str = "ratio", temperature: float = 0.1
) -> Tensor:
    """Contrastive regulation of one stage's pooled features: near the lesion's, far from the rest.

    "ratio"    |v - v+|_1 / (|v - v-|_1 + 1e-7), at most 10
    "infonce"  -log( e^(v·v+/T) / (e^(v·v+/T) + e^(v·v-/T)) ), of unit rows

    Args:
        whole: v, features of the whole pictures, (M, K).
        lesion: v+, of the lesions alone; a constant, (M, K).
        erased: v-, of the pictures without them; a constant, (M, K).
        form: One of the two.
        temperature: T.

    Returns:
        One loss per picture, (M,).
    """
    lesion, erased = lesion.detach(), erased.detach()
    if form == "ratio":
        near, far = (whole - lesion).abs().sum(1), (whole - erased).abs().sum(1)
        return (near / (far + 1e-7)).clamp(max=LARGEST_RATIO)
    v, positive, negative = normalize(whole), normalize(lesion), normalize(erased)
    return softplus((v * (negative - positive)).sum(1) / temperature)


def stage_ends(sides: list[int]) -> list[int]:
    """The last layer of each resolution, at most the four coarsest, as indices.

    Args:
        sides: Side of the map behind each layer, as `training.network.map_sides` gives.
    """
    ends = [n for n, side in enumerate(sides) if n + 1 == len(sides) or sides[n + 1] != side]
    return ends[-len(STAGE_WEIGHTS) :]
