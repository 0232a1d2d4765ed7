"""Samples → batches. What is drawn depends on seed, epoch and position alone."""

from collections.abc import Iterable
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from training.attention import outside_mask
from training.config import AttentionSettings
from training.data.augmentation import Augmentation, box_corners, lesion_mask
from training.data.cache import PictureCache
from training.data.samples import SampleList, scale_boxes
from training.errors import ConfigError
from training.workers import end_with_parent


class Draw(NamedTuple):
    """One picture's turn in an epoch.

    Attributes:
        sample: Index of the sample.
        nonce: Distinguishes this turn from every other one; seeds its augmentation.
        partner: Index of the sample it is mixed with; None for no mixing.
        share: Its own share in the mixture, in [0, 1].
    """

    sample: int
    nonce: tuple[int, ...] = (0,)
    partner: int | None = None
    share: float = 1.0


class Item(NamedTuple):
    """A picture as it leaves the data set.

    Attributes:
        picture: uint8 (S, S, 3).
        label: Its class; of a mixture, that of the larger share.
        mask: Its lesion mask, uint8 (S, S); None without boxes.
        partner: Class of the smaller share; `label` without mixing.
        share: The larger share, in [0.5, 1].
        second: Another view of the same picture, uint8 (S, S, 3); None where one is enough.
    """

    picture: np.ndarray
    label: int
    mask: np.ndarray | None
    partner: int
    share: float
    second: np.ndarray | None = None


class Batch(NamedTuple):
    """What one training step sees.

    Attributes:
        images: uint8 (B, S, S, 3).
        labels: int64 (B,).
        boxed: Which pictures carry attention boxes, as indices into the batch, int64 (M,).
        inside: M_in of those, float32 (M, S, S).
        outside: M_out of those, float32 (M, S, S).
        partners: Second class of mixtures, int64 (B,); equals `labels` without mixing.
        shares: Share of the first class, float32 (B,), in [0.5, 1].
        second: Another view of each picture, uint8 (B, S, S, 3); empty where one is enough.
    """

    images: Tensor
    labels: Tensor
    boxed: Tensor
    inside: Tensor
    outside: Tensor
    partners: Tensor
    shares: Tensor
    second: Tensor = torch.empty(0, dtype=torch.uint8)

    def to(self, device: torch.device) -> "Batch":
        """The batch on another device."""
        return Batch(*(part.to(device) for part in self))

    def only_of(self, labels: set[int]) -> "Batch":
        """The batch with the masks of some classes only."""
        chosen = torch.tensor(sorted(labels), device=self.labels.device)
        kept = torch.isin(self.labels[self.boxed], chosen)
        return self._replace(
            boxed=self.boxed[kept], inside=self.inside[kept], outside=self.outside[kept]
        )


class PictureDataset(Dataset):
    """Pictures with labels and, where attention is trained, the masks of their lesion boxes.

    Args:
        samples: Which pictures.
        cache: Their decoded pixels.
        augmentation: Random changes; None for none.
        second: Those of a second view of each picture; None for one view.
        attention: Whose boxes to use and how; None for no boxes.
        seed: Of the random changes.
    """

    def __init__(
        self,
        samples: SampleList,
        cache: PictureCache,
        *,
        augmentation: Augmentation | None = None,
        second: Augmentation | None = None,
        attention: AttentionSettings | None = None,
        seed: int = 0,
    ) -> None:
        self.samples = samples
        self.cache = cache
        self.augmentation = augmentation
        self.second = second
        self.attention = attention
        self.seed = seed
        self.attended = attended_labels(attention, samples)

    def __len__(self) -> int:
        return len(self.samples.samples)

    def __getitem__(self, draw: Draw | int) -> Item:
        """One picture, changed and mixed as drawn."""
        if not isinstance(draw, Draw):
            draw = Draw(draw)
        picture, label, mask = self._changed(draw.sample, (*draw.nonce, 0), self.augmentation)
        if draw.partner is None:
            second = None
            if self.second is not None:
                second = self._changed(draw.sample, (*draw.nonce, 2), self.second)[0]
            return Item(picture, label, mask, label, 1.0, second)
        other, other_label, other_mask = self._changed(
            draw.partner, (*draw.nonce, 1), self.augmentation
        )
        mixed = cv2.addWeighted(picture, draw.share, other, 1 - draw.share, 0)
        if draw.share >= 0.5:
            return Item(mixed, label, mask, other_label, draw.share)
        # The larger share comes first: its class is explained, its boxes are attended.
        return Item(mixed, other_label, other_mask, label, 1 - draw.share)

    def _changed(
        self, index: int, nonce: tuple[int, ...], augmentation: Augmentation | None
    ) -> tuple[np.ndarray, int, np.ndarray | None]:
        item = self.samples.samples[index]
        position = self.cache.position(item.name)
        picture = np.array(self.cache.pictures[position])
        boxes = item.boxes if item.label in self.attended else item.boxes[:0]
        if len(boxes) and self.attention is not None:
            boxes = scale_boxes(boxes, self.attention.box_scale)
        corners = box_corners(self.cache.placements[position].boxes_to_model(boxes))
        if augmentation is not None:
            random = np.random.default_rng([self.seed, *nonce])
            picture, corners = augmentation(picture, corners, random)
        mask = lesion_mask(corners, picture.shape[0]) if len(corners) else None
        if mask is not None and not mask.any():  # moved out of the picture, or never in it
            mask = None
        return picture, item.label, mask

    def collate(self, items: list[Item]) -> Batch:
        """Put pictures together; masks only of those that have boxes."""
        pictures, labels, masks, partners, shares, seconds = zip(*items, strict=True)
        size = pictures[0].shape[0]
        slope = self.attention.outside_slope if self.attention else 0.0
        inside = [mask for mask in masks if mask is not None]
        outside = [outside_mask(mask, slope=slope) for mask in inside]
        empty = np.zeros((0, size, size), np.float32)
        return Batch(
            images=torch.from_numpy(np.stack(pictures)),
            labels=torch.tensor(labels),
            boxed=torch.tensor(
                [n for n, mask in enumerate(masks) if mask is not None], dtype=torch.int64
            ),
            inside=torch.from_numpy(np.stack(inside).astype(np.float32) if inside else empty),
            outside=torch.from_numpy(np.stack(outside) if outside else empty),
            partners=torch.tensor(partners),
            shares=torch.tensor(shares, dtype=torch.float32),
            **({} if seconds[0] is None else {"second": torch.from_numpy(np.stack(seconds))}),
        )


def attended_labels(attention: AttentionSettings | None, samples: SampleList) -> set[int]:
    """Indices of the classes whose boxes are used.

    Args:
        attention: Settings; None for no boxes.
        samples: The training list, whose counts say what a minority is.

    Raises:
        ConfigError: `attend` names a label that there is not, or no class is a minority.
    """
    if attention is None:
        return set()
    labels, counts = samples.labels, samples.counts()
    if attention.attend == ("all",):
        return set(range(len(labels)))
    if attention.attend == ("minority",):
        rare = set(np.flatnonzero(counts < attention.minority * counts.max()).tolist())
        if not rare:
            raise ConfigError(
                f'attend = "minority": no class has less than {attention.minority} times the '
                "pictures of the largest; name the labels instead"
            )
        return rare
    if unknown := [label for label in attention.attend if label not in labels]:
        raise ConfigError(f"attend: no label {unknown[0]!r}; there are {', '.join(labels)}")
    return {labels.index(label) for label in attention.attend}


def loader(dataset: PictureDataset, batches: Iterable[list[Draw]], workers: int) -> DataLoader:
    """Batches of an epoch, made by worker processes beside the network.

    The workers live as long as the loader. They are not forked from the training process, whose
    threads (OpenCV's, TensorBoard's) would leave locks behind that nobody opens.
    """
    return DataLoader(
        dataset,
        batch_sampler=batches,  # type: ignore[arg-type]
        collate_fn=dataset.collate,
        num_workers=workers,
        worker_init_fn=_start_worker,
        persistent_workers=workers > 0,
        multiprocessing_context="forkserver" if workers else None,
        generator=torch.Generator(),  # else it draws from the one that dropout draws from
    )


def evaluation_loader(dataset: PictureDataset, batch: int) -> DataLoader:
    """All pictures in order, unchanged."""
    return DataLoader(dataset, batch_size=batch, collate_fn=dataset.collate)


def _start_worker(_: int) -> None:
    end_with_parent()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
