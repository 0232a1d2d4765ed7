"""Deep Pneumonia: attention-based contrastive learning (Wei et al., 2022, arXiv 2207.11393).

The paper's text and code are not public. Theirs, from the abstract: contrastive pre-training on the
same pictures alone; mask-guided hard attention on the attention map, from lesions marked by
doctors; contrastive regulation of the extracted features, towards the lesions; class-balanced loss
in place of cross-entropy. Ours: every equation here, and which pictures count as marked.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import (
    adaptive_max_pool2d,
    binary_cross_entropy_with_logits,
    normalize,
    softplus,
)

from training.config import AttentionSettings, TrainingRun
from training.data.dataset import Batch
from training.data.samples import SampleList
from training.errors import ConfigError
from training.methods.method import Method, Task, classification_loss
from training.network import Network, SpatialGate, map_sides

LARGEST_RATIO = 10.0  # the ratio explodes where erasing the lesion changes nothing
STAGE_WEIGHTS = (1 / 8, 1 / 4, 1 / 2, 1.0)  # omega_l, from the earliest stage to the last


class DeepPneumonia(Method):
    """A network with a gate at its map: L = L_CB + mu_1 L_att + mu_2 L_cr.

    L_att and L_cr are means over the pictures that take part: those with marks, and for L_att
    those known to hold no lesion. Stages of L_cr are the last four resolutions of the features;
    the last one is the gated map.
    """

    parts = ("loss", "l_c", "l_att", "l_cr", "l_in", "l_out")

    def __init__(self, network: Network, task: Task) -> None:
        super().__init__(network, task)
        self.settings = it = task.run.deep_pneumonia
        self.ends = stage_ends(map_sides(network.features, 224))
        self.lesion_free = [task.train.labels.index(label) for label in it.lesion_free]

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The losses of this process's pictures."""
        it = self.settings
        stages, before, activations = self.through(batch.images)
        height, width = activations.shape[2:]
        mask = hard_mask(batch.inside, (height, width))
        seen = self.lesions_only(batch, activations, mask) if it.lesion_only else activations
        logits = self.network.classify(seen).logits
        with torch.autocast(activations.device.type, enabled=False):
            l_c = classification_loss(self.classify, logits, batch, self.processes)
            l_att = self.attention_loss(batch, self.gate.logits(before.float())[:, 0], mask)
        l_cr = self.regulation_loss(batch, stages) if it.regulation else torch.zeros_like(l_c)
        loss = l_c + it.attention * l_att + it.regulation * l_cr
        own = {"l_c": l_c, "l_att": l_att, "l_cr": l_cr}
        return own | self.with_attention(batch, activations, loss)

    def through(self, images: Tensor) -> tuple[list[Tensor], Tensor, Tensor]:
        """Pooled features of each stage, the map before the gate, and behind it."""
        before = maps = self.network.normalized(images)
        stages = []
        for n, layer in enumerate(self.network.features):
            before, maps = maps, layer(maps)
            if n in self.ends:
                stages.append(maps.mean((2, 3)).float())
        return stages, before, maps

    def lesions_only(self, batch: Batch, activations: Tensor, mask: Tensor) -> Tensor:
        """The map, of some marked pictures nothing but the lesions' cells."""
        # Drawn for the whole batch, and on the CPU: alike in all processes, on any device.
        drawn = torch.rand(self.task.batch) < self.settings.lesion_only
        own = drawn[self.processes.rank :: self.processes.world][: len(batch.labels)]
        chosen = own.to(batch.boxed.device)[batch.boxed][:, None, None]
        kept = torch.ones_like(activations[:, 0])
        kept[batch.boxed] = torch.where(chosen, mask.to(kept), 1.0)
        return kept[:, None] * activations

    def attention_loss(self, batch: Batch, logits: Tensor, mask: Tensor) -> Tensor:
        """L_att, a mean over the marked pictures and those without a lesion; a scalar."""
        free = torch.isin(batch.labels, torch.tensor(self.lesion_free, device=mask.device).long())
        free[batch.boxed] = False
        wanted = torch.cat([mask, torch.zeros_like(logits[free])])
        found = torch.cat([logits[batch.boxed], logits[free]])
        losses = hard_attention_loss(found, wanted, form=self.settings.attention_form)
        return losses.sum() / self.processes.count(len(losses), logits.device)

    def regulation_loss(self, batch: Batch, stages: list[Tensor]) -> Tensor:
        """L_cr: of each stage the mean over the marked pictures, times omega; a scalar."""
        it, marked = self.settings, len(batch.boxed)
        total = torch.zeros((), device=batch.images.device)
        if marked:
            references = lesion_only_and_erased(batch.images[batch.boxed], batch.inside)
            with torch.no_grad(), steady_statistics(self.network.features):
                both = self.through(torch.cat(references))[0]
            for weight, whole, pair in zip(self.weights, stages, both, strict=True):
                terms = regulation(
                    whole[batch.boxed],
                    *pair.chunk(2),
                    form=it.regulation_form,
                    temperature=it.temperature,
                )
                total = total + weight * terms.sum()
        return total / self.processes.count(marked, total.device)

    @property
    def gate(self) -> SpatialGate:
        """The last layer of the features."""
        return cast(SpatialGate, self.network.features[-1])

    @property
    def weights(self) -> tuple[float, ...]:
        """Omega of each stage; the last one's is 1."""
        return STAGE_WEIGHTS[-len(self.ends) :]

    @classmethod
    def boxes_for(cls, run: TrainingRun, care: AttentionSettings | None) -> AttentionSettings:
        """Every box is a mark, whatever classes the attention loss attends to."""
        return replace(care or run.attention, attend=("all",))

    @classmethod
    def check_data(cls, run: TrainingRun, train: SampleList, batch: int) -> None:
        """See that there are marks, where a part needs them, and labels without lesions."""
        super().check_data(run, train, batch)
        it = run.deep_pneumonia
        for label in it.lesion_free:
            if label not in train.labels:
                raise ConfigError(
                    f"deep_pneumonia.lesion_free: no label {label!r}; there are "
                    f"{', '.join(train.labels)}"
                )
        marked = any(len(item.boxes) for item in train.samples)
        if not marked and (it.attention or it.regulation or it.lesion_only):
            raise ConfigError(
                "deep_pneumonia learns from lesion boxes, and no picture of the training list has "
                "any; name them in data.boxes, or set attention, regulation and lesion_only to 0"
            )


@contextmanager
def steady_statistics(network: nn.Module) -> Iterator[None]:
    """For a while, batch norm learns nothing of the pictures that pass."""
    norms = [part for part in network.modules() if isinstance(part, nn.BatchNorm2d)]
    before = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, before, strict=True):
            norm.momentum = momentum


def hard_mask(inside: Tensor, shape: tuple[int, int]) -> Tensor:
    """Which cells of a coarse grid touch a lesion, 0 or 1, (M, h, w), of masks (M, S, S)."""
    return adaptive_max_pool2d(inside[:, None], shape)[:, 0]


def hard_attention_loss(logits: Tensor, mask: Tensor, *, form: str = "bce") -> Tensor:
    """Mask-guided hard attention: the gate a = sigmoid(logits) against a binary mask m.

    "bce"   mean over cells of -m log a - (1 - m) log(1 - a)
    "mse"   mean over cells of (a - m)^2
    "dice"  1 - (2 sum(a m) + 1) / (sum a + sum m + 1)

    Args:
        logits: Of the gate, (M, h, w).
        mask: m, (M, h, w); all 0 for a picture known to hold no lesion.
        form: One of the three.

    Returns:
        One loss per picture, (M,).
    """
    if form == "bce":
        return binary_cross_entropy_with_logits(logits, mask, reduction="none").mean((1, 2))
    gate = logits.sigmoid()
    if form == "mse":
        return ((gate - mask) ** 2).mean((1, 2))
    return 1 - (2 * (gate * mask).sum((1, 2)) + 1) / (gate.sum((1, 2)) + mask.sum((1, 2)) + 1)


def lesion_only_and_erased(images: Tensor, inside: Tensor) -> tuple[Tensor, Tensor]:
    """The pictures with nothing but their lesions, and with all but these.

    What is taken away is filled with the picture's mean color: black would be a picture of
    another kind.

    Args:
        images: uint8 or float (M, S, S, 3).
        inside: 1 inside the lesions, (M, S, S).
    """
    images, inside = images.float(), inside[..., None]
    mean = images.mean((1, 2), keepdim=True)
    return mean + inside * (images - mean), images + inside * (mean - images)


def regulation(
    whole: Tensor, lesion: Tensor, erased: Tensor, *, form: str = "ratio", temperature: float = 0.1
) -> Tensor:
    """Contrastive regulation of one stage's pooled features: near the lesion's, far from the rest.

    "ratio"    |v - v+|_1 / (|v - v-|_1 + 1e-7), at most 10
    "infonce"  -log( e^(v·v+/T) / (e^(v·v+/T) + e^(v·v-/T)) ), of unit rows

    Args:
        whole: v, features of the whole pictures, (M, K).
        lesion: v+, of the lesions alone; a constant, (M, K).
        erased: v-, of the pictures without them; a constant, (M, K).
        form: One of the two.
        temperature: T.

    Returns:
        One loss per picture, (M,).
    """
    lesion, erased = lesion.detach(), erased.detach()
    if form == "ratio":
        near, far = (whole - lesion).abs().sum(1), (whole - erased).abs().sum(1)
        return (near / (far + 1e-7)).clamp(max=LARGEST_RATIO)
    v, positive, negative = normalize(whole), normalize(lesion), normalize(erased)
    return softplus((v * (negative - positive)).sum(1) / temperature)


def stage_ends(sides: list[int]) -> list[int]:
    """The last layer of each resolution, at most the four coarsest, as indices.

    Args:
        sides: Side of the map behind each layer, as `training.network.map_sides` gives.
    """
    ends = [n for n, side in enumerate(sides) if n + 1 == len(sides) or sides[n + 1] != side]
    return ends[-len(STAGE_WEIGHTS) :]
