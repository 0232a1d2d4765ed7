"""Networks, lists and batches small enough to check by hand."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from imaging.preprocessing import Preprocessing
from training.data.cache import PictureCache
from training.data.dataset import Batch
from training.data.samples import Sample, SampleList
from training.methods import Processes
from training.network import CosineLinear, Network, VectorNorm

SIDE = 16
CLASSES = 4
KINDS = (
    "linear",
    "dropout and linear",
    "hidden layer",
    "hidden layer with batch norm",
    "cosine",
    "layer norm",
    "flattened",
    "tail",
    "tail and hidden layer",
    "tail and flattened",
)


def tiny_network(kind: str, *, seed: int = 0) -> Network:
    """A network of a kind in `KINDS` for pictures of 16 pixels and 4 classes; signed features."""
    torch.manual_seed(seed)
    first = [nn.Conv2d(3, 6, 3, stride=2, padding=1), nn.BatchNorm2d(6), nn.ReLU()]
    second = [nn.Conv2d(6, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.Tanh()]
    tail: nn.Sequential | None = None
    features = nn.Sequential(*first, *second)
    if kind.startswith("tail"):
        features, tail = nn.Sequential(*first), nn.Sequential(*second)
    flattened = kind.endswith("flattened")
    if kind in ("linear", "tail"):
        head = nn.Sequential(nn.Linear(8, CLASSES))
    elif kind == "dropout and linear":
        head = nn.Sequential(nn.Dropout(0.5), nn.Linear(8, CLASSES))
    elif kind == "hidden layer with batch norm":
        head = nn.Sequential(
            nn.Linear(8, 10), nn.BatchNorm1d(10), nn.ReLU(), nn.Linear(10, CLASSES)
        )
    elif kind == "cosine":
        head = nn.Sequential(CosineLinear(8, CLASSES))
    elif kind == "layer norm":
        head = nn.Sequential(VectorNorm(nn.LayerNorm(8, eps=1e-6)), nn.Linear(8, CLASSES))
    else:
        inputs = 8 * 4 * 4 if flattened else 8
        head = nn.Sequential(
            nn.Linear(inputs, 10), nn.Hardswish(), nn.Dropout(0.5), nn.Linear(10, CLASSES)
        )
    network = Network(features, head, tail=tail, pooled=not flattened)
    with torch.no_grad():  # statistics and scales that are not those of a fresh layer
        for part in network.modules():
            if isinstance(part, nn.modules.batchnorm._BatchNorm | VectorNorm):
                part.weight.uniform_(0.5, 1.5)
                part.bias.uniform_(-0.5, 0.5)
            if isinstance(part, nn.modules.batchnorm._BatchNorm):
                part.running_mean.uniform_(-0.2, 0.2)
                part.running_var.uniform_(0.5, 1.5)
    return network


def tiny_pictures(count: int = 5, *, side: int = SIDE, seed: int = 1) -> Tensor:
    """Noise, uint8 (N, S, S, 3)."""
    random = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, side, side, 3), generator=random, dtype=torch.uint8)


def double_copy(network: Network) -> Network:
    """The same network in float64, as it runs at inference."""
    return copy.deepcopy(network).double().eval()


def backpropagated_maps(network: Network, activations: Tensor, labels: Tensor) -> Tensor:
    """Signed Grad-CAM in float64 by plain backpropagation from the logits to the map."""
    point = activations.detach().double().requires_grad_()
    logits = double_copy(network).classify(point).logits
    score = logits[torch.arange(len(labels)), labels].sum()
    [gradient] = torch.autograd.grad(score, point)
    return torch.einsum("nk,nkhw->nhw", gradient.mean((2, 3)), point).detach()


def rectangles(boxes: Sequence[Sequence[int]], side: int = SIDE) -> np.ndarray:
    """Union of whole-pixel boxes [x0, y0, x1, y1], uint8 (S, S)."""
    mask = np.zeros((side, side), np.uint8)
    for x0, y0, x1, y1 in boxes:
        mask[y0:y1, x0:x1] = 1
    return mask


def make_batch(
    images: Tensor,
    labels: Sequence[int],
    masks: dict[int, np.ndarray] | None = None,
    *,
    partners: Sequence[int] | None = None,
    shares: Sequence[float] | None = None,
) -> Batch:
    """A batch whose pictures n have the lesion masks `masks[n]`; uniform outside masks."""
    masks = masks or {}
    side = images.shape[1]
    inside = torch.tensor(np.array([*masks.values()]).reshape(-1, side, side), dtype=torch.float32)
    return Batch(
        images=images,
        labels=torch.tensor(labels),
        boxed=torch.tensor(list(masks), dtype=torch.int64),
        inside=inside,
        outside=1 - inside,
        partners=torch.tensor(labels if partners is None else partners),
        shares=torch.tensor([1.0] * len(labels) if shares is None else shares),
    )


def sample(
    name: str, label: int, *, group: str = "", boxes: object = (), folder: Path = Path()
) -> Sample:
    """One picture of a list; its own group unless told."""
    rows = np.array(boxes, np.float64).reshape(-1, 4)
    return Sample(name, folder / name, label, group or name, rows)


def sample_list(*samples: Sample, labels: Sequence[str] | None = None) -> SampleList:
    """A list of pictures; classes are named a, b, c ... unless told."""
    count = max(item.label for item in samples) + 1
    return SampleList(tuple(labels or "abcdefghij"[:count]), samples)


def cache_of(samples: SampleList, pictures: np.ndarray) -> PictureCache:
    """Decoded pictures uint8 (N, S, S, 3), each at its own size."""
    side = pictures.shape[1]
    place = Preprocessing(size=side, fit="squash", color="rgb").place(side, side)
    names = [item.name for item in samples.samples]
    return PictureCache(pictures, [place] * len(names), names)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Rows of probabilities, float64."""
    powers = np.exp(np.float64(logits) - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


@dataclass(frozen=True)
class Told(Processes):
    """One of several processes: what it hears when it asks for a mean over all of them."""

    hears: Callable[[Tensor], Tensor] = Tensor.clone

    def mean(self, value: Tensor) -> Tensor:
        return self.hears(value)
