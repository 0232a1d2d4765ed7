"""Contrastive pre-training without labels: MoCo-v2 and SimCLR, each a stage before stage 1."""

from typing import ClassVar

import torch
from torch import Tensor

from training.config import TrainingRun
from training.data.dataset import Batch
from training.data.samples import SampleList
from training.methods.contrastive import (
    KeyEncoder,
    Projection,
    Queue,
    check_queue,
    embedding_width,
    info_nce,
    nt_xent,
)
from training.methods.method import Method, Task
from training.network import Network


class Pretraining(Method):
    """A projection behind the network; the head takes no part, and no epoch is better than another.

    Attributes:
        project: From pooled features to the rows that are compared.
    """

    two_views: ClassVar[bool] = True
    validated: ClassVar[bool] = False
    parts = ("loss",)

    def __init__(self, network: Network, task: Task) -> None:
        super().__init__(network, task)
        self.settings = task.run.pretraining
        network.head.requires_grad_(False)  # nothing here goes through it
        width = embedding_width(network)
        self.project = Projection(width, width, self.settings.rows)


class SimCLR(Pretraining):
    """SimCLR (Chen et al., ICML 2020): NT-Xent between the two views of every picture."""

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The mean NT-Xent of all views of the whole batch."""
        both = self.network.activations(torch.cat([batch.images, batch.second]))
        rows = self.project(self.network.embed(both))
        with torch.autocast(rows.device.type, enabled=False):
            first, second = (self.processes.gather(half) for half in rows.chunk(2))
            loss = nt_xent(first, second, temperature=self.settings.temperature)
        return {"loss": loss.mean()}


class MoCo(Pretraining):
    """MoCo-v2 (Chen et al., 2020): tell a picture's own key from those of earlier pictures.

    Batch norm is not shuffled across devices, as MoCo does where each has its own statistics.
    """

    def __init__(self, network: Network, task: Task) -> None:
        super().__init__(network, task)
        self.key = KeyEncoder(network, self.project, momentum=self.settings.momentum)
        self.queue = Queue(self.settings.queue, self.settings.rows)
        self.keys = torch.empty(0)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The mean InfoNCE of this process's pictures."""
        queries = self.project(self.network.embed(self.network.activations(batch.images)))
        keys = self.key(batch.second)
        with torch.autocast(queries.device.type, enabled=False):
            loss = info_nce(
                queries,
                keys,
                self.queue.rows,
                self.queue.filled,
                temperature=self.settings.temperature,
            )
            self.keys = self.processes.gather(keys)
        return {"loss": loss.mean()}

    def after_step(self) -> None:
        """Move the key encoder, and queue the keys; labels play no part."""
        self.key.follow(self.network, self.project)
        self.queue.push(self.keys, torch.zeros_like(self.keys[:, 0], dtype=torch.int64))

    @classmethod
    def check_data(cls, run: TrainingRun, train: SampleList, batch: int) -> None:
        """See that the queue holds whole batches as well."""
        super().check_data(run, train, batch)
        check_queue("pretraining.queue", run.pretraining.queue, batch)
