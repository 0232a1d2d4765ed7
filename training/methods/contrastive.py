"""What contrastive methods share: momentum copy, queue, projection, three losses.

Sources: MoCo (He et al., CVPR 2020) and MoCo-v2 (Chen et al., 2020) for copy, queue and InfoNCE;
SimCLR (Chen et al., ICML 2020) for NT-Xent; SupCon (Khosla et al., NeurIPS 2020, equation 2, the
sum outside the logarithm). Similarities are dot products of unit rows, divided by a temperature T.

Losses work on the rows of the whole batch. Where several processes share a batch, each gathers the
others' rows and computes the whole loss; the mean over them is the same.
"""

import copy
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from training.errors import ConfigError
from training.network import Network, evaluating


class Projection(nn.Sequential):
    """Pooled features (N, K) → unit rows (N, D): Linear, batch norm, ReLU, Linear.

    ProCo's G and ECL's head. With frozen batch norm, whose fresh statistics change nothing, it is
    MoCo-v2's two-layer MLP.
    """

    def __init__(self, features: int, hidden: int, dim: int) -> None:
        super().__init__(
            nn.Linear(features, hidden),
            nn.BatchNorm1d(hidden),
            nn.ReLU(),
            nn.Linear(hidden, dim),
        )

    def forward(self, pooled: Tensor) -> Tensor:
        """Rows of length 1, float32 under autocast too."""
        return normalize(super().forward(pooled).float())


class MomentumCopy(nn.Module):
    """A slow copy of modules: theta_k ← m theta_k + (1 - m) theta_q after each step.

    Buffers (batch norm's statistics) are the copy's own.

    Args:
        sources: What is copied.
        momentum: m; 0.999 in MoCo and in ProCo's code.
    """

    def __init__(self, *sources: nn.Module, momentum: float) -> None:
        super().__init__()
        self.copies = copy.deepcopy(nn.ModuleList(sources)).requires_grad_(False)
        self.momentum = momentum

    @torch.no_grad()
    def follow(self, *sources: nn.Module) -> None:
        """Move a step towards the sources."""
        fast = nn.ModuleList(sources).parameters()
        for slow, target in zip(self.copies.parameters(), fast, strict=True):
            slow.lerp_(target, 1 - self.momentum)


class KeyEncoder(MomentumCopy):
    """The momentum copy of a network and its projection."""

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Keys, unit rows (N, D), of pictures (N, S, S, 3)."""
        network, project = cast(Network, self.copies[0]), self.copies[1]
        return project(network.embed(network.activations(images)))


class Queue(nn.Module):
    """The keys of the latest batches with their labels; the oldest make room for new ones.

    ProCo's and PaCo's code normalizes the initial queue over the wrong axis and gives it random
    labels; here an entry that is not yet filled has label -1, and takes no part in any loss.

    Args:
        length: K, a multiple of the batch.
        dim: D.
    """

    rows: Tensor
    labels: Tensor
    pointer: Tensor

    def __init__(self, length: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("rows", torch.zeros(length, dim))
        self.register_buffer("labels", torch.full((length,), -1))
        self.register_buffer("pointer", torch.zeros((), dtype=torch.int64))

    @property
    def filled(self) -> Tensor:
        """Which entries hold a key, (K,)."""
        return self.labels >= 0

    @torch.no_grad()
    def push(self, rows: Tensor, labels: Tensor) -> None:
        """Put keys (B, D), scaled to length 1, and their labels (B,) in place of the oldest."""
        places = (self.pointer + torch.arange(len(rows), device=rows.device)) % len(self.labels)
        self.rows[places] = normalize(rows.float())
        self.labels[places] = labels
        self.pointer.copy_((self.pointer + len(rows)) % len(self.labels))


def info_nce(
    queries: Tensor, keys: Tensor, negatives: Tensor, filled: Tensor, *, temperature: float
) -> Tensor:
    """MoCo: tell a picture's own key from the queue's.

    L_i = -log( e^(q_i·k_i/T) / (e^(q_i·k_i/T) + sum over filled j of e^(q_i·n_j/T)) )

    Args:
        queries: (N, D).
        keys: Of other views of the same pictures, (N, D).
        negatives: The queue, (K, D).
        filled: Which of its entries count, (K,); none: the loss is 0.
        temperature: T; 0.2 in MoCo-v2.

    Returns:
        One loss per picture, (N,).
    """
    own = (queries * keys).sum(1, keepdim=True) / temperature
    others = (queries @ negatives.T / temperature).masked_fill(~filled, -torch.inf)
    return torch.cat([own, others], 1).logsumexp(1) - own[:, 0]


def nt_xent(first: Tensor, second: Tensor, *, temperature: float) -> Tensor:
    """SimCLR: tell a view's partner from all other views of the batch.

    L_i = -log( e^(z_i·z_p(i)/T) / sum over a ≠ i of e^(z_i·z_a/T) ), over the 2N views

    Args:
        first: One view of each picture, (N, D).
        second: The other, (N, D).
        temperature: T.

    Returns:
        One loss per view, (2N,).
    """
    rows = torch.cat([first, second])
    similar = rows @ rows.T / temperature
    similar = similar.masked_fill(itself(len(rows), len(rows), device=rows.device), -torch.inf)
    partner = torch.arange(len(rows), device=rows.device).roll(len(first))
    return torch.nn.functional.cross_entropy(similar, partner, reduction="none")


def supervised_contrast(
    similar: Tensor, labels: Tensor, others: Tensor, *, floor: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """The supervised contrastive terms of queries against {queries, keys, queue}.

    log pi(z_j) = q_i·z_j/T - log D_i, D_i = sum over j ≠ i of e^(q_i·z_j/T), plus what `floor` has

    Args:
        similar: q_i·z_j/T, (N, M); the first N candidates are the queries themselves.
        labels: Of the queries, (N,).
        others: Of the candidates, (M,); -1 for entries of the queue that are not filled.
        floor: Logarithm of what else stands in D_i, (N,): prototypes, proto-instances.

    Returns:
        log D_i, (N,); sum over the positives P(i) of log pi, (N,); number of positives, (N,).
        P(i): the candidates of the query's label, itself aside.
    """
    counted = (others >= 0) & ~itself(*similar.shape, device=similar.device)
    positive = counted & (others == labels[:, None])
    log_d = similar.masked_fill(~counted, -torch.inf).logsumexp(1)
    if floor is not None:
        log_d = torch.logaddexp(log_d, floor)
    log_pi = (similar - log_d[:, None]).masked_fill(~positive, 0.0)
    return log_d, log_pi.sum(1), positive.sum(1).to(similar.dtype)


def itself(rows: int, columns: int, *, device: torch.device) -> Tensor:
    """Where a candidate is the query itself, bool (N, M): on the diagonal."""
    return torch.eye(rows, columns, dtype=torch.bool, device=device)


def embedding_width(network: Network) -> int:
    """K, the width of the embedding."""
    device = next(network.parameters()).device
    with torch.no_grad(), evaluating(network):
        activations = network.activations(torch.zeros(1, 224, 224, 3, device=device))
        return int(network.embed(activations).shape[1])


def check_queue(setting: str, length: int, batch: int) -> None:
    """See that a queue holds whole batches.

    Raises:
        ConfigError: It does not.
    """
    if length < batch or length % batch:
        raise ConfigError(f"{setting} = {length}: expected a multiple of the batch, {batch}")
