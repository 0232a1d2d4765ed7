"""What a run leaves for people: tables, curves, TensorBoard, sheets of attention overlays."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from matplotlib.figure import Figure
from torch.utils.tensorboard import SummaryWriter

from imaging.overlay import encode, tint
from imaging.preprocessing import Placement
from models.heatmap import heatmap
from training.data.cache import PictureCache
from training.data.samples import Sample, SampleList
from training.files import complete
from training.network import Network
from training.report import save_figure

SHEET_PICTURES = 12
NOT_LOSSES = ("epoch", "validation_mca")


class RunLog:
    """Steps and epochs of one stage, as CSV and TensorBoard events.

    A resumed stage goes on in the same files; rows of an epoch that was cut short are dropped, as
    are those that are damaged.

    Args:
        folder: The run's folder.
        stage: Name of the stage.
        losses: Names of a step's losses.
        epoch: Epochs already done.
    """

    def __init__(self, folder: Path, stage: str, losses: Sequence[str], epoch: int) -> None:
        self.stage = stage
        self.board = SummaryWriter(folder / "tensorboard" / stage, purge_step=epoch)
        self.path = folder / f"{stage}.steps.csv"
        head, kept = ["epoch", "step", *losses], []
        if self.path.exists():
            # zeros, as a loss of power leaves them, are none of CSV
            text = self.path.read_text(encoding="utf-8", errors="replace").replace("\0", "")
            rows = [row for row in csv.reader(text.splitlines()) if len(row) == len(head)]
            kept = [row for row in rows if row[0].isdecimal() and int(row[0]) <= epoch]
        self.file = self.path.open("w", newline="", encoding="utf-8")
        self.writer = csv.writer(self.file, lineterminator="\n")
        self.writer.writerows([head, *kept])

    def step(self, epoch: int, step: int, losses: Sequence[float]) -> None:
        """One training step's losses."""
        self.writer.writerow([epoch, step, *(f"{loss:.7f}" for loss in losses)])

    def epoch(self, row: Mapping[str, float]) -> None:
        """One epoch's figures."""
        self.file.flush()
        for name, value in row.items():
            if name != "epoch":
                self.board.add_scalar(name, value, int(row["epoch"]))

    def sheet(self, picture: np.ndarray, epoch: int) -> None:
        """A sheet of overlays, uint8 RGB (H, W, 3)."""
        with complete(self.path.with_name(f"{self.stage}.attention-{epoch:03d}.png")) as part:
            part.write_bytes(encode(picture))
        self.board.add_image("attention", picture, epoch, dataformats="HWC")

    def close(self) -> None:
        """Write out what is still held back."""
        self.file.close()
        self.board.close()


def rare_pictures(validation: SampleList, train: SampleList) -> list[Sample]:
    """The fixed set that sheets show: validation pictures of the rarest classes, boxes first."""
    counts = train.counts()
    ordered = sorted(
        validation.samples, key=lambda item: (counts[item.label], not len(item.boxes), item.name)
    )
    return ordered[:SHEET_PICTURES]


def attention_sheet(
    network: Network, pictures: Sequence[Sample], cache: PictureCache, labels: Sequence[str]
) -> np.ndarray:
    """The tiles of `attention_tiles`, four in a row: uint8 RGB (rows * S, 4 * S, 3)."""
    tiles = attention_tiles(network, pictures, cache, labels)
    while len(tiles) % 4:
        tiles.append(np.zeros_like(tiles[0]))
    return np.vstack([np.hstack(tiles[start : start + 4]) for start in range(0, len(tiles), 4)])


@torch.no_grad()
def attention_tiles(
    network: Network, pictures: Sequence[Sample], cache: PictureCache, labels: Sequence[str]
) -> list[np.ndarray]:
    """Pictures with the Grad-CAM of their true class, over the whole square, colored as served.

    Args:
        network: In eval mode.
        pictures: At most a dozen.
        cache: Their pixels.
        labels: Class names.

    Returns:
        One tile a picture, uint8 RGB (S, S, 3): heat, boxes in white, the true class and the map's
        peak on the scale of the logits.
    """
    inputs = np.stack([cache.pictures[cache.position(item.name)] for item in pictures])
    device = next(network.parameters()).device
    images = torch.from_numpy(inputs).to(device)
    truth = torch.tensor([item.label for item in pictures], device=device)
    maps = network(images, truth).maps
    assert maps is not None  # labels were given
    tiles = []
    for item, picture, signed in zip(pictures, inputs, maps.cpu().numpy(), strict=True):
        place = cache.placements[cache.position(item.name)]
        size = picture.shape[:2]
        heat, peak = heatmap(signed.clip(0), Placement(1, 1, 0, 0, size[1], size[0], size[0]))
        tile = tint(picture, heat)
        caption(tile, f"{labels[item.label]} {peak:.2g}", 12)
        for x0, y0, x1, y1 in place.boxes_to_model(item.boxes).round().astype(int):
            x0, y0 = max(x0, 0), max(y0, 0)
            x1, y1 = min(x1, size[1]) - 1, min(y1, size[0]) - 1
            tile[y0 : y1 + 1, [x0, x1]] = tile[[y0, y1], x0 : x1 + 1] = 255
        tiles.append(tile)
    return tiles


def caption(tile: np.ndarray, words: str, baseline: int) -> None:
    """Write into a tile, legible on any ground."""
    for color, width in (((0, 0, 0), 3), ((255, 255, 255), 1)):
        cv2.putText(tile, words, (3, baseline), cv2.FONT_HERSHEY_SIMPLEX, 0.4, color, width)


def plot_curves(history: Sequence[Mapping[str, Any]], path: Path, title: str) -> None:
    """Losses and validation mean class accuracy over the epochs, as a PNG."""
    epochs = [row["epoch"] for row in history]
    figure = Figure(figsize=(10, 4))
    left, right = figure.subplots(1, 2)
    for name in [name for name in history[0] if name not in NOT_LOSSES]:
        left.plot(epochs, [row[name] for row in history], label=name)
    left.set(xlabel="epoch", ylabel="loss", title=title)
    left.legend()
    right.plot(epochs, [row.get("validation_mca", np.nan) for row in history])
    right.set(xlabel="epoch", ylabel="validation mean class accuracy", ylim=(0, 1))
    save_figure(figure, path)
