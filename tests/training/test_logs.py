"""What a run leaves for people to look at."""

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from imaging.overlay import tint
from imaging.preprocessing import Placement
from models.classifier import Prediction
from training.data.cache import PictureCache
from training.data.samples import Sample
from training.logs import RunLog, attention_tiles

SIDE = 64
LABELS = ("common", "rare")
WORDS = 20  # rows of a tile that its caption covers
SQUARE = Placement(1, 1, 0, 0, SIDE, SIDE, SIDE)


class Network(nn.Module):
    """Always has the same map, (4, 4)."""

    def __init__(self, signed: np.ndarray) -> None:
        super().__init__()
        self.signed = nn.Parameter(torch.from_numpy(signed), requires_grad=False)

    def forward(self, images: Tensor, truth: Tensor) -> SimpleNamespace:
        return SimpleNamespace(maps=self.signed[None])


@pytest.mark.parametrize("peak", [3.0, 5e-8, 0.0])
def test_a_sheet_is_colored_as_the_service_colors(peak):
    signed = np.full((4, 4), -1.0, np.float32)
    signed[1:3, 1], signed[3, 3] = peak, peak / 2
    picture = np.random.default_rng(0).integers(0, 256, (1, SIDE, SIDE, 3), np.uint8)
    cache = PictureCache(picture, [SQUARE], ["a.png"])
    item = Sample("a.png", cast(Any, None), 1, "g")

    [tile] = attention_tiles(cast(Any, Network(signed)), [item], cache, LABELS)

    cams = np.stack([np.zeros((4, 4), np.float32), signed.clip(0)])
    served = Prediction(LABELS, np.array([0.4, 0.6]), cams, SQUARE, np.zeros(0, np.float32))
    expected = tint(picture[0], served.heatmap("rare")[0])
    np.testing.assert_array_equal(tile[WORDS:], expected[WORDS:])
    hot = (tile[WORDS:] != picture[0, WORDS:]).any()
    assert hot == (peak > 1e-6)


@pytest.mark.parametrize("damage", [bytes(40), b"\xff\xfe,,\n", b"2,1", b'2,1,"0.', b""])
def test_a_damaged_log_keeps_no_stage_from_going_on(tmp_path, damage):
    path = tmp_path / "stage1.steps.csv"
    path.write_bytes(b"epoch,step,loss\n1,0,0.5\n1,1,0.4\n" + damage)

    log = RunLog(tmp_path, "stage1", ["loss"], 1)
    log.step(2, 0, [0.3])
    log.close()

    assert path.read_text() == "epoch,step,loss\n1,0,0.5\n1,1,0.4\n2,0,0.3000000\n"
