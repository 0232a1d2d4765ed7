"""Logits and maps of every kind of network, by other routes."""

from urllib.error import URLError

import cv2
import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from tests.training.tiny import KINDS, backpropagated_maps, tiny_network, tiny_pictures
from training.errors import ConfigError
from training.network import (
    FAMILIES,
    IMAGENET_MEAN,
    IMAGENET_STD,
    CosineLinear,
    VectorNorm,
    build_network,
    family_of,
    split_features,
)

SMALL = [
    "resnet18",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "densenet121",
    "shufflenet_v2_x0_5",
    "squeezenet1_1",
]
LARGE = [
    pytest.param(name, marks=pytest.mark.long)
    for name in (
        "wide_resnet50_2",
        "resnext50_32x4d",
        "efficientnet_b0",
        "convnext_tiny",
        "vgg11",
        "alexnet",
        "regnet_y_400mf",
        "mnasnet0_5",
    )
]
# Cells of the last map and of the one before, where pooling without padding gives other than 1/32
CELLS = {"squeezenet1_1": (3, 7), "alexnet": (6, 13)}


@pytest.mark.parametrize("kind", KINDS)
def test_maps_equal_backpropagation_in_float64(kind):
    network = tiny_network(kind).eval()
    labels = torch.tensor([0, 3, 1, 3, 2])

    _, maps, _ = network(tiny_pictures(), labels)

    exact = backpropagated_maps(network, network.activations(tiny_pictures()), labels)
    assert exact.abs().max() > 1e-3
    torch.testing.assert_close(maps.double(), exact, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_logits_do_not_depend_on_whether_maps_are_asked_for(kind):
    network = tiny_network(kind).eval()

    with_maps = network(tiny_pictures(), torch.tensor([0, 3, 1, 3, 2]))
    without = network(tiny_pictures())

    assert without.maps is None
    torch.testing.assert_close(with_maps.logits, without.logits, rtol=0, atol=0)
    assert without.embedding.shape == (5, 8)


@pytest.mark.parametrize("detach", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_maps_of_some_pictures_are_theirs_among_all(kind, detach):
    network = tiny_network(kind).eval()
    labels, some = torch.tensor([0, 3, 1, 3, 2]), torch.tensor([3, 0])

    activations = network.activations(tiny_pictures())

    every = network.maps(activations, labels, detach=detach)
    found = network.maps(activations[some], labels[some], detach=detach)
    torch.testing.assert_close(found, every[some])
    none = network.maps(activations[:0], labels[:0], detach=detach)
    assert none.shape == (0, *every.shape[1:])


def test_vector_norm_is_layer_norm_and_so_is_its_gradient():
    torch.manual_seed(0)
    norm = nn.LayerNorm(6, eps=1e-6).double()
    nn.init.uniform_(norm.weight, 0.5, 2)
    nn.init.uniform_(norm.bias, -1, 1)
    vector = torch.randn(3, 6, dtype=torch.float64, requires_grad=True)

    assert torch.autograd.gradcheck(VectorNorm(norm), vector)
    torch.testing.assert_close(VectorNorm(norm)(vector), norm(vector))


def test_the_cosine_layer_sees_directions_only():
    layer = CosineLinear(5, 3, scale=30)
    vectors = np.random.default_rng(0).normal(size=(4, 5))
    weight = np.float64(layer.weight.detach())
    lengths = np.linalg.norm(vectors, axis=1)[:, None] * np.linalg.norm(weight, axis=1)

    for length in (1.0, 1000.0):
        found = layer(torch.tensor(length * vectors, dtype=torch.float32)).detach()
        np.testing.assert_allclose(found, 30 * vectors @ weight.T / lengths, rtol=1e-4, atol=1e-4)
    assert torch.isfinite(layer(torch.zeros(1, 5))).all()


@pytest.mark.parametrize("backbone", ["vit_b_16", "swin_t", "inception_v3", "googlenet", "lenet"])
def test_a_network_without_one_last_map_is_refused_in_one_sentence(backbone):
    with pytest.raises(ConfigError) as caught:
        family_of(backbone)

    sentence = str(caught.value)
    assert repr(backbone) in sentence
    assert ", ".join(FAMILIES) in sentence
    assert "and others are not known here" in sentence
    assert "\n" not in sentence
    assert ". " not in sentence


def test_a_network_that_torchvision_does_not_have_is_named():
    with pytest.raises(ConfigError, match="torchvision has no network 'resnet19'"):
        build_network("resnet19", 3)


def torchvision_twin(backbone: str, classes: int, *, seed: int = 3) -> nn.Module:
    torch.manual_seed(seed)
    twin = torchvision.models.get_model(backbone, weights=None, num_classes=classes)
    with torch.no_grad():
        for part in twin.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.running_var.uniform_(0.5, 1.5)
                part.running_mean.uniform_(-0.1, 0.1)
    return twin.eval()


def last_layer(twin: nn.Module) -> dict[str, torch.Tensor]:
    last = [part for part in twin.modules() if isinstance(part, nn.Linear | nn.Conv2d)][-1]
    return {"weight": last.weight.flatten(1), "bias": last.bias}


def write_state(twin: nn.Module, path) -> None:
    (save_file if path.suffix == ".safetensors" else torch.save)(twin.state_dict(), path)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_weights_of_another_number_of_classes_are_loaded_but_for_the_last_layer(tmp_path, suffix):
    twin = torchvision_twin("mobilenet_v3_small", 5)
    path = tmp_path / f"weights{suffix}"
    write_state(twin, path)

    network = build_network("mobilenet_v3_small", 3, weights=str(path))

    for name, value in twin.features.state_dict().items():
        assert torch.equal(network.features.state_dict()[name], value), name
    assert torch.equal(network.head[0].weight, twin.classifier[0].weight)
    assert network.head[-1].weight.shape == (3, 1024)
    assert network.classes == 3


@pytest.mark.parametrize("map_layer", ["last", "previous"])
@pytest.mark.parametrize("backbone", [*SMALL, *LARGE])
def test_logits_are_those_of_torchvision_on_normalized_pictures(tmp_path, backbone, map_layer):
    twin = torchvision_twin(backbone, 3)
    write_state(twin, tmp_path / "weights.pth")
    network = build_network(
        backbone, 3, weights=str(tmp_path / "weights.pth"), map_layer=map_layer
    ).eval()
    network.head[-1].load_state_dict(last_layer(twin))
    if backbone.startswith("squeezenet"):  # scores below zero are scores, too
        twin.classifier[2] = nn.Identity()
    side = family_of(backbone).input_size or 64
    pictures = tiny_pictures(2, side=side)

    with torch.no_grad():
        found = network(pictures)
        normalized = torchvision.transforms.functional.normalize(
            pictures.permute(0, 3, 1, 2) / 255, IMAGENET_MEAN, IMAGENET_STD
        )
        expected = twin(normalized)
        cells = network.activations(pictures).shape[2]

    torch.testing.assert_close(found.logits, expected, rtol=1e-3, atol=1e-4)
    assert cells == CELLS.get(backbone, (side // 32, side // 16))[map_layer == "previous"]


def test_pictures_are_normalized_as_the_published_weights_want_it():
    published = torchvision.models.get_model_weights("resnet18").DEFAULT.transforms()
    pictures = tiny_pictures(2)

    found = tiny_network("linear").normalized(pictures)

    expected = torchvision.transforms.functional.normalize(
        pictures.permute(0, 3, 1, 2) / 255, published.mean, published.std
    )
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_features_are_cut_where_the_map_has_twice_the_resolution():
    torch.manual_seed(0)
    features = build_network("resnet18", 3).features.eval()
    picture = torch.randn(1, 3, 64, 64)

    front, tail = split_features(features)

    with torch.no_grad():
        assert front(picture).shape == (1, 256, 4, 4)
        assert features(picture).shape == (1, 512, 2, 2)
        torch.testing.assert_close(tail(front(picture)), features(picture), rtol=0, atol=0)
    assert len(tail) == 1  # layer4


@pytest.mark.parametrize("classes", [4, 3])
def test_a_checkpoint_of_an_earlier_run_is_loaded_whole_or_but_for_the_last_layer(
    tmp_path, classes
):
    torch.manual_seed(5)
    earlier = build_network("mobilenet_v3_small", 4, map_layer="previous")
    save_file(earlier.state_dict(), tmp_path / "stage1.safetensors")

    network = build_network(
        "mobilenet_v3_small",
        classes,
        map_layer="previous",
        weights=str(tmp_path / "stage1.safetensors"),
    )

    different = {
        name
        for name, value in earlier.state_dict().items()
        if not torch.equal(network.state_dict()[name], value)
    }
    assert different == (set() if classes == 4 else {"head.3.weight", "head.3.bias"})
    assert network.classes == classes


def test_weights_that_do_not_fit_are_named(tmp_path):
    write_state(torchvision_twin("resnet34", 3), tmp_path / "other.pth")

    with pytest.raises(ConfigError, match=r"other\.pth in resnet18"):
        build_network("resnet18", 3, weights=str(tmp_path / "other.pth"))


def test_weights_that_are_not_there_are_named(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere\.pth"):
        build_network("resnet18", 3, weights=str(tmp_path / "nowhere.pth"))


@pytest.mark.parametrize("content", [b"not weights", b"hello", b""])
def test_weights_that_are_no_state_dict_are_named(tmp_path, content):
    torch.save([1, 2], tmp_path / "list.pth")
    for name in ("broken.pth", "broken.safetensors", "list.pth"):
        if name != "list.pth":
            (tmp_path / name).write_bytes(content)
        with pytest.raises(ConfigError, match=name):
            build_network("resnet18", 3, weights=str(tmp_path / name))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda state: {"state_dict": state, "epoch": 3}, "'state_dict' is no tensor; where a"),
        (lambda state: {0: state["fc.bias"]}, "not a state dict, 0 is no tensor"),
        (lambda state: {}, "not a state dict"),
        (
            lambda state: {f"module.{name}": value for name, value in state.items()},
            "conv1.weight is missing, and 101 more; "
            "module.conv1.weight is not of this network, and 121 more",
        ),
        (
            lambda state: state | {"conv1.weight": state["conv1.weight"][:, :1]},
            r"conv1.weight has the shape \[64, 1, 7, 7\], expected \[64, 3, 7, 7\]",
        ),
        (
            lambda state: state | {"head.0.weight": state["fc.weight"]},
            r"features\.0\.weight is missing",
        ),
    ],
)
def test_weights_that_do_not_fit_are_told_in_a_line(tmp_path, change, words):
    state = torchvision_twin("resnet18", 3).state_dict()
    torch.save(change(dict(state)), tmp_path / "odd.pth")

    with pytest.raises(ConfigError, match=words) as refusal:
        build_network("resnet18", 3, weights=str(tmp_path / "odd.pth"))

    assert len(str(refusal.value)) < 300 + len(str(tmp_path))
    assert "\n" not in str(refusal.value)


def test_weights_that_cannot_be_fetched_are_named(monkeypatch):
    def unreachable(*arguments, **options):
        raise URLError("Name or service not known")

    monkeypatch.setattr(torchvision.models, "get_model", unreachable)

    with pytest.raises(ConfigError, match=r"IMAGENET1K_V1 of resnet18 .* not known.* name a file"):
        build_network("resnet18", 3, weights="IMAGENET1K_V1")


def test_a_misspelt_weights_name_is_named():
    with pytest.raises(ConfigError, match="IMAGENET1K_V7"):
        build_network("resnet18", 3, weights="IMAGENET1K_V7")


def test_freezing_the_features_lets_only_the_last_layer_learn():
    network = tiny_network("hidden layer")
    before = {name: value.clone() for name, value in network.state_dict().items()}

    network.freeze_features(True)
    learning = {name for name, value in network.named_parameters() if value.requires_grad}
    network.freeze_features(False)

    assert learning == {"head.3.weight", "head.3.bias"}
    assert all(value.requires_grad for value in network.parameters())

    network.renew_classifier(seed=1)
    changed = {
        name for name, value in network.state_dict().items() if (value != before[name]).any()
    }
    assert changed == learning
    once = network.head[-1].weight.clone()
    network.renew_classifier(seed=1)
    assert torch.equal(network.head[-1].weight, once)
    network.renew_classifier(seed=2)
    assert not torch.equal(network.head[-1].weight, once)


def test_renewing_the_classifier_leaves_all_other_draws_as_they_were():
    network = tiny_network("hidden layer")
    torch.manual_seed(7)
    undisturbed = torch.rand(4)

    torch.manual_seed(7)
    network.renew_classifier(seed=1)

    assert torch.equal(torch.rand(4), undisturbed)


class ForGradCam(nn.Module):
    """What the pytorch-grad-cam package wants: normalized pictures in, logits out."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, pictures):
        return self.network.classify(self.network.features(pictures)).logits


@pytest.mark.parametrize("map_layer", ["last", "previous"])
def test_the_map_is_that_of_the_grad_cam_package(map_layer):
    grad_cam = pytest.importorskip("pytorch_grad_cam")
    targets = pytest.importorskip("pytorch_grad_cam.utils.model_targets")
    torch.manual_seed(0)
    network = build_network("resnet18", 3, map_layer=map_layer).eval()
    pictures = tiny_pictures(3, side=64)
    activations = network.activations(pictures)
    each = [network.maps(activations, torch.full((3,), label)).detach() for label in range(3)]
    labels = torch.stack(each).amax((2, 3)).argmax(0)  # a map without evidence would prove nothing
    normalized = (pictures.permute(0, 3, 1, 2) - network.mean) / network.std
    model = ForGradCam(network)
    wanted = [targets.ClassifierOutputTarget(int(label)) for label in labels]
    with grad_cam.GradCAM(model=model, target_layers=[network.features[-1]]) as package:
        expected = package(input_tensor=normalized, targets=wanted)

    maps = network.maps(activations, labels).detach().numpy().clip(0)

    assert maps.max((1, 2)).min() > 0
    scaled = maps - maps.min((1, 2), keepdims=True)
    scaled /= scaled.max((1, 2), keepdims=True)
    stretched = np.stack([cv2.resize(one, (64, 64)) for one in scaled])
    # the package scales once more after stretching
    again = stretched - stretched.min((1, 2), keepdims=True)
    np.testing.assert_allclose(again / again.max((1, 2), keepdims=True), expected, atol=1e-3)
