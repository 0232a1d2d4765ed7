"""What the classifier learns from: one small class per remedy for imbalance.

Each turns logits (N, C) and labels (N,) into one loss per picture, and knows a weight per class;
the training step takes the weighted mean over the whole batch, over all processes. So cost
sensitivity is a matter of weights, and weighted means of several batches' shares add up exactly.
Class counts are those of the training list.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot

COSINE_SCALE = 30.0
"""What cosines are multiplied by to be logits, as in LDAM's code (Cao et al. 2019)."""


class CrossEntropy:
    """Plain softmax cross-entropy, every picture alike. The base of the others.

    Attributes:
        class_weights: Weight of each class in the mean, float32 (C,).
        cosine: Whether the logits must come from normalized features and weights.

    Args:
        counts: Training pictures per class, (C,).
    """

    cosine = False

    def __init__(self, counts: Tensor) -> None:
        self.counts = counts.double()
        self.class_weights = torch.ones(len(counts))

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        """One loss per picture, (N,), in float32: -log p of the true class."""
        return cross_entropy(logits.float(), labels, reduction="none")

    def weights(self, labels: Tensor) -> Tensor:
        """One weight per picture for the mean, (N,)."""
        return self.class_weights.to(labels.device)[labels]

    def start_epoch(self, progress: float) -> None:
        """Take note of the share of the stage's epochs that is done, in [0, 1)."""


class CostSensitive(CrossEntropy):
    """Cross-entropy weighted by 1 / class count: every class costs the same in all (CSL).

    Only the ratios of the weights matter; they are scaled to mean 1.
    """

    def __init__(self, counts: Tensor) -> None:
        super().__init__(counts)
        self.class_weights = _mean_one(1 / self.counts)


class Focal(CrossEntropy):
    """(1 - p)^gamma times cross-entropy: easy pictures count less (Lin et al. 2017), softmax form.

    Args:
        gamma: 2; the CARE paper does not state it.
    """

    def __init__(self, counts: Tensor, *, gamma: float = 2.0) -> None:
        super().__init__(counts)
        self.gamma = gamma

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        """-(1 - p)^gamma log p of the true class, (N,)."""
        cost = super().__call__(logits, labels)
        # 1 - p = -expm1(log p): exact where p is nearly 1. Above 0, where a power below 1 is steep.
        return (-torch.expm1(-cost)).clamp(min=1e-12) ** self.gamma * cost


class ClassBalanced(CrossEntropy):
    """Cross-entropy weighted by 1 / effective number of pictures (Cui et al. 2019, equation 4).

    E_n = (1 - beta^n) / (1 - beta); the weights sum to C.

    Args:
        beta: 0.999 where the largest class is below 5,000, else 0.9999.
    """

    def __init__(self, counts: Tensor, *, beta: float | None = None) -> None:
        super().__init__(counts)
        usual = 0.999 if counts.max() < 5000 else 0.9999
        self.class_weights = effective_number_weights(self.counts, usual if beta is None else beta)


class LDAM(CrossEntropy):
    """Cross-entropy with a margin for rare classes, re-weighted late (Cao et al. 2019, LDAM-DRW).

    The cosine of the true class is lowered by its margin, proportional to n^(-1/4). For the first
    part of the stage every picture weighs the same; then weights by effective number.

    Args:
        margin: Of the rarest class.
        deferred: Share of the stage before re-weighting; 160 of 200 epochs in the paper.
        beta: Of the effective number.
    """

    cosine = True

    def __init__(
        self,
        counts: Tensor,
        *,
        margin: float = 0.5,
        deferred: float = 0.8,
        beta: float = 0.9999,
    ) -> None:
        super().__init__(counts)
        quarter = self.counts**-0.25
        self.margins = (margin * quarter / quarter.max()).float()
        self.deferred = deferred
        self.beta = beta

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy of `COSINE_SCALE` * (cos - margin of the true class), (N,)."""
        margins = self.margins.to(labels.device)[labels]
        lowered = one_hot(labels, logits.shape[1]) * (COSINE_SCALE * margins)[:, None]
        return super().__call__(logits.float() - lowered, labels)

    def start_epoch(self, progress: float) -> None:
        """Re-weight once the deferred share of the stage is over."""
        late = progress >= self.deferred
        uniform = torch.ones(len(self.counts))
        self.class_weights = effective_number_weights(self.counts, self.beta) if late else uniform


class LogitAdjusted(CrossEntropy):
    """Cross-entropy of logits + tau * log prior (Menon et al. 2021; balanced softmax at tau 1).

    The prior is added in training only: what is exported are the plain logits.

    Args:
        tau: Strength.
    """

    def __init__(self, counts: Tensor, *, tau: float = 1.0) -> None:
        super().__init__(counts)
        self.adjustment = (tau * (self.counts / self.counts.sum()).log()).float()

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        """-log softmax(logits + tau log prior) of the true class, (N,)."""
        return super().__call__(logits.float() + self.adjustment.to(logits.device), labels)


def effective_number_weights(counts: Tensor, beta: float) -> Tensor:
    """1 / effective number of pictures per class, scaled to sum to C, float32 (C,)."""
    return _mean_one((1 - beta) / (1 - beta ** counts.double()))


def _mean_one(weights: Tensor) -> Tensor:
    return (weights / weights.mean()).float()


LOSSES: dict[str, type[CrossEntropy]] = {
    "cross_entropy": CrossEntropy,
    "cost_sensitive": CostSensitive,
    "focal": Focal,
    "class_balanced": ClassBalanced,
    "ldam_drw": LDAM,
    "logit_adjusted": LogitAdjusted,
}


def make_loss(settings: Mapping[str, Any], counts: Tensor) -> CrossEntropy:
    """The loss of a run: its name, and the options that differ from its defaults."""
    options = {key: value for key, value in settings.items() if key != "name" and value is not None}
    return LOSSES[settings["name"]](counts, **options)
