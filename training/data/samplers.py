"""Which pictures make up each batch. One list for all processes, cut into shares by rank.

The list depends on seed and epoch alone, so two processes take the same batches as one, and a
resumed run the same as an undisturbed one.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator

import numpy as np

from training.config import MixUpSettings, SamplerSettings
from training.data.dataset import Draw
from training.errors import ConfigError


class Sampler(ABC):
    """The batches of an epoch; `epoch` is set before each.

    Args:
        labels: Class of each sample, (N,).
        settings: Batch size and what else the sampler needs.
        seed: With the epoch, decides everything.
        rank: This process.
        world: How many processes share each batch.
        mixup: Whether and how pictures are mixed.
        whole: Leave out a last batch that is not full.

    Attributes:
        pictures: How many an epoch has, before its last batch is filled up or left out.
    """

    def __init__(
        self,
        labels: np.ndarray,
        settings: SamplerSettings,
        *,
        seed: int,
        rank: int = 0,
        world: int = 1,
        mixup: MixUpSettings | None = None,
        whole: bool = False,
    ) -> None:
        self.labels = labels
        self.settings = settings
        self.seed = seed
        self.rank = rank
        self.world = world
        self.mixup = mixup or MixUpSettings()
        self.epoch = 0
        self.members = [np.flatnonzero(labels == label) for label in range(int(labels.max()) + 1)]
        self.pictures = settings.epoch_pictures or len(labels)
        self.least = self.batch if whole else world

    @property
    def batch(self) -> int:
        """Pictures per step, over all processes."""
        return self.settings.batch

    def __len__(self) -> int:
        return math.ceil(self.pictures / self.batch)

    @abstractmethod
    def draw(self, random: np.random.Generator) -> np.ndarray:
        """Indices of the pictures of an epoch, in order; at most len(self) * batch of them."""

    def __iter__(self) -> Iterator[list[Draw]]:
        random = np.random.default_rng([self.seed, self.epoch])
        drawn = [Draw(int(i), (self.epoch, n)) for n, i in enumerate(self.draw(random))]
        if self.mixup.alpha:
            drawn = self._mix(drawn, random)
        for start in range(0, len(drawn), self.batch):
            batch = drawn[start : start + self.batch]
            if len(batch) >= self.least:  # a remainder too small to share is left out
                yield batch[self.rank :: self.world]

    def _mix(self, drawn: list[Draw], random: np.random.Generator) -> list[Draw]:
        """Give each picture a partner and a share."""
        alpha = self.mixup.alpha
        if self.mixup.balanced:
            classes = random.integers(0, len(self.members), len(drawn))
            partners = take_in_rounds(self.members, classes, random)
            shares = 1 - random.beta(alpha, 1, len(drawn))
        else:
            partners = random.permutation([draw.sample for draw in drawn])
            shares = random.beta(alpha, alpha, len(drawn))
        return [
            draw._replace(partner=int(partner), share=float(share))
            for draw, partner, share in zip(drawn, partners, shares, strict=True)
        ]


class Plain(Sampler):
    """Every picture once, shuffled; round after round where an epoch is longer than the list."""

    def __len__(self) -> int:
        full, remainder = divmod(self.pictures, self.batch)
        return full + (remainder >= self.least)

    def draw(self, random: np.random.Generator) -> np.ndarray:
        """Shuffled rounds, cut to the epoch's pictures."""
        rounds = math.ceil(self.pictures / len(self.labels))
        order = [random.permutation(len(self.labels)) for _ in range(rounds)]
        return np.concatenate(order)[: self.pictures]


class ClassUniform(Sampler):
    """Every class equally often (RS): pictures of rare ones come again within an epoch."""

    def draw(self, random: np.random.Generator) -> np.ndarray:
        """Each class's pictures in shuffled rounds, the classes in random order."""
        order = random.integers(0, len(self.members), len(self) * self.batch)
        return take_in_rounds(self.members, order, random)


class PK(Sampler):
    """P classes, K pictures of each (CARE, section 1.5): P random classes unless P is all of them.

    The paper's text breaks off before it says how; K pictures for each chosen class is the usual
    completion.
    """

    @property
    def batch(self) -> int:
        """P times K."""
        return (self.settings.p or len(self.members)) * self.settings.k

    def draw(self, random: np.random.Generator) -> np.ndarray:
        """Batch after batch of P classes with K pictures each."""
        classes = len(self.members)
        p = self.settings.p or classes
        if p > classes:
            raise ConfigError(f"sampler.p = {p}: there are {classes} classes")
        chosen = [random.permutation(classes)[:p].repeat(self.settings.k) for _ in range(len(self))]
        return take_in_rounds(self.members, np.concatenate(chosen), random)


def take_in_rounds(
    members: list[np.ndarray], classes: np.ndarray, random: np.random.Generator
) -> np.ndarray:
    """For each class asked for, its next picture; a class is reshuffled when it is used up."""
    taken = np.empty(len(classes), np.int64)
    for label, own in enumerate(members):
        places = np.flatnonzero(classes == label)
        rounds = math.ceil(len(places) / max(len(own), 1))
        queue = [random.permutation(own) for _ in range(rounds)]
        taken[places] = np.concatenate(queue)[: len(places)] if queue else []
    return taken


SAMPLERS: dict[str, type[Sampler]] = {"plain": Plain, "class_uniform": ClassUniform, "pk": PK}
