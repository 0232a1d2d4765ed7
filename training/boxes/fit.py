"""Boxes or masks of some pictures → a segmenter that makes boxes for the others."""

import glob
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from imaging.errors import ImagingError
from imaging.image import MedicalImage
from imaging.preprocessing import Preprocessing
from imaging.reading import read_image
from training.boxes.pool import map_pictures
from training.boxes.unet import STRIDE, UNet, export_unet
from training.config import AugmentationSettings
from training.data.augmentation import BORDERS, Augmentation, move_pixels
from training.data.samples import Sample, SampleList, check_boxes
from training.errors import ConfigError, DataError

BATCH = 8
LEARNING_RATE = 3e-3  # the highest of a one-cycle schedule of AdamW
FEWEST = 5  # pictures under which nothing is fitted
MASK_NAMES = ("{}", "{}_segmentation", "{}_mask", "{}_lesion")
"""How a mask is called beside its picture's name; the second is ISIC's, the last PH2's."""

GEOMETRY = Augmentation(
    AugmentationSettings(flip_horizontal=True, rotation=20, zoom=(0.8, 1.25), aspect=1.2, shift=0.1)
)
COLOR = Augmentation(AugmentationSettings(brightness=0.1, contrast=0.2, gamma=0.2, saturation=0.2))


class Lesson(NamedTuple):
    """A picture and what is known of its lesions.

    Attributes:
        picture: uint8 RGB (S, S, 3).
        lesion: Share of each pixel that is lesion, float32 (S, S).
        known: 1 where that is known, 0 where it is not, float32 (S, S).
    """

    picture: np.ndarray
    lesion: np.ndarray
    known: np.ndarray


def fit_segmenter(
    samples: SampleList,
    out: Path,
    *,
    masks: Path | None = None,
    size: int = 128,
    steps: int = 400,
    seed: int = 0,
    workers: int | None = None,
) -> tuple[int, float]:
    """Fit a U-Net to the pictures that have boxes, or masks, and write it as ONNX.

    The same seed gives the same network on the same machine.

    Args:
        samples: Pictures; those without box, or mask, are left out.
        out: The ONNX file, for `models.segmenter`; complete or not there.
        masks: Folder of masks, named as their pictures; None to learn from boxes.
        size: Side of the input in pixels, a multiple of 32.
        steps: How many batches of 8 to learn from.
        seed: Of weights, order and augmentation.
        workers: See `map_pictures`.

    Returns:
        How many pictures it was fitted to, and the last tenth's mean loss.

    Raises:
        ConfigError: The size is none a U-Net can have.
        DataError: There are too few pictures with boxes or masks, or a file cannot be used.
        ExportError: The graph differs from the network.
    """
    if size % STRIDE or size < STRIDE:
        raise ConfigError(f"size {size}: expected a multiple of {STRIDE}")
    if masks is None:
        chosen = {item.name for item in samples.samples if len(item.boxes)}
    else:
        chosen = {item.name for item in samples.samples if mask_of(item, masks)}
    if len(chosen) < FEWEST:
        what = "boxes" if masks is None else f"masks in {masks}"
        raise DataError(
            f"{len(chosen)} of {len(samples.samples)} pictures have {what}; expected {FEWEST} or "
            "more to learn from"
        )
    teach = partial(_lesson, masks, Preprocessing(size=size, fit="squash", color="rgb"))
    known = map_pictures(teach, samples.subset(chosen), workers=workers, doing="reading")
    lessons = list(known)
    network, loss = fit_unet(lessons, steps=steps, seed=seed)
    export_unet(network, size, out, pictures=[lesson.picture for lesson in lessons[:4]])
    return len(lessons), loss


def fit_unet(lessons: list[Lesson], *, steps: int, seed: int) -> tuple[UNet, float]:
    """Fit a U-Net; returns it and the mean loss of the last tenth of the steps."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    random = np.random.default_rng(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = UNet()
    network.to(device).train()
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
    order = np.zeros(0, np.int64)
    losses = []
    for _ in tqdm(range(steps), desc="fitting", unit="step", leave=False, disable=None):
        while len(order) < BATCH:
            order = np.append(order, random.permutation(len(lessons)))
        batch, order = order[:BATCH], order[BATCH:]
        drawn = [augmented(lessons[index], random) for index in batch]
        images, lesion, known = (
            torch.from_numpy(np.stack(parts)).to(device) for parts in zip(*drawn, strict=True)
        )
        loss = segmentation_loss(network(images), lesion, known)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(float(loss.detach()))
    return network, float(np.mean(losses[-max(1, steps // 10) :]))


def segmentation_loss(logits: Tensor, lesion: Tensor, known: Tensor) -> Tensor:
    """Cross-entropy plus Dice loss (Milletari et al. 2016) of the known pixels; (N, S, S) each."""
    entropy = torch.nn.functional.binary_cross_entropy_with_logits(
        logits, lesion, known, reduction="sum"
    )
    probability, lesion = logits.sigmoid() * known, lesion * known
    shared = (probability * lesion).sum((1, 2))
    dice = (2 * shared + 1) / (probability.sum((1, 2)) + lesion.sum((1, 2)) + 1)
    return entropy / known.sum().clamp(min=1) + (1 - dice).mean()


def augmented(lesson: Lesson, random: np.random.Generator) -> Lesson:
    """The same lesson, moved and recolored."""
    matrix = GEOMETRY.draw_matrix(len(lesson.picture), random)
    picture, _ = COLOR(lesson.picture, np.zeros((0, 4, 2)), random)
    if matrix is None:
        return lesson._replace(picture=picture)
    return Lesson(*(move_pixels(one, matrix, BORDERS["reflect"]) for one in (picture, *lesson[1:])))


def ellipses(boxes: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """What boxes say of each pixel: lesions are taken for the ellipses that fill their boxes.

    Lesions are round rather than square and touch all four sides of their box, as an ellipse does.
    Between ellipse and box nothing is known.

    Args:
        boxes: [x0, y0, x1, y1] in model pixels, (M, 4).
        size: Side S of the square.

    Returns:
        Share of each pixel that is lesion and whether it is known, float32 (S, S) each.
    """
    lesion, boxed = np.zeros((2, size, size), np.float32)
    y, x = np.mgrid[:size, :size] + 0.5
    for x0, y0, x1, y1 in boxes:
        a, b = max((x1 - x0) / 2, 0.5), max((y1 - y0) / 2, 0.5)
        radius = np.hypot((x - (x0 + x1) / 2) / a, (y - (y0 + y1) / 2) / b)
        lesion = np.maximum(lesion, ((1 - radius) * min(a, b) + 0.5).clip(0, 1))
        boxed = np.maximum(boxed, (x > x0) & (x < x1) & (y > y0) & (y < y1))
    known = np.maximum(lesion > 0, boxed == 0)
    return lesion.astype(np.float32), known.astype(np.float32)


def mask_of(item: Sample, masks: Path) -> Path | None:
    """The mask of a picture, `a/b.jpg` → `masks/a/b.png`; any suffix, names as in `MASK_NAMES`."""
    name = Path(item.name)
    stem = glob.escape(name.stem)
    for pattern in MASK_NAMES:
        for path in sorted((masks / name.parent).glob(f"{pattern.format(stem)}.*")):
            return path
    return None


def _lesson(
    masks: Path | None, preprocessing: Preprocessing, item: Sample, picture: np.ndarray
) -> Lesson:
    square, placement = preprocessing(MedicalImage.of(picture))
    if masks is None:
        check_boxes(item.name, item.boxes, placement.width, placement.height)
        boxes = placement.boxes_to_model(item.boxes)
        return Lesson(square, *ellipses(boxes, preprocessing.size))
    path = mask_of(item, masks)
    assert path is not None  # it was there when the pictures were chosen
    try:
        mask = read_image(path).pixels
    except ImagingError as error:
        raise DataError(f"{item.name}: its mask: {error}") from error
    mask = mask if mask.ndim == 2 else mask.max(2)
    if mask.shape != picture.shape[:2]:
        raise DataError(
            f"{item.name}: its mask has {mask.shape[1]} x {mask.shape[0]} pixels, the picture "
            f"{picture.shape[1]} x {picture.shape[0]}"
        )
    # masks are written with 0 and 1 as well as with 0 and 255
    white = np.where(mask > mask.max() / 2, 255, 0).astype(np.uint8)
    lesion = preprocessing(MedicalImage.of(white))[0][..., 0].astype(np.float32) / 255
    return Lesson(square, lesion, np.ones_like(lesion))
