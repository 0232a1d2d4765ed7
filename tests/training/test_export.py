"""The exported graph against float64 backpropagation, for every family of networks."""

import copy

import numpy as np
import pytest
import torch

import training.export
from imaging.preprocessing import Preprocessing
from models.card import Accepts, ModelCard
from models.classifier import Classifier
from training.attention import attention_maps, attention_terms, coarse_masks
from training.errors import ConfigError, ExportError
from training.export import export_model
from training.network import Network, build_network

LABELS = ("a", "b", "c")
long = pytest.mark.long

EVERYDAY = [
    "resnet18",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "vgg11",
    "densenet121",
    "convnext_tiny",
    "shufflenet_v2_x0_5",
]
LONG = ["resnet50", "resnet152", "vgg19", "efficientnet_b0", "regnet_y_400mf", "mnasnet0_5"]
BACKBONES = [*EVERYDAY, *(pytest.param(name, marks=long) for name in LONG)]


def card(size: int) -> ModelCard:
    return ModelCard(
        name="test",
        version="0",
        labels=LABELS,
        preprocessing=Preprocessing(size=size, fit="pad", color="rgb"),
        accepts=Accepts(),
        temperature=1.0,
        operating_points=dict.fromkeys(LABELS, 0.5),
        license="none",
    )


def size_of(backbone: str) -> int:
    return 224 if backbone.startswith("vgg") else 96


def train_a_little(network: Network, size: int) -> None:
    """Three steps of CARE on noise, so that no weight is what torchvision made it."""
    random = torch.Generator().manual_seed(1)
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3)
    inside = torch.zeros(2, size, size)
    inside[:, : size // 2, : size // 2] = 1
    network.train()
    for _ in range(3):
        images = torch.randint(0, 256, (2, size, size, 3), generator=random, dtype=torch.uint8)
        labels = torch.tensor([0, 2])
        logits, maps, _ = network(images, labels)
        masks = (coarse_masks(mask, *maps.shape[1:]) for mask in (inside, 1 - inside))
        terms = attention_terms(attention_maps(maps), *masks, tau=0.5)
        loss = torch.nn.functional.cross_entropy(logits, labels) + sum(terms).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    network.eval()


def by_backpropagation(network: Network, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Logits and Grad-CAM of every class, float64, from hooks on the whole network."""
    network = copy.deepcopy(network).double().eval()
    kept = []
    network.features.register_forward_hook(lambda _, __, output: kept.append(output))
    logits = network(torch.from_numpy(images).double()).logits
    [activations] = kept
    cams = []
    for label in range(len(LABELS)):
        [gradient] = torch.autograd.grad(logits[:, label].sum(), activations, retain_graph=True)
        cams.append((gradient.mean((2, 3), keepdim=True) * activations).sum(1).clamp(min=0))
    return logits.detach().numpy(), torch.stack(cams, 1).detach().numpy()


def assert_graph_is_gradcam(network: Network, folder, size: int, of_maps: float = 1e-3) -> None:
    written = export_model(network, card(size), folder)
    classifier = Classifier.load(folder)
    assert classifier.card == written
    random = np.random.default_rng(2)
    for batch in (1, 3, 6):  # none of them the traced one
        images = random.integers(0, 256, (batch, size, size, 3), np.uint8)
        logits, cams = by_backpropagation(network, images)
        found = classifier.run(images)
        assert found.logits.shape == (batch, len(LABELS))
        assert found.embedding.shape[0] == batch
        np.testing.assert_allclose(found.logits, logits, atol=1e-4 * np.abs(logits).max())
        np.testing.assert_allclose(found.cams, cams, atol=of_maps * cams.max())


@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_network_trained_with_care_is_exported_with_gradcam_in_the_graph(backbone, tmp_path):
    torch.manual_seed(0)
    network = build_network(backbone, len(LABELS))
    train_a_little(network, size_of(backbone))
    assert_graph_is_gradcam(network, tmp_path / "test", size_of(backbone))


@pytest.mark.parametrize("backbone", ["resnet18", "mobilenet_v2"])
def test_the_map_before_the_last_is_exported_at_twice_the_resolution(backbone, tmp_path):
    torch.manual_seed(0)
    network = build_network(backbone, len(LABELS), map_layer="previous").eval()
    assert_graph_is_gradcam(network, tmp_path / "test", 96, of_maps=2e-2)
    assert Classifier.load(tmp_path / "test").run(
        np.zeros((1, 96, 96, 3), np.uint8)
    ).cams.shape == (
        1,
        len(LABELS),
        6,
        6,
    )


def test_a_cosine_classifier_is_exported(tmp_path):
    torch.manual_seed(0)
    network = build_network("resnet18", len(LABELS), cosine=True).eval()
    assert_graph_is_gradcam(network, tmp_path / "test", 96)


@pytest.mark.parametrize("map_layer", ["last", "previous"])
def test_a_gate_is_in_the_graph_and_gradcam_is_that_of_the_gated_map(map_layer, tmp_path):
    torch.manual_seed(0)
    network = build_network("resnet18", len(LABELS), map_layer=map_layer, gate=True).eval()
    assert (network.closed_form is not None) == (map_layer == "last")
    plain = build_network("resnet18", len(LABELS), map_layer=map_layer).eval()
    plain.load_state_dict(network.state_dict(), strict=False)
    images = torch.randint(0, 256, (2, 96, 96, 3), dtype=torch.uint8)
    assert not torch.allclose(network(images).logits, plain(images).logits, rtol=0.05)
    assert_graph_is_gradcam(
        network, tmp_path / "test", 96, of_maps=1e-3 if map_layer == "last" else 2e-2
    )


def test_a_graph_that_differs_from_the_network_is_refused_and_nothing_is_written(
    tmp_path, monkeypatch
):
    torch.manual_seed(0)
    other = training.export.export_graph(build_network("resnet18", len(LABELS)).eval(), 64)
    monkeypatch.setattr(training.export, "export_graph", lambda network, size: other)
    with pytest.raises(ExportError, match="differs from the float64 network"):
        export_model(build_network("resnet18", len(LABELS)).eval(), card(64), tmp_path / "test")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("backbone", ["vit_b_16", "inception_v3", "googlenet", "swin_t"])
def test_networks_without_a_last_map_are_refused_in_one_sentence(backbone):
    with pytest.raises(ConfigError, match="is not supported: expected"):
        build_network(backbone, 3)
