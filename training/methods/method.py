"""What a method is to the training loop: a module around the network, from batch to losses.

A method holds the network and whatever its paper trains beside it: a momentum encoder, a queue,
prototypes. All of that is in the method's state, so a stopped run goes on with it; what is
exported is the network alone.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, cast

import numpy as np
import torch
from lightning.fabric import Fabric
from torch import Tensor, nn

from training.attention import attention_losses
from training.config import AttentionSettings, TrainingRun
from training.data.dataset import Batch, attended_labels
from training.data.samples import SampleList
from training.errors import ConfigError
from training.losses import CrossEntropy
from training.network import Network


@dataclass(frozen=True, slots=True)
class Processes:
    """The processes that share a batch: this one's place among them, and what they tell each other.

    Attributes:
        fabric: None where this process is alone.
    """

    fabric: Fabric | None = None

    @property
    def rank(self) -> int:
        """This process."""
        return self.fabric.global_rank if self.fabric else 0

    @property
    def world(self) -> int:
        """How many there are."""
        return self.fabric.world_size if self.fabric else 1

    def mean(self, value: Tensor) -> Tensor:
        """The mean of a tensor over all processes; no gradient passes through it."""
        value = value.detach().clone()
        if self.fabric is None:
            return value
        return cast(Tensor, self.fabric.all_reduce(value, reduce_op="mean"))

    def count(self, own: int, device: torch.device) -> Tensor:
        """The mean of a count over all processes, kept from 0, for means of what they all have."""
        return self.mean(torch.tensor(float(own), device=device)).clamp(min=1e-6)

    def gather(self, rows: Tensor) -> Tensor:
        """The rows of all processes, (world * N, ...), in the batch's order, with their gradient.

        N is alike in all processes, each of which has every world-th picture.
        """
        if self.fabric is None or self.world == 1:
            return rows
        gathered = self.fabric.all_gather(rows, sync_grads=rows.requires_grad)
        return cast(Tensor, gathered).transpose(0, 1).flatten(0, 1)


@dataclass(frozen=True, slots=True)
class Task:
    """What a stage asks of a method.

    Attributes:
        run: The settings.
        train: The training list.
        classify: L_c before the mean.
        batch: Pictures per step, over all processes.
        care: Settings of the attention loss; None for none.
        processes: Who shares the batches.
    """

    run: TrainingRun
    train: SampleList
    classify: CrossEntropy
    batch: int
    care: AttentionSettings | None = None
    processes: Processes = field(default_factory=Processes)


class Method(nn.Module, ABC):
    """The base of all methods.

    Attributes:
        two_views: Whether a batch brings a second view of each picture, and is always full.
        validated: Whether validation tells which epoch is best; else the last one is.
        parts: Names of the losses, in the order in which they are written down.
        network: What is trained and exported.

    Args:
        network: As it stands at the beginning of the stage.
        task: What to do with it.
    """

    two_views: ClassVar[bool] = False
    validated: ClassVar[bool] = True
    parts: ClassVar[tuple[str, ...]] = ()

    def __init__(self, network: Network, task: Task) -> None:
        super().__init__()
        self.network = network
        self.task = task
        self.classify = task.classify
        self.processes = task.processes
        self.attended = attended_labels(task.care, task.train)

    @abstractmethod
    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The losses of this process's share of a batch, scalars, by name: those of `parts`.

        "loss" is what is minimized. Means over processes are those of the whole batch.
        """

    def start_epoch(self, epoch: int, epochs: int) -> None:
        """Get ready for an epoch, counted from 0, of so many."""
        self.classify.start_epoch(epoch / epochs)

    def after_step(self) -> None:
        """Move what follows the network, once its optimizer has stepped."""

    def after_epoch(self, labels: np.ndarray, logits: np.ndarray) -> None:
        """Take note of the validation list: labels (N,), logits (N, C)."""

    def own_optimizer(self) -> torch.optim.Optimizer | None:
        """For parameters that the method steps itself, at its own pace; None for none."""
        return None

    def own_state(self) -> dict[str, Tensor]:
        """What the method trains beside the network."""
        state = self.state_dict()
        return {name: value for name, value in state.items() if not name.startswith("network.")}

    @classmethod
    def boxes_for(
        cls, run: TrainingRun, care: AttentionSettings | None
    ) -> AttentionSettings | None:
        """Whose boxes the batches bring."""
        return care

    @classmethod
    def check(cls, run: TrainingRun) -> None:
        """See that the settings go together.

        Raises:
            ConfigError: They do not.
        """

    @classmethod
    def check_data(cls, run: TrainingRun, train: SampleList, batch: int) -> None:
        """See that the settings go together with the training list and the batch.

        Raises:
            ConfigError: They do not.
        """
        if cls.two_views and batch % run.devices:
            raise ConfigError(f"a batch of {batch} pictures cannot be shared by {run.devices}")
        if cls.two_views and batch < 2 * run.devices and run.network.batch_norm != "frozen":
            raise ConfigError(
                f"a batch of {batch} pictures for {run.devices} process(es): batch norm of what is "
                'compared needs 2 in each, or network.batch_norm = "frozen"'
            )

    def with_attention(self, batch: Batch, activations: Tensor, loss: Tensor) -> dict[str, Tensor]:
        """CARE's equations 1 and 2: L = (1 - alpha) L_method + alpha (L_in + lambda L_out).

        Args:
            batch: With the masks of the boxes.
            activations: The network's map of `batch.images`, (B, K, h, w).
            loss: L_method, a scalar; L_c in the paper.

        Returns:
            "loss", L; "l_in" and "l_out", the means over the pictures with boxes, all processes
            together, 0 where there is no attention loss.
        """
        if (care := self.task.care) is None:
            zero = torch.zeros_like(loss)
            return {"loss": loss, "l_in": zero, "l_out": zero}
        batch = batch.only_of(self.attended)
        labels = batch.labels[batch.boxed]
        maps = self.network.maps(activations[batch.boxed], labels, detach=not care.head_learns)
        terms = attention_losses(maps, batch.inside, batch.outside, tau=care.tau)
        boxed = self.processes.count(len(maps), maps.device)
        l_in, l_out = terms.inside.sum() / boxed, terms.outside.sum() / boxed
        total = (1 - care.alpha) * loss + care.alpha * (l_in + care.lam * l_out)
        return {"loss": total, "l_in": l_in, "l_out": l_out}


class Step(nn.Module):
    """A method as Fabric calls it: the batch comes as a function, which is left as it is.

    Of a batch itself, Fabric would turn masks and shares into bfloat16.
    """

    def __init__(self, method: Method) -> None:
        super().__init__()
        self.method = method

    def forward(self, batch: Callable[[], Batch]) -> dict[str, Tensor]:
        """The method's losses of a batch."""
        return cast(dict[str, Tensor], self.method(batch()))


def classification_loss(
    classify: CrossEntropy, logits: Tensor, batch: Batch, processes: Processes
) -> Tensor:
    """L_c: the weighted mean over the whole batch; of mixtures, both classes by their shares."""
    logits = logits.float()  # once: the gradients of both classes add up in float32
    total, weight = torch.zeros((), device=logits.device), torch.zeros((), device=logits.device)
    for labels, shares in ((batch.labels, batch.shares), (batch.partners, 1 - batch.shares)):
        weights = shares * classify.weights(labels)
        total = total + (weights * classify(logits, labels)).sum()
        weight = weight + weights.sum()
    return total / processes.mean(weight)
