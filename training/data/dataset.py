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
from training.data.samples import SampleList
from training.errors import ConfigError


class Draw(NamedTuple):
    """One picture's turn in an epoch.

    Attributes:
        sample: Index of the sample.
        nonce: Distinguishes this turn from every other one; seeds its augmentation.
    """

    sample: int
    nonce: tuple[int, ...]


class Batch(NamedTuple):
    """What one training step sees.

    Attributes:
        images: uint8 (B, S, S, 3).
        labels: int64 (B,).
        boxed: Which pictures carry attention boxes, as indices into the batch, int64 (M,).
        inside: M_in of those, float32 (M, S, S).
        outside: M_out of those, float32 (M, S, S).
    """

    images: Tensor
    labels: Tensor
    boxed: Tensor
    inside: Tensor
    outside: Tensor

    def to(self, device: torch.device) -> "Batch":
        """The batch on another device."""
        return Batch(*(part.to(device, non_blocking=True) for part in self))


class PictureDataset(Dataset):
    """Pictures with labels and, where attention is trained, the masks of their lesion boxes.

    Args:
        samples: Which pictures.
        cache: Their decoded pixels.
        augmentation: Random changes; None for none.
        attention: Whose boxes to use and how; None for no boxes.
        seed: Of the random changes.
    """

    def __init__(
        self,
        samples: SampleList,
        cache: PictureCache,
        *,
        augmentation: Augmentation | None = None,
        attention: AttentionSettings | None = None,
        seed: int = 0,
    ) -> None:
        self.samples = samples
        self.cache = cache
        self.augmentation = augmentation
        self.attention = attention
        self.seed = seed
        self.attended = attended_labels(attention, samples.labels)

    def __len__(self) -> int:
        return len(self.samples.samples)

    def __getitem__(self, draw: Draw | int) -> tuple[np.ndarray, int, np.ndarray | None]:
        """Picture uint8 (S, S, 3), label, and lesion mask uint8 (S, S) or None."""
        index, nonce = draw if isinstance(draw, tuple) else (draw, (0,))
        item = self.samples.samples[index]
        position = self.cache.position(item.name)
        picture = np.array(self.cache.pictures[position])
        boxes = item.boxes if item.label in self.attended else item.boxes[:0]
        if len(boxes) and self.attention is not None:
            boxes = scale_boxes(boxes, self.attention.box_scale)
        corners = box_corners(self.cache.placements[position].boxes_to_model(boxes))
        if self.augmentation is not None:
            random = np.random.default_rng([self.seed, *nonce])
            picture, corners = self.augmentation(picture, corners, random)
        mask = lesion_mask(corners, picture.shape[0]) if len(corners) else None
        if mask is not None and not mask.any():  # moved out of the picture, or never in it
            mask = None
        return picture, item.label, mask

    def collate(self, items: list[tuple[np.ndarray, int, np.ndarray | None]]) -> Batch:
        """Put pictures together; masks only of those that have boxes."""
        pictures, labels, masks = zip(*items, strict=True)
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
        )


def attended_labels(attention: AttentionSettings | None, labels: tuple[str, ...]) -> set[int]:
    """Indices of the classes whose boxes are used.

    Raises:
        ConfigError: `attend` names a label that there is not.
    """
    if attention is None:
        return set()
    if attention.attend == ("all",):
        return set(range(len(labels)))
    if unknown := [label for label in attention.attend if label not in labels]:
        raise ConfigError(f"attend: no label {unknown[0]!r}; there are {', '.join(labels)}")
    return {labels.index(label) for label in attention.attend}


def scale_boxes(boxes: np.ndarray, scale: float) -> np.ndarray:
    """Scale boxes [x0, y0, x1, y1] (M, 4) about their own centers."""
    centers = np.tile((boxes[:, :2] + boxes[:, 2:]) / 2, 2)
    return centers + (boxes - centers) * scale


def loader(dataset: PictureDataset, batches: Iterable[list[Draw]], workers: int) -> DataLoader:
    """Batches of an epoch, made by worker processes beside the network."""
    return DataLoader(
        dataset,
        batch_sampler=batches,  # type: ignore[arg-type]
        collate_fn=dataset.collate,
        num_workers=workers,
        worker_init_fn=_single_threaded,
        persistent_workers=False,
        multiprocessing_context="fork" if workers else None,
    )


def evaluation_loader(dataset: PictureDataset, batch: int) -> DataLoader:
    """All pictures in order, unchanged."""
    return DataLoader(dataset, batch_size=batch, collate_fn=dataset.collate)


def _single_threaded(_: int) -> None:
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
