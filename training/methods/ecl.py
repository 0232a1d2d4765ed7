"""ECL: class-enhancement contrastive learning (Zhang et al., MICCAI 2023, arXiv 2307.04136).

The authors' code is complete: the equations, the numbers and the schedule are theirs. Ours: shares
of the stage in place of epochs 20 and 50 of 100, F1 kept from 0, anchors without positives left
out of the mean.
"""

import torch
from torch import Tensor

from training.losses import CrossEntropy
from training.methods.contrastive import itself

LEAST_F1 = 0.05  # the authors divide by F1, which is 0 for a class that is never found


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
