"""The exported graph against float64 backpropagation, for every family of networks."""

import copy
from functools import partial

import numpy as np
import pytest
import torch

import training.export
from imaging.preprocessing import Preprocessing
from models.card import Accepts, ModelCard
from models.classifier import Classifier, Outputs
from tests.training.tiny import tiny_network
from training.attention import attention_maps, attention_terms, coarse_masks
from training.errors import ConfigError, ExportError
from training.export import (
    early_layers,
    embedding,
    export_model,
    reference,
    texture_width,
    verify,
)
from training.network import Network, build_network, family_of, map_sides

LABELS = ("a", "b", "c")
long = pytest.mark.long

EVERYDAY = [
    "resnet18",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "alexnet",
    "densenet121",
    "convnext_tiny",
    "shufflenet_v2_x0_5",
    "squeezenet1_1",
]
LONG = [
    "resnet50",
    "resnet152",
    "vgg19",
    "vgg11",
    "efficientnet_b0",
    "regnet_y_400mf",
    "mnasnet0_5",
]
FINER_LONG = [
    "densenet121",
    "convnext_tiny",
    "shufflenet_v2_x0_5",
    "vgg11",
    "alexnet",
    "efficientnet_b0",
    "regnet_y_400mf",
    "mnasnet0_5",
]
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
    return family_of(backbone).input_size or 96


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


@pytest.mark.parametrize(
    "backbone",
    [
        "resnet18",
        "mobilenet_v2",
        "mobilenet_v3_small",
        "squeezenet1_1",
        *(pytest.param(name, marks=long) for name in FINER_LONG),
    ],
)
def test_the_map_before_the_last_is_exported_at_twice_the_resolution(backbone, tmp_path):
    torch.manual_seed(0)
    network = build_network(backbone, len(LABELS), map_layer="previous")
    size = size_of(backbone)
    train_a_little(network, size)
    assert_graph_is_gradcam(network, tmp_path / "test", size, of_maps=2e-2)
    found = Classifier.load(tmp_path / "test").run(np.zeros((1, size, size, 3), np.uint8))
    last, finer = (map_sides(part, size)[-1] for part in (whole(network), network.features))
    assert found.cams.shape == (1, len(LABELS), finer, finer)
    assert finer in (2 * last, 2 * last + 1)  # pooling may drop the last row


def whole(network: Network) -> torch.nn.Sequential:
    return torch.nn.Sequential(*network.features, *network.tail)


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


def slightly_wrong(name: str, by: float):
    """A graph that differs from the network in one output, by a share of its largest value."""

    def run(network: Network, images: np.ndarray) -> Outputs:
        outputs = reference(network, images)
        right = getattr(outputs, name)
        wrong = right.copy()
        wrong.flat[-1] += by * np.abs(right).max()
        return outputs._replace(**{name: wrong})

    return run


@pytest.mark.parametrize("kind", ["linear", "hidden layer", "tail"])
@pytest.mark.parametrize("name", ["logits", "cams", "embedding"])
def test_what_differs_by_more_than_a_thousandth_is_refused(kind, name):
    network = tiny_network(kind).eval()
    allowed = 2e-2 if kind == "tail" and name == "cams" else 1e-3

    def verified(by: float) -> float:
        run = partial(slightly_wrong(name, by), network)
        return verify(run, network, 16, pictures=None)

    assert verified(0.0) == 0
    assert verified(allowed / 2) == pytest.approx(allowed / 2, rel=1e-3)
    for by in (2 * allowed, -2 * allowed, np.nan):
        with pytest.raises(ExportError, match=f"{name} by .*; no model was written"):
            verified(by)


def test_a_faint_map_that_looks_otherwise_is_refused_though_it_differs_little(monkeypatch):
    random = np.random.default_rng(0)
    cams = random.random((1, 2, 4, 4))
    cams[:, 1] *= 0.01  # of the other map
    known = Outputs(np.ones((1, 2)), cams, np.ones((1, 3)))
    monkeypatch.setattr(training.export, "reference", lambda network, images: known)
    flipped = cams.copy()
    flipped[:, 1] = cams[:, 1, ::-1]

    verify(lambda images: known, tiny_network("tail"), 16, pictures=None)
    with pytest.raises(ExportError, match="correlate with the float64 network's by"):
        verify(lambda images: known._replace(cams=flipped), tiny_network("tail"), 16, pictures=None)


def test_the_embedding_is_mean_and_spread_of_an_early_map_and_the_last_map_pooled():
    random = np.random.default_rng(0)
    texture, pooled = random.normal(size=(3, 4, 6, 5)), random.normal(size=(3, 7))

    found = embedding(torch.tensor(texture), torch.tensor(pooled)).numpy()

    for n in range(3):
        mean = [texture[n, t].mean() for t in range(4)]
        spread = [np.sqrt(np.mean((texture[n, t] - mean[t]) ** 2)) for t in range(4)]
        np.testing.assert_allclose(found[n], [*mean, *spread, *pooled[n]])


def test_texture_is_that_of_the_last_map_of_an_eighth_of_the_resolution():
    network = build_network("resnet18", len(LABELS)).eval()

    # conv, norm, relu, pool, layer1 and layer2, whose map has 28 cells a side and 128 channels
    assert early_layers(network, 224) == 6
    assert texture_width(network, 224) == 256


@pytest.mark.parametrize("backbone", ["vit_b_16", "inception_v3", "googlenet", "swin_t"])
def test_networks_without_a_last_map_are_refused_in_one_sentence(backbone):
    with pytest.raises(ConfigError, match="is not supported: expected"):
        build_network(backbone, 3)
