"""What the classifier learns from: one small class per remedy for imbalance.

Each turns logits (N, C) and labels (N,) into one loss per picture and one weight per picture; the
training step takes the weighted mean over the whole batch, over all processes. Class counts are
those of the training list.
"""

from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy


class ClassificationLoss(Protocol):
    """L_c, before the mean."""

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        """One loss per picture, (N,)."""
        ...

    def weights(self, labels: Tensor) -> Tensor:
        """One weight per picture for the mean, (N,)."""
        ...


class CrossEntropy:
    """Plain softmax cross-entropy, every picture alike."""

    def __init__(self, counts: Tensor) -> None:
        self.class_weights = torch.ones_like(counts, dtype=torch.float32)

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        """-log p of the true class, (N,)."""
        return cross_entropy(logits.float(), labels, reduction="none")

    def weights(self, labels: Tensor) -> Tensor:
        """The weight of each picture's class, (N,)."""
        return self.class_weights.to(labels.device)[labels]


class CostSensitive(CrossEntropy):
    """Cross-entropy weighted by 1 / class count: every class costs the same in all (CSL)."""

    def __init__(self, counts: Tensor) -> None:
        super().__init__(counts)
        self.class_weights = (1 / counts).float() * (counts.sum() / len(counts))


LOSSES: dict[str, type[CrossEntropy]] = {
    "cross_entropy": CrossEntropy,
    "cost_sensitive": CostSensitive,
}
