"""A small U-Net that finds lesions, and its way into ONNX (Ronneberger et al., MICCAI 2015)."""

import copy
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from models.segmenter import Segmenter
from training.errors import ExportError
from training.export import to_onnx
from training.files import complete

WIDTHS = (8, 16, 32, 64, 128)  # half a million weights: two cores fit them in minutes
FOLD = 2  # so many pixels each way become channels of one: boxes need no finer map
STRIDE = FOLD * 2 ** (len(WIDTHS) - 1)  # what the input's side is a multiple of
TOLERANCE = 1e-3  # of a probability; float32 kernels against float64


class UNet(nn.Module):
    """Squares uint8 (N, S, S, 3) → logits of lesion (N, S, S).

    Each picture is brought to mean 0 and deviation 1 per channel first, so that exposure and skin
    color matter less. Groups are normalized, not batches: batches are small, and a network that
    saw twenty pictures has no statistics of all.
    """

    def __init__(self) -> None:
        super().__init__()
        self.evened = nn.InstanceNorm2d(3)
        self.down = nn.ModuleList(
            _block(before, width)
            for before, width in zip((3 * FOLD**2, *WIDTHS), WIDTHS, strict=False)
        )
        self.up = nn.ModuleList(
            _block(below + width, width)
            for below, width in zip(WIDTHS[:0:-1], WIDTHS[-2::-1], strict=True)
        )
        self.head = nn.Conv2d(WIDTHS[0], 1, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of lesion, (N, S, S)."""
        x = self.evened(images.to(self.head.weight.dtype).permute(0, 3, 1, 2) / 255)
        x = nn.functional.pixel_unshuffle(x, FOLD)
        kept = []
        for n, block in enumerate(self.down):
            x = block(x if n == 0 else nn.functional.max_pool2d(x, 2))
            kept.append(x)
        for block, skipped in zip(self.up, kept[-2::-1], strict=True):
            x = nn.functional.interpolate(x, scale_factor=2.0, mode="nearest")
            x = block(torch.cat([x, skipped], 1))
        logits = nn.functional.interpolate(
            self.head(x), scale_factor=float(FOLD), mode="bilinear", align_corners=False
        )
        return logits[:, 0]


def _block(before: int, width: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (before, width):
        layers += [nn.Conv2d(channels, width, 3, padding=1, bias=False)]
        layers += [nn.GroupNorm(width // 4, width), nn.ReLU()]
    return nn.Sequential(*layers)


class _Probability(nn.Module):
    """The network as `models.segmenter` wants it."""

    def __init__(self, network: UNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images).sigmoid()


def export_unet(network: UNet, size: int, out: Path, *, pictures: Sequence[np.ndarray]) -> float:
    """Write the network as ONNX, if the file does what the network does.

    Args:
        network: Fitted.
        size: Side S of its input, in pixels.
        out: The file; complete or not there.
        pictures: Squares to compare on besides noise, uint8 (S, S, 3) each.

    Returns:
        Largest difference of a probability from a float64 run of the network.

    Raises:
        ExportError: It is above the tolerance.
    """
    network = copy.deepcopy(network).cpu().float().eval()
    graph = to_onnx(_Probability(network).eval(), size, ["lesion"])
    out.parent.mkdir(parents=True, exist_ok=True)
    with complete(out) as part:
        part.write_bytes(graph.SerializeToString())
        apart = _difference(Segmenter.load(part), network.double(), size, pictures)
        if not apart <= TOLERANCE:
            raise ExportError(
                f"the graph differs from the float64 network by {apart:.2e}, expected at most "
                f"{TOLERANCE:.0e}; no model was written"
            )
    return apart


def _difference(
    segmenter: Segmenter, network: UNet, size: int, pictures: Sequence[np.ndarray]
) -> float:
    """Largest difference of a probability, on noise and pictures, one at a time and several."""
    noise = np.random.default_rng(0).integers(0, 256, (3, size, size, 3), np.uint8)
    squares = np.concatenate([noise, *(picture[None] for picture in pictures)])
    worst = 0.0
    for images in (squares[:1], squares):
        with torch.no_grad():
            expected = network(torch.from_numpy(images)).sigmoid().numpy()
        worst = max(worst, float(np.abs(segmenter.run(images) - expected).max()))
    return worst
