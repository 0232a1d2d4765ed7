"""Every training method, from its TOML to what the service answers with over HTTP."""

import base64
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path
from typing import NamedTuple

import cv2
import httpx
import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from models.card import ModelCard
from tests.end_to_end.test_whole_way import care
from tests.lesion_factory import LEARNT, lesion_run, lesion_set
from tests.server import started
from tests.service.pictures import png
from tests.training.test_method_runs import METHODS as TOMLS
from tests.training.tiny import backpropagated_maps, double_copy, softmax
from training.config import TrainingRun
from training.methods import METHODS
from training.network import Network
from training.release import load_checkpoint

pytestmark = pytest.mark.timeout(1800)

LABELS = ("disc", "ring", "cross")

SHORT = f"""
{LEARNT}
[sampler]
batch = 8
epoch_pictures = 96

[stage1]
epochs = 1
learning_rate = 1e-3

[stage2]
epochs = 1
learning_rate = 1e-3
"""
ATTENTION = """
[attention]
attend = ["all"]
"""
CRT = """
[crt]
epochs = 1
learning_rate = 1e-3
"""
LDAM = """
[loss]
name = "ldam_drw"
"""
RUNS = {
    "cross-entropy": (SHORT, "stage1"),
    "care": (SHORT + ATTENTION, "stage2"),
    "crt": (SHORT + CRT, "crt"),
    "ldam-drw": (SHORT + LDAM, "stage1"),
    "ldam-drw-care": (SHORT + LDAM + ATTENTION, "stage2"),
    "deep-pneumonia": (TOMLS["deep_pneumonia"] + SHORT, "stage1"),
    "deep-pneumonia-care": (TOMLS["deep_pneumonia"] + SHORT + ATTENTION, "stage2"),
    "proco": (TOMLS["proco"] + SHORT, "stage1"),
    "proco-care": (TOMLS["proco"] + SHORT + ATTENTION, "stage2"),
    "ecl": (TOMLS["ecl"] + SHORT, "stage1"),
    "ecl-care": (TOMLS["ecl"] + SHORT + ATTENTION, "stage2"),
}
"""Runs of every method, by the names of their models: the TOML, and the stage that it ends with."""

FIRST, ALL = ("deep-pneumonia",), tuple(RUNS)
"""What one service offers: in the quick tests, and in the long ones."""


def each(*names: str) -> pytest.MarkDecorator:
    """Runs a test for each of these models among all; for those that are quick, also alone."""
    alone = [pytest.param(FIRST, name, id=f"{name} alone") for name in names if name in FIRST]
    among = [pytest.param(ALL, name, id=name, marks=pytest.mark.long) for name in names]
    return pytest.mark.parametrize(
        ("served", "name"),
        alone + among,
        indirect=["served"],
        scope="module",  # one service for all tests, not one for each
    )


class Served(NamedTuple):
    """A service, and where its models come from.

    Attributes:
        client: Asks it.
        names: The models it was given.
        folder: Where data/, with the TOMLs, work/ and models/ are.
        pictures: Unseen ones of each class, at the networks' size, uint8 RGB (N, 64, 64, 3).
    """

    client: httpx.Client
    names: tuple[str, ...]
    folder: Path
    pictures: np.ndarray

    def ask(self, path: str, name: str, number: int, **options: object) -> httpx.Response:
        """What it answers to a picture that is eight times as large as the networks' input."""
        large = self.pictures[number, ..., ::-1].repeat(8, 0).repeat(8, 1)
        answer = self.client.post(path, files={"image": png(large)}, data={"model": name} | options)
        assert answer.status_code == httpx.codes.OK, answer.text
        return answer

    def run(self, name: str) -> TrainingRun:
        data = self.folder / "data"
        return TrainingRun.load(data / f"{name}.toml", settings=(f"data.root={data}",))

    def network(self, name: str) -> Network:
        """The trained network, in float64."""
        folder, stage = self.folder / "work" / "runs" / name, RUNS[name][1]
        return double_copy(load_checkpoint(self.run(name), folder, stage, classes=len(LABELS))[1])


@pytest.fixture(scope="module")
def served(request, one_thread, tmp_path_factory) -> Iterator[Served]:
    """One service with the models of these runs, each trained and exported by the command."""
    folder = tmp_path_factory.mktemp("methods")
    data, unseen = lesion_set(folder / "data"), folder / "unseen"
    lesion_set(unseen, seed=9, counts=dict.fromkeys(LABELS, 1))
    files = sorted((unseen / "images").iterdir())
    pictures = np.stack([cv2.imread(str(file))[..., ::-1] for file in files])
    with chdir(folder):
        for name in request.param:
            toml = lesion_run(data, name, RUNS[name][0])
            care("train", toml, "--data", data)
            care("export", toml, "--data", data, "--models", "models")
    with (
        started(folder / "models", tmp_path_factory.mktemp("server")) as server,
        httpx.Client(base_url=server.url, timeout=60) as client,
    ):
        yield Served(client, request.param, folder, pictures)


def evidence(network: Network, pictures: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Logits (N, C) and ReLU'd Grad-CAM of every class (N, C, h, w), by backpropagation."""
    with torch.no_grad():
        activations = network.activations(torch.from_numpy(pictures.copy()).double())
        logits = network.classify(activations).logits
    every = [torch.full((len(pictures),), label) for label in range(network.classes)]
    maps = torch.stack([backpropagated_maps(network, activations, label) for label in every], 1)
    return logits.numpy(), maps.clamp(min=0).numpy()


def pixels(png_file: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(png_file, np.uint8), cv2.IMREAD_UNCHANGED)


def test_every_method_is_among_the_runs(tmp_path):
    runs = [TrainingRun.load(lesion_run(tmp_path, name, text)) for name, (text, _) in RUNS.items()]

    assert {run.method for run in runs} == set(METHODS)
    assert {run.method for run in runs if run.attention.attend} == set(METHODS)


@each(*RUNS)
def test_the_model_is_offered(served, name):
    offered = {model["name"]: model for model in served.client.get("/models").json()["models"]}

    card = ModelCard.load(served.folder / "models" / name / "card.json")
    assert set(offered) == set(served.names)
    assert offered[name]["sha256"] == card.sha256
    assert offered[name]["labels"] == list(LABELS)
    assert card.training["run"]["method"] == served.run(name).method
    assert card.training["stage"] == RUNS[name][1]


@each(*RUNS)
def test_probabilities_are_those_of_the_trained_network(served, name):
    card = ModelCard.load(served.folder / "models" / name / "card.json")
    logits, _ = evidence(served.network(name), served.pictures)

    for number, expected in enumerate(softmax(logits / card.temperature)):
        answer = served.ask("/classify", name, number).json()
        told = {one["label"]: one["probability"] for one in answer["predictions"]}
        assert answer["model"]["name"] == name
        assert answer["distance"] > 0
        np.testing.assert_allclose([told[label] for label in LABELS], expected, atol=1e-5)


@each(*RUNS)
def test_the_heat_of_every_label_is_gradcam_of_the_trained_network(served, name):
    _, maps = evidence(served.network(name), served.pictures)

    for number, expected in enumerate(maps):
        answer = served.ask("/explain", name, number, output="layers").json()
        layers = {layer["label"]: layer for layer in answer["layers"]}
        for label, cam in zip(LABELS, expected, strict=True):
            heat = pixels(base64.b64decode(layers[label]["heatmap"])) / 255
            stretched = interpolate(torch.from_numpy(cam)[None, None], heat.shape, mode="bilinear")
            near = {"rtol": 0, "atol": 5e-3 * expected.max()}
            np.testing.assert_allclose(layers[label]["peak"], cam.max(), **near)
            np.testing.assert_allclose(layers[label]["peak"] * heat, stretched[0, 0], **near)


@each(*RUNS)
def test_the_overlay_shows_the_evidence(served, name):
    _, maps = evidence(served.network(name), served.pictures)

    for number, expected in enumerate(maps):
        label = int(expected.max((1, 2)).argmax())
        target = LABELS[label]
        overlay = served.ask("/explain", name, number, target=target)
        bare = served.ask("/explain", name, number, target=target, opacity=0)
        report = served.ask("/explain", name, number, target=target, output="json").json()

        assert overlay.headers["Content-Type"] == report["media_type"] == "image/png"
        assert np.array_equal(pixels(base64.b64decode(report["overlay"])), pixels(overlay.content))
        assert report["target"] == overlay.headers["X-Care-Target"] == target
        assert report["peak"] == pytest.approx(expected[label].max(), rel=1e-3)
        assert report["peak"] > 0
        changed = (pixels(overlay.content) != pixels(bare.content)).any(-1)
        assert changed.shape == (512, 512)
        assert changed.mean() > 0.2


@each(*(name for name in RUNS if name.startswith("deep-pneumonia")))
def test_the_heat_of_deep_pneumonia_is_that_of_the_gated_features(served, name):
    network = served.network(name)
    *features, gate = network.features
    with torch.no_grad():
        maps = network.normalized(torch.from_numpy(served.pictures.copy()).double())
        for layer in features:
            maps = layer(maps)
        summary = torch.cat([maps.mean(1, keepdim=True), maps.amax(1, keepdim=True)], 1)
        opened = torch.sigmoid(gate.conv(summary))
        weights = network.head[-1].weight / (maps.shape[2] * maps.shape[3])
        gated, ungated = (
            torch.einsum("ck,nkhw->nchw", weights, each).clamp(min=0).amax((2, 3))
            for each in (opened * maps, maps)
        )

    for number in range(len(served.pictures)):
        answer = served.ask("/explain", name, number, output="layers").json()
        peaks = {layer["label"]: layer["peak"] for layer in answer["layers"]}
        found = [peaks[label] for label in LABELS]
        np.testing.assert_allclose(found, gated[number], atol=1e-3 * float(gated.max()))
        assert max(found) < 0.9 * float(ungated[number].max())
