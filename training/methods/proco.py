"""ProCo: prototype-aware contrastive learning (Yang et al., MICCAI 2022, arXiv 2209.00183).

The authors published the network and its settings, not the training loop and not the loss. Theirs:
two encoders, the projection G, the linear classifier F on the features as they are, the labelled
queue of 1,024 keys, T = 0.07, momentum 0.999; that there is a prototype per class, that
proto-instances are built from prototypes and queue, and that each prototype has a weight in the
loss. Ours: every equation here, kept so that it falls back to what is published: without
prototypes and proto-instances it is supervised contrastive learning with a queue, with the
classifier's logits as prototypes and nothing else it is PaCo (Cui et al., ICCV 2021), whose
interface the authors' code has.
"""

from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize, one_hot

from training.config import TrainingRun
from training.data.dataset import Batch
from training.data.samples import SampleList
from training.errors import ConfigError
from training.losses import effective_number_weights
from training.methods.contrastive import (
    KeyEncoder,
    Projection,
    Queue,
    check_queue,
    embedding_width,
    supervised_contrast,
)
from training.methods.method import Method, Task, classification_loss
from training.network import Network

CONFIDENCE_MOMENTUM = 0.99  # of the running probability of each class's own pictures, per step
LOWEST, HIGHEST = 0.1, 10.0  # of a prototype's weight, where their mean is 1


class ProCo(Method):
    """Query and key encoder, queue, prototypes, and the classifier, end to end in one stage.

    L = L_pl + eta L_cls. The prototypes start at random, and after the first epoch from the mean
    key of each class.

    Attributes:
        prototypes: p before it is scaled to length 1, (C, D); None where there are none, or where
            the classifier's rows take their part.
    """

    two_views: ClassVar[bool] = True
    parts = ("loss", "l_c", "l_pl", "l_in", "l_out")
    key_sums: Tensor
    prior: Tensor
    log_prior: Tensor
    confidence: Tensor
    warm: Tensor

    def __init__(self, network: Network, task: Task) -> None:
        super().__init__(network, task)
        self.settings = it = task.run.proco
        width, classes = embedding_width(network), network.classes
        counts = torch.from_numpy(task.train.counts())
        self.project = Projection(width, width, it.rows)
        self.key = KeyEncoder(network, self.project, momentum=it.momentum)
        self.queue = Queue(it.queue, it.rows)
        own = it.prototypes and it.space == "query"
        self.prototypes = nn.Parameter(torch.randn(classes, it.rows)) if own else None
        self.register_buffer("key_sums", torch.zeros(classes, it.rows))
        self.register_buffer("warm", torch.tensor(False))
        self.register_buffer("prior", prior_weights(counts, form=it.prior))
        self.register_buffer("log_prior", (counts / counts.sum()).log().float())
        self.register_buffer("confidence", torch.zeros(classes))
        self.seen: tuple[Tensor, Tensor, Tensor]

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """L_cls of this process's pictures, L_pl of the whole batch, and the attention loss."""
        activations = self.network.activations(batch.images)
        logits, _, embedding = self.network.classify(activations)
        queries, keys = self.project(embedding), self.key(batch.second)
        with torch.autocast(queries.device.type, enabled=False):
            l_c = classification_loss(self.classify, logits, batch, self.processes)
            queries, keys, logits, labels = (
                self.processes.gather(rows)
                for rows in (queries, keys, logits.float(), batch.labels)
            )
            l_pl = self.contrast(queries, keys, logits, labels)
            self.seen = (keys, logits.detach().softmax(1), labels)
        loss = l_pl + self.settings.eta * l_c
        return {"l_c": l_c, "l_pl": l_pl} | self.with_attention(batch, activations, loss)

    def contrast(self, queries: Tensor, keys: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
        """The mean L_pl of the whole batch: unit rows (N, D), logits (N, C), labels (N,)."""
        it = self.settings
        others = torch.cat([labels, labels, self.queue.labels])
        similar = queries @ torch.cat([queries, keys, self.queue.rows]).T / it.temperature
        prototypes = instances = None
        if self.prototypes is not None:
            rows = normalize(self.prototypes)
            prototypes = queries @ rows.T / it.temperature
            if it.instances:
                # Drawn for the whole batch, and on the CPU: alike in all processes, on any device.
                shares = it.rho + (1 - it.rho) * torch.rand(len(labels), len(rows))
                a = proto_instances(
                    queries,
                    labels,
                    rows,
                    self.queue.rows,
                    self.queue.labels,
                    rho=shares.to(rows),
                    epsilon=it.epsilon,
                )
                instances = (queries[:, None] * a).sum(2) / it.temperature
        elif it.prototypes:
            prototypes = logits + self.log_prior
        weights = recalibrated(self.prior, self.confidence if it.online else None)
        return proto_loss(
            similar,
            labels,
            others,
            prototypes=prototypes,
            weights=weights,
            instances=instances,
            alpha=it.alpha,
        ).mean()

    @torch.no_grad()
    def after_step(self) -> None:
        """Move the key encoder, queue the keys, note how surely each class is recognized."""
        keys, probabilities, labels = self.seen
        self.key.follow(self.network, self.project)
        self.queue.push(keys, labels)
        if not self.warm:
            self.key_sums.index_add_(0, labels, keys)
        members = one_hot(labels, len(self.confidence)).to(probabilities)
        means = (members * probabilities).sum(0) / members.sum(0).clamp(min=1)
        moved = self.confidence.lerp(means, 1 - CONFIDENCE_MOMENTUM)
        self.confidence.copy_(torch.where(members.sum(0) > 0, moved, self.confidence))

    @torch.no_grad()
    def after_epoch(self, labels: np.ndarray, logits: np.ndarray) -> None:
        """After the first epoch, start the prototypes from the mean key of each class seen."""
        if self.warm or self.prototypes is None:
            return
        known = self.key_sums.norm(dim=1, keepdim=True) > 0
        self.prototypes.copy_(torch.where(known, normalize(self.key_sums), self.prototypes))
        self.warm.fill_(True)

    @classmethod
    def check(cls, run: TrainingRun) -> None:
        """See that proto-instances have the prototypes they are made of."""
        it = run.proco
        if it.instances and not (it.prototypes and it.space == "query"):
            raise ConfigError(
                "proco.instances = true: proto-instances are made of prototypes in the query "
                'space; expected proco.prototypes = true and proco.space = "query"'
            )

    @classmethod
    def check_data(cls, run: TrainingRun, train: SampleList, batch: int) -> None:
        """See that the queue holds whole batches as well."""
        super().check_data(run, train, batch)
        check_queue("proco.queue", run.proco.queue, batch)


def proto_instances(
    queries: Tensor,
    labels: Tensor,
    prototypes: Tensor,
    queue: Tensor,
    queued: Tensor,
    *,
    rho: Tensor,
    epsilon: float,
) -> Tensor:
    """Adversarial proto-instances: between a prototype and the hardest key, a step harder still.

    The hardest key of class c for query i, h_ic, is the queue's least similar one of its own class
    and the most similar one of another. Then, with no gradient through any of it,

        a_ic = unit(rho p_c + (1 - rho) h_ic), or p_c where the queue holds no key of c
        a_ic ← unit(a_ic ∓ epsilon q_i), away from the query in its own class, towards it in others

    Args:
        queries: q, unit rows (N, D).
        labels: Their classes, (N,).
        prototypes: p, unit rows (C, D).
        queue: Keys, unit rows (K, D).
        queued: Their labels, (K,); -1 where not filled.
        rho: Share of the prototype, (N, C); 1 leaves the queue out.
        epsilon: Size of the step; 0 for none.

    Returns:
        a, unit rows (N, C, D), without gradient.
    """
    queries, prototypes = queries.detach(), prototypes.detach()
    classes = len(prototypes)
    away = 1 - 2 * one_hot(labels, classes).to(queries.dtype)  # -1 for the own class, else 1
    of_class = queued == torch.arange(classes, device=queued.device)[:, None]  # (C, K)
    hardness = away[:, :, None] * (queries @ queue.T)[:, None, :]
    hardest = queue[hardness.masked_fill(~of_class, -torch.inf).argmax(2)]
    rho = torch.where(of_class.any(1), rho, 1.0)[:, :, None]
    mixed = normalize(rho * prototypes + (1 - rho) * hardest, dim=2)
    return normalize(mixed + epsilon * away[:, :, None] * queries[:, None, :], dim=2)


def proto_loss(
    similar: Tensor,
    labels: Tensor,
    others: Tensor,
    *,
    prototypes: Tensor | None = None,
    weights: Tensor | None = None,
    instances: Tensor | None = None,
    alpha: float = 0.05,
) -> Tensor:
    """The proto-loss L_pl.

    L_i = -( r_y log pi(p_y) + log pi(a_iy) + alpha sum over j in P(i) of log pi(z_j) )
          / (r_y + 1 + alpha |P(i)|)
    log pi(v) = q_i·v/T - log D_i
    D_i = sum_c r_c e^(q_i·p_c/T) + sum_c e^(q_i·a_ic/T) + sum over j ≠ i of e^(q_i·z_j/T)

    What is left out (None) is left out of the numerator, of its count and of D_i. Identity
    settings give PaCo: prototypes = (F(f) + log prior) / supt, all r = 1, no instances.

    Args:
        similar: q_i·z_j/T against {queries, keys, queue}, (N, M); the first N are the queries.
        labels: Of the queries, (N,).
        others: Of the candidates, (M,); -1 for entries of the queue that are not filled.
        prototypes: q_i·p_c/T, or the classifier's adjusted logits, (N, C).
        weights: r, one per class, (C,); 1 if None.
        instances: q_i·a_ic/T, (N, C).
        alpha: Weight of a positive against that of a prototype; 0.05 in PaCo.

    Returns:
        One loss per query, (N,).
    """
    own = torch.zeros_like(similar[:, 0])  # sum of the weighted logits of p_y and a_iy
    share = torch.zeros_like(own)  # sum of their weights
    floor = torch.full_like(own, -torch.inf)
    if prototypes is not None:
        r = torch.ones_like(prototypes[0]) if weights is None else weights
        own = own + r[labels] * at(prototypes, labels)
        share = share + r[labels]
        floor = torch.logaddexp(floor, (prototypes + r.log()).logsumexp(1))
    if instances is not None:
        own = own + at(instances, labels)
        share = share + 1
        floor = torch.logaddexp(floor, instances.logsumexp(1))
    none = prototypes is None and instances is None
    log_d, positives, count = supervised_contrast(
        similar, labels, others, floor=None if none else floor
    )
    total = own - share * log_d + alpha * positives
    return -total / (share + alpha * count).clamp(min=1e-12)


def prior_weights(counts: Tensor, *, form: str = "effective") -> Tensor:
    """The part of a prototype's weight that class counts decide, mean 1, float32 (C,).

    Args:
        counts: Training pictures per class, (C,).
        form: "effective", 1 / effective number at beta 0.999; "quarter", n^(-1/4); "none", 1.
    """
    if form == "effective":
        return effective_number_weights(counts, 0.999)
    weights = counts.double() ** (-0.25 if form == "quarter" else 0.0)
    return (weights / weights.mean()).float()


def recalibrated(prior: Tensor, confidence: Tensor | None = None) -> Tensor:
    """Prototype recalibration: r, the weight of each prototype, (C,), mean 1.

    r_c ∝ prior_c (1 - confidence_c), clipped to [0.1, 10] where the mean is 1, rescaled to mean 1.

    Args:
        prior: From `prior_weights`, (C,).
        confidence: Running mean probability of the true class, by class, (C,) in [0, 1]; None for
            the prior alone.
    """
    weights = prior if confidence is None else prior * (1 - confidence).clamp(min=1e-3)
    weights = (weights / weights.mean()).clamp(LOWEST, HIGHEST)
    return weights / weights.mean()


def at(values: Tensor, labels: Tensor) -> Tensor:
    """One column of each row, (N,)."""
    return values.gather(1, labels[:, None])[:, 0]
