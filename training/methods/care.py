"""CARE: class attention to regions of the lesion (Zhuang et al., MIDL 2019).

Stage 1 learns from the classification loss alone; stage 2 adds the attention loss, whose terms are
in training.attention. Also the method of every run that names no other, with or without boxes.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from training.config import AttentionSettings
from training.data.dataset import Batch
from training.losses import CrossEntropy
from training.methods.method import Method, attention_losses, classification_loss
from training.network import Network


class StepLosses(NamedTuple):
    """What a training step minimizes and what it is made of; scalars.

    Attributes:
        total: L = (1 - alpha) L_c + alpha L_a.
        l_c: Classification loss.
        l_in: Mean L_in over the pictures with boxes, at most 0; 0 where none has any.
        l_out: Mean L_out over them.
    """

    total: Tensor
    l_c: Tensor
    l_in: Tensor
    l_out: Tensor


class Care(Method):
    """The network, its classification loss, and the attention loss where the stage has one."""

    parts = ("loss", "l_c", "l_in", "l_out")

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """L, L_c, L_in, L_out."""
        losses = training_step(
            self.network, batch, self.classify, self.task.care, self.processes.mean
        )
        return dict(zip(self.parts, losses, strict=True))


def training_step(
    network: Network,
    batch: Batch,
    classify: CrossEntropy,
    care: AttentionSettings | None,
    shared: Callable[[Tensor], Tensor],
) -> StepLosses:
    """One step of CARE, up to the loss.

    Args:
        network: In training mode.
        batch: Pictures, labels and the masks of the lesion boxes.
        classify: L_c before the mean.
        care: Settings of the attention loss; None in stage 1.
        shared: Mean of a number over all processes, so that their mean losses are those of the
            whole batch.
    """
    if care is None:
        l_c = classification_loss(classify, network(batch.images).logits, batch, shared)
        return StepLosses(l_c, l_c, torch.zeros_like(l_c), torch.zeros_like(l_c))

    logits, maps, _ = network(
        batch.images, batch.labels, pictures=batch.boxed, detach=not care.head_learns
    )
    assert maps is not None  # labels were given
    l_c = classification_loss(classify, logits, batch, shared)
    l_in, l_out = attention_losses(maps, batch, care, shared)
    l_a = l_in + care.lam * l_out
    return StepLosses((1 - care.alpha) * l_c + care.alpha * l_a, l_c, l_in, l_out)
