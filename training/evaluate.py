"""What a model says of a list of pictures, through the very code that the service runs."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeVar

import numpy as np
from tqdm import tqdm

from imaging.image import MedicalImage
from models.classifier import Classifier, Prediction
from training.data.pictures import read_sample
from training.data.samples import Sample, SampleList
from training.errors import DataError, unreadable

BATCH = 16

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True, eq=False)
class Results:
    """What a model said of a list of pictures.

    Attributes:
        labels: Class names, in the order of the probabilities.
        names: Names of the pictures, (N,).
        truth: True classes, int64 (N,).
        groups: Patient or lesion of each picture, as numbers, int64 (N,).
        probabilities: Calibrated, float64 (N, C).
        attention: Per picture with boxes, where the map of its true class falls.
        embeddings: Pooled features, float32 (N, K); None where the list was read from a file.
        in_distribution: Whether each picture is like the training pictures, bool (N,); None where
            the model does not know.
        operating_points: Probability from which on each class counts as found, (C,); None where
            there is no card yet that says so.
    """

    labels: tuple[str, ...]
    names: tuple[str, ...]
    truth: np.ndarray
    groups: np.ndarray
    probabilities: np.ndarray
    attention: dict[int, "AttentionFigures"] = field(default_factory=dict)
    embeddings: np.ndarray | None = None
    in_distribution: np.ndarray | None = None
    operating_points: np.ndarray | None = None


@dataclass(frozen=True, slots=True)
class AttentionFigures:
    """Where the exported, ReLU'd map of the true class falls on one picture with lesion boxes.

    Attributes:
        pointing: Whether its maximum lies in a box (pointing game).
        energy: Share of its sum that lies in the boxes, in [0, 1].
        iou: Of the region above half of its maximum with the boxes, in [0, 1].
        blank: Whether there is no positive evidence at all; the others are then 0.
    """

    pointing: float
    energy: float
    iou: float
    blank: float


def classify_list(
    classifier: Classifier,
    samples: SampleList,
    *,
    change: Callable[[MedicalImage], MedicalImage] = lambda image: image,
) -> Results:
    """Run a model over pictures, from the files on.

    Once a picture cannot be read, the others are only looked at, to name all that are like it.

    Args:
        classifier: The model.
        samples: The pictures. Their boxes are those of the unchanged ones.
        change: What to do to each picture before the model sees it.

    Raises:
        DataError: The model's labels are not those of the list, or pictures cannot be read; it
            names them.
    """
    if classifier.card.labels != samples.labels:
        raise DataError(
            f"the model knows {', '.join(classifier.card.labels)}; "
            f"the pictures are labelled {', '.join(samples.labels)}"
        )
    probabilities: list[np.ndarray] = []
    embeddings: list[np.ndarray] = []
    known: list[bool | None] = []
    attention: dict[int, AttentionFigures] = {}
    problems: list[str] = []
    progress = tqdm(
        total=len(samples.samples), desc="evaluating", unit="picture", leave=False, disable=None
    )
    for batch in _batches(samples.samples, BATCH):
        images = []
        for item in batch:
            try:
                images.append(change(read_sample(item)))
            except DataError as error:
                problems.append(str(error))
        progress.update(len(batch))
        if problems:
            continue
        for item, prediction in zip(batch, classifier.classify(images), strict=True):
            if len(item.boxes):
                attention[len(probabilities)] = attention_figures(item, prediction)
            probabilities.append(prediction.probabilities)
            embeddings.append(prediction.embedding)
            known.append(prediction.in_distribution)
    progress.close()
    if problems:
        raise unreadable(problems)
    numbers = {
        group: number for number, group in enumerate(sorted({i.group for i in samples.samples}))
    }
    return Results(
        labels=samples.labels,
        names=tuple(item.name for item in samples.samples),
        truth=np.array([item.label for item in samples.samples]),
        groups=np.array([numbers[item.group] for item in samples.samples]),
        probabilities=np.array(probabilities),
        embeddings=np.array(embeddings),
        in_distribution=None if None in known else np.array(known),
        attention=attention,
        operating_points=np.array(
            [classifier.card.operating_points[label] for label in samples.labels]
        ),
    )


def attention_figures(item: Sample, prediction: Prediction) -> AttentionFigures:
    """Compare the map of a picture's true class with its boxes, pixel by pixel."""
    heatmap, peak = prediction.heatmap(prediction.labels[item.label])
    if not peak:
        return AttentionFigures(0.0, 0.0, 0.0, 1.0)
    inside = np.zeros(heatmap.shape, bool)
    for x0, y0, x1, y1 in item.boxes.round().astype(int).clip(0):
        inside[y0:y1, x0:x1] = True
    hot = heatmap >= 0.5
    return AttentionFigures(
        pointing=float(inside.flat[heatmap.argmax()]),
        energy=float(heatmap[inside].sum() / heatmap.sum()),
        iou=float((hot & inside).sum() / (hot | inside).sum()),
        blank=0.0,
    )


def _batches(items: Iterable[Item], size: int) -> Iterable[list[Item]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
