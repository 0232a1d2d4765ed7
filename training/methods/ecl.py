"""ECL: class-enhancement contrastive learning (Zhang et al., MICCAI 2023, arXiv 2307.04136).

The authors' code is complete: the equations, the numbers and the schedule are theirs. Ours: shares
of the stage in place of epochs 20 and 50 of 100, F1 kept from 0, anchors without positives left
out of the mean.
"""

from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from training.config import TrainingRun
from training.data.dataset import Batch
from training.errors import ConfigError
from training.losses import CrossEntropy
from training.methods.contrastive import Projection, embedding_width, itself
from training.methods.method import Method, Task, classification_loss
from training.metrics import f1_scores
from training.network import Network

LEAST_F1 = 0.05  # the authors divide by F1, which is 0 for a class that is never found


class ECL(Method):
    """Two views against each other and against proxies; the first view feeds the classifier.

    L = 2 BWCE + 1 BHP. The proxies gather their gradient over an epoch and move once at its end.

    Attributes:
        proxies: Before they are scaled to length 1, (P, D).
        f1: Of each class on the validation list, after the last epoch, (C,).
    """

    two_views: ClassVar[bool] = True
    parts = ("loss", "l_c", "l_bhp", "l_in", "l_out")
    proxy_labels: Tensor
    f1: Tensor

    def __init__(self, network: Network, task: Task) -> None:
        super().__init__(network, task)
        self.settings = it = task.run.ecl
        counts = torch.from_numpy(task.train.counts())
        width = embedding_width(network)
        self.project = Projection(width, it.rows, it.rows)
        wanted = proxies_per_class(counts)
        self.proxies = nn.Parameter(torch.randn(int(wanted.sum()), it.rows))
        self.register_buffer("proxy_labels", torch.arange(len(counts)).repeat_interleave(wanted))
        self.register_buffer("f1", torch.ones(len(counts)))
        self.weighted = BalanceWeighted(counts)
        if it.weighted:
            self.classify = self.weighted
        self.proxy_optimizer = torch.optim.SGD([self.proxies], lr=it.proxy_rate, momentum=0.9)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """BWCE of this process's pictures, BHP of the whole batch, and the attention loss."""
        both = self.network.activations(torch.cat([batch.images, batch.second]))
        activations = both[: len(batch.images)]
        logits = self.network.classify(activations).logits
        rows = self.project(self.network.embed(both))
        with torch.autocast(rows.device.type, enabled=False):
            l_c = classification_loss(self.classify, logits, batch, self.processes)
            rows = torch.cat([self.processes.gather(rows), normalize(self.proxies)])
            labels = self.processes.gather(batch.labels.repeat(2))
            labels = torch.cat([labels, self.proxy_labels])
            l_bhp = bhp_loss(rows, labels, temperature=self.settings.temperature)
        loss = self.settings.classification * l_c + self.settings.contrast * l_bhp
        return {"l_c": l_c, "l_bhp": l_bhp} | self.with_attention(batch, activations, loss)

    def start_epoch(self, epoch: int, epochs: int) -> None:
        """Set the weights of the classes."""
        super().start_epoch(epoch, epochs)
        self.weighted.f1 = self.f1.cpu()
        self.weighted.start(epoch + 1, epochs)

    def after_epoch(self, labels: np.ndarray, logits: np.ndarray) -> None:
        """Move the proxies; take note of each class's F1, of those that the list holds."""
        self.proxy_optimizer.step()
        self.proxy_optimizer.zero_grad()
        found = f1_scores(labels, logits.argmax(1), logits.shape[1])
        self.f1.copy_(torch.from_numpy(np.nan_to_num(found, nan=1.0)))

    def own_optimizer(self) -> torch.optim.Optimizer:
        """That of the proxies."""
        return self.proxy_optimizer

    @classmethod
    def check(cls, run: TrainingRun) -> None:
        """See that nothing else claims to weigh the classes or to scale the gradient."""
        if run.loss.name != "cross_entropy":
            raise ConfigError(
                f"loss.name = {run.loss.name!r}: ecl weighs cross-entropy in its own way; expected "
                "cross_entropy, and ecl.weighted = false for the plain one"
            )
        if run.precision == "16-mixed":
            raise ConfigError(
                "precision = '16-mixed': ecl's proxies gather gradients over an epoch, and its "
                "loss scale changes on the way; expected bf16-mixed or 32-true"
            )


def proxies_per_class(counts: Tensor) -> Tensor:
    """Hybrid proxies: 1 for the largest class, else floor(n_max / n_c / 10) + 2, int64 (C,).

    On ISIC 2018 (mel, nv, bcc, akiec, bkl, df, vasc): 2, 1, 3, 4, 2, 7, 6, 25 in all.
    """
    ratio = counts.max() / counts.double()
    wanted = (ratio / 10).floor().long() + 2
    wanted[counts.argmax()] = 1
    return wanted


def bhp_loss(rows: Tensor, labels: Tensor, *, temperature: float) -> Tensor:
    """Balanced-hybrid-proxy loss over anchors: both views of each picture, and all proxies.

    L = -mean_i mean over p in P(i) of log( e^(s_ip) / sum over a ≠ i of e^(s_ia) / n_ia )
    s_ij = z_i·z_j/T, n_ia = number of anchors of a's class, i not counted among them

    So every class present weighs the same in the denominator, however many anchors it has.

    Args:
        rows: z, unit rows (A, D).
        labels: (A,).
        temperature: T; 0.1 in the paper.

    Returns:
        The mean over the anchors that have a positive; a scalar.
    """
    same = labels == labels[:, None]
    alone = itself(len(rows), len(rows), device=rows.device)
    members = same.sum(1)
    others = (members[None] - same.long()).clamp(min=1)  # n_ia; a = i is masked below
    similar = rows @ rows.T / temperature
    log_d = (similar - others.to(rows.dtype).log()).masked_fill(alone, -torch.inf).logsumexp(1)
    positive = same & ~alone
    log_pi = (similar - log_d[:, None]).masked_fill(~positive, 0.0).sum(1)
    count = positive.sum(1)
    means = log_pi / count.clamp(min=1)
    return -means.sum() / (count > 0).sum().clamp(min=1)


class BalanceWeighted(CrossEntropy):
    """Balance-weighted cross-entropy (BWCE): plain, then by class counts, then by validation F1.

    Epoch e of E, from 1: weights 1 up to 0.2 E; then w_c^((e - 0.2 E) / 0.3 E), w_c ∝ 1 / n_c;
    beyond 0.5 E v_c^((e - 0.5 E) / 0.5 E), v_c ∝ 1 / F1_c; w and v scaled to sum to C.

    Args:
        counts: Training pictures per class, (C,).
    """

    plain, by_counts = 0.2, 0.5

    def __init__(self, counts: Tensor) -> None:
        super().__init__(counts)
        self.f1 = torch.ones(len(counts))

    def start(self, epoch: int, epochs: int) -> None:
        """Set the weights for an epoch, counted from 1."""
        done = epoch / epochs
        if done <= self.plain:
            inverse, exponent = torch.ones(len(self.counts)), 0.0
        elif done <= self.by_counts:
            inverse = 1 / self.counts
            exponent = (done - self.plain) / (self.by_counts - self.plain)
        else:
            inverse = 1 / self.f1.clamp(min=LEAST_F1)
            exponent = (done - self.by_counts) / (1 - self.by_counts)
        self.class_weights = ((inverse / inverse.mean()) ** exponent).float()
