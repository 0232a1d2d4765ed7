"""Any supported torchvision CNN as features + head: logits and Grad-CAM in one forward pass.

Grad-CAM weighs the feature maps A (N, K, h, w) by the gradient of a class score, averaged over
positions. Where the head works on the pooled vector p = mean of A over positions, that gradient
is the same everywhere, dy/dA(u, v) = (1/hw) dy/dp, so it is taken at the vector: for one linear
layer it is the weight matrix itself. Where the head works on the flattened map (VGG), or further
convolutions lie behind the map, it is taken at the map. Either way only what lies behind the map
is differentiated: no backward pass through the features.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, NamedTuple, cast

import torch
import torchvision
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from imaging.gradcam import class_maps
from training.errors import ConfigError
from training.losses import COSINE_SCALE

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Outputs(NamedTuple):
    """What one forward pass gives for N pictures.

    Attributes:
        logits: Class scores, (N, C).
        maps: Signed Grad-CAM of the label asked for, float32 (N, h, w); None if none was.
        embedding: Pooled features, (N, K).
    """

    logits: Tensor
    maps: Tensor | None
    embedding: Tensor


@dataclass(frozen=True, slots=True)
class Family:
    """How torchvision builds a family of networks.

    Attributes:
        features: From the torchvision network, the part that ends in the map.
        head: From the torchvision network, the part behind the map, without pooling.
        pooled: Whether the head works on the pooled vector; else on the flattened map.
        input_size: The only input side it takes, in pixels; None for any.
    """

    features: Callable[[Any], nn.Sequential]
    head: Callable[[Any], nn.Sequential]
    pooled: bool = True
    input_size: int | None = None


def _resnet_features(network: nn.Module) -> nn.Sequential:
    return nn.Sequential(
        *[child for name, child in network.named_children() if name not in ("avgpool", "fc")]
    )


class VectorNorm(nn.Module):
    """Layer norm of the pooled vector, in plain arithmetic.

    PyTorch's fused layer norm has a fused gradient, and tracing that freezes the batch size.

    Args:
        norm: ConvNeXt's layer norm of the pooled (N, K, 1, 1) map: the same numbers on the vector.
    """

    def __init__(self, norm: nn.LayerNorm) -> None:
        super().__init__()
        self.weight, self.bias, self.eps = norm.weight, norm.bias, norm.eps

    def forward(self, vector: Tensor) -> Tensor:
        """Normalize (N, K) over K."""
        centered = vector - vector.mean(1, keepdim=True)
        variance = (centered * centered).mean(1, keepdim=True)
        return centered / (variance + self.eps).sqrt() * self.weight + self.bias


def _convnext_head(network: Any) -> nn.Sequential:
    norm, _, linear = network.classifier
    return nn.Sequential(VectorNorm(norm), linear)


def _squeezenet_head(network: Any) -> nn.Sequential:
    """Its 1 x 1 convolution, then average, as the linear layer of the average that it equals.

    The ReLU between the two is left out: it would keep every class score from falling below zero,
    and a class below zero everywhere from learning. The dropout before them falls on the average:
    on whole channels, where torchvision drops single cells.
    """
    dropout, convolution, _, _ = network.classifier
    return nn.Sequential(dropout, nn.Linear(convolution.in_channels, convolution.out_channels))


_FLATTENED = Family(
    lambda network: network.features,
    lambda network: network.classifier,
    pooled=False,
    input_size=224,  # where their pooling, which is left out, does nothing
)

FAMILIES: dict[str, Family] = {
    "resnet": Family(_resnet_features, lambda network: nn.Sequential(network.fc)),
    "resnext": Family(_resnet_features, lambda network: nn.Sequential(network.fc)),
    "densenet": Family(
        lambda network: nn.Sequential(*network.features, nn.ReLU()),
        lambda network: nn.Sequential(network.classifier),
    ),
    "mobilenet": Family(lambda network: network.features, lambda network: network.classifier),
    "efficientnet": Family(lambda network: network.features, lambda network: network.classifier),
    "convnext": Family(lambda network: network.features, _convnext_head),
    "vgg": _FLATTENED,
    "alexnet": _FLATTENED,
    "squeezenet": Family(lambda network: network.features, _squeezenet_head),
    "regnet": Family(
        lambda network: nn.Sequential(network.stem, *network.trunk_output),
        lambda network: nn.Sequential(network.fc),
    ),
    "shufflenet": Family(_resnet_features, lambda network: nn.Sequential(network.fc)),
    "mnasnet": Family(lambda network: network.layers, lambda network: network.classifier),
}


class CosineLinear(nn.Module):
    """A linear layer that sees directions only: scale * cos(angle of input and class weights).

    LDAM needs it (Cao et al. 2019; the authors' normalized classifier). Plain arithmetic, so that
    its gradient can be traced for the export.

    Args:
        in_features: K.
        out_features: C.
        scale: What cosines are multiplied by.
    """

    def __init__(self, in_features: int, out_features: int, scale: float = COSINE_SCALE) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_features, in_features))
        nn.init.xavier_uniform_(self.weight)
        self.in_features = in_features
        self.out_features = out_features
        self.scale = scale

    def forward(self, vector: Tensor) -> Tensor:
        """(N, K) → (N, C), in [-scale, scale]."""
        return self.scale * unit(vector) @ unit(self.weight).T


def unit(rows: Tensor) -> Tensor:
    """Rows (N, K) at length 1; a row of zeros stays."""
    return rows / ((rows * rows).sum(1, keepdim=True) + 1e-12).sqrt()


class SpatialGate(nn.Module):
    """CBAM's spatial attention (Woo et al., ECCV 2018), without batch norm: A' = a A.

    a = sigmoid(Conv7x7[mean over channels of A; max over channels of A]) in (0, 1)

    As the last layer of a network's features it is in the exported graph, and Grad-CAM is that of
    the gated map.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, 7, padding=3)

    def logits(self, activations: Tensor) -> Tensor:
        """Before the sigmoid, (N, 1, h, w), of feature maps (N, K, h, w)."""
        summary = [activations.mean(1, keepdim=True), activations.amax(1, keepdim=True)]
        return self.conv(torch.cat(summary, 1))

    def forward(self, activations: Tensor) -> Tensor:
        """The gated feature maps, (N, K, h, w)."""
        return self.logits(activations).sigmoid() * activations


class Network(nn.Module):
    """Features, a tail of further convolutions if any, a head. Normalization is in here.

    Args:
        features: (N, 3, S, S) → the map (N, K, h, w).
        head: (N, K') → (N, C) where pooled, else (N, K' * h' * w') → (N, C).
        tail: The map → (N, K', h', w'); empty where the map is the last one.
        pooled: Whether the head works on the pooled vector.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        features: nn.Sequential,
        head: nn.Sequential,
        *,
        tail: nn.Sequential | None = None,
        pooled: bool = True,
    ) -> None:
        super().__init__()
        self.features = features
        self.tail = nn.Sequential() if tail is None else tail
        self.head = head
        self.pooled = pooled
        self.register_buffer(
            "mean", 255 * torch.tensor(IMAGENET_MEAN).view(3, 1, 1), persistent=False
        )
        self.register_buffer(
            "std", 255 * torch.tensor(IMAGENET_STD).view(3, 1, 1), persistent=False
        )

    def normalized(self, images: Tensor) -> Tensor:
        """What the features see, (N, 3, S, S), of pictures in [0, 255], (N, S, S, 3)."""
        return (images.permute(0, 3, 1, 2) - self.mean) / self.std

    def activations(self, images: Tensor) -> Tensor:
        """Feature maps (N, K, h, w) of pictures, uint8 or float in [0, 255], (N, S, S, 3)."""
        return self.features(self.normalized(images))

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Outputs:
        """Classify pictures and, if labels are given, map the evidence for them.

        Args:
            images: uint8 or float in [0, 255], (N, S, S, 3).
            labels: Class whose Grad-CAM is wanted, (N,); None for no maps.
        """
        activations = self.activations(images)
        outputs = self.classify(activations)
        return outputs if labels is None else outputs._replace(maps=self.maps(activations, labels))

    def embed(self, activations: Tensor) -> Tensor:
        """The embedding alone, (N, K'), from the map: no head, no maps."""
        return self.tail(activations).mean((2, 3))

    def classify(self, activations: Tensor) -> Outputs:
        """Class scores and embedding from the map, without maps."""
        last = self.tail(activations)
        pooled = last.mean((2, 3))
        return Outputs(self.head(pooled if self.pooled else last.flatten(1)), None, pooled)

    def maps(self, activations: Tensor, labels: Tensor, *, detach: bool = True) -> Tensor:
        """Signed Grad-CAM of one class per picture, float32 (N, h, w), under autocast too.

        No parameter's `.grad` is touched: the author's published code leaves the gradient of the
        class scores there, and so lowers the true classes' scores.

        Args:
            activations: Feature maps, (N, K, h, w).
            labels: Class whose Grad-CAM is wanted, (N,).
            detach: Treat the Grad-CAM weights as constants, as the CARE paper does; else gradients
                of the maps reach the head too.
        """
        with torch.autocast(activations.device.type, enabled=False):
            activations = activations.float()
            cotangent = nn.functional.one_hot(labels, self.classes).float()
            with torch.set_grad_enabled(torch.is_grad_enabled() and not detach):
                weights = self.gradcam_weights(activations, cotangent)
            return class_maps(activations, weights[:, None])[:, 0]

    def gradcam_weights(self, activations: Tensor, cotangent: Tensor) -> Tensor:
        """Gradient of `cotangent · logits` by the feature maps, averaged over positions, (N, K).

        The head is differentiated in eval mode (dropout off, running statistics), as it runs at
        inference, also while the network trains.
        """
        positions = activations.shape[2] * activations.shape[3]
        if (linear := self.closed_form) is not None:
            return cotangent @ linear.weight.float() / positions
        behind, point = self.behind_the_map(activations.detach())
        with evaluating(self.tail), evaluating(self.head):
            [gradient] = torch.func.vjp(behind, point)[1](cotangent)
        return gradient / positions if gradient.ndim == 2 else gradient.mean((2, 3))

    def behind_the_map(self, activations: Tensor) -> tuple[Callable[[Tensor], Tensor], Tensor]:
        """The function to differentiate and where: the head at the vector, or all at the map."""
        if self.pooled and not len(self.tail):
            return self.head, activations.mean((2, 3))
        return (lambda point: self.classify(point).logits), activations

    @property
    def closed_form(self) -> nn.Linear | None:
        """The linear layer whose weights are the Grad-CAM weights times hw, if there is one."""
        layers = [layer for layer in self.head if not isinstance(layer, nn.Dropout)]
        plain = self.pooled and not len(self.tail) and len(layers) == 1
        return layers[0] if plain and type(layers[0]) is nn.Linear else None

    def freeze_features(self, frozen: bool) -> None:
        """Let only the last layer learn, or let everything learn again."""
        self.requires_grad_(not frozen)
        self.head[-1].requires_grad_(True)

    def renew_classifier(self, *, seed: int) -> None:
        """Start the last layer anew, for retraining it on features that stay as they are."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            last = cast(nn.Linear, self.head[-1])
            new = type(last)(last.in_features, last.out_features)
        last.load_state_dict(new.state_dict())

    @property
    def classes(self) -> int:
        """How many classes the head tells apart."""
        return int(cast(nn.Linear, self.head[-1]).out_features)


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Eval mode for a while; every submodule is put back as it was."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


def freeze_batch_norm(network: nn.Module) -> None:
    """Put every batch norm into eval mode: statistics stay what the initial weights brought."""
    for part in network.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            part.eval()


def family_of(backbone: str) -> Family:
    """The family of a torchvision network.

    Raises:
        ConfigError: It is of no family whose Grad-CAM this project exports.
    """
    for prefix, family in FAMILIES.items():
        if backbone.startswith(prefix) or backbone.startswith(f"wide_{prefix}"):
            return family
    raise ConfigError(
        f"backbone {backbone!r} is not supported: expected one torchvision network of the families "
        f"{', '.join(FAMILIES)}; transformers have no last map in front of linear layers, networks "
        "with auxiliary heads more than one, and others are not known here"
    )


def build_network(
    backbone: str,
    classes: int,
    *,
    weights: str = "none",
    map_layer: str = "last",
    cosine: bool = False,
    gate: bool = False,
) -> Network:
    """Build a network for fine-tuning; its last linear layer is new.

    Args:
        backbone: A torchvision name such as "mobilenet_v2".
        classes: How many classes to tell apart.
        map_layer: "last" takes Grad-CAM at the last map; "previous" at the one before, of twice
            the resolution, for finer maps.
        cosine: Make the new layer a `CosineLinear`.
        gate: Put a `SpatialGate` behind the features, new unless the weights bring one; without,
            one that they bring is left out.
        weights: "none"; a torchvision name such as "IMAGENET1K_V1"; or the path of a state dict
            (.pth, .pt, .safetensors) of the torchvision network or of such a `Network`.

    Raises:
        ConfigError: Unknown or unsupported backbone, or weights that do not fit it.
    """
    family = family_of(backbone)
    if backbone not in torchvision.models.list_models(torchvision.models):
        raise ConfigError(f"torchvision has no network {backbone!r}")
    state = load_state(Path(weights)) if is_file(weights) else None
    try:
        original = torchvision.models.get_model(
            backbone, weights=None if state or weights == "none" else weights
        )
    except KeyError as error:
        known = ", ".join(choice.name for choice in torchvision.models.get_model_weights(backbone))
        raise ConfigError(
            f"{backbone} has no weights {weights!r}: expected none, {known}, or a file (.pth, "
            ".pt or .safetensors)"
        ) from error
    except OSError as error:  # torchvision fetches them the first time they are asked for
        raise ConfigError(
            f"the weights {weights} of {backbone} could not be fetched: {error}; where there is no "
            "network, name a file of them in network.weights"
        ) from error
    if state and not is_own(state):
        _load(original, state, ("classifier", "fc"), f"{weights} in {backbone}")
    head = family.head(original)
    last = cast(nn.Linear, head[-1])
    new = CosineLinear if cosine else nn.Linear
    head[-1] = new(last.in_features, classes)
    features, tail = family.features(original), nn.Sequential()
    if map_layer == "previous":
        features, tail = split_features(features)
    if gate:
        features.append(SpatialGate())
    network = Network(features, head, tail=tail, pooled=family.pooled)
    if state and is_own(state):
        own, place = network.state_dict(), f"features.{len(features) - gate}."  # the gate's, if any
        if gate:
            state = {name: own[name] for name in own if name.startswith(place)} | state
        else:
            state = {name: state[name] for name in state if not name.startswith(place)}
        _load(network, state, ("head",), f"{weights} in {backbone}")
    return network


def is_file(weights: str) -> bool:
    """Whether initial weights are named by a file, not by a torchvision name."""
    return weights.endswith((".pth", ".pt", ".safetensors"))


def is_own(state: dict[str, Tensor]) -> bool:
    """Whether a state dict is that of a `Network`, such as a checkpoint of an earlier run."""
    return any(name.startswith("head.") for name in state)


def split_features(features: nn.Sequential) -> tuple[nn.Sequential, nn.Sequential]:
    """Cut features behind the last layer whose map is finer than the last one."""
    sides = map_sides(features, 224)
    cut = max(n for n, side in enumerate(sides) if side > sides[-1]) + 1
    return features[:cut], features[cut:]


def map_sides(features: nn.Sequential, size: int) -> list[int]:
    """Side of the map behind each layer, for an input of `size` pixels."""
    sides = []
    with evaluating(features), torch.no_grad():
        picture = torch.zeros(1, 3, size, size, device=next(features.parameters()).device)
        for layer in features:
            picture = layer(picture)
            sides.append(int(picture.shape[2]))
    return sides


def _load(
    network: nn.Module, state: dict[str, Tensor], classifiers: tuple[str, ...], where: str
) -> None:
    """Load a state dict strictly, but for a last layer of other classes, which stays new."""
    own = network.state_dict()
    for name in [name for name in own if name.startswith(classifiers)][-2:]:
        if name in state and state[name].shape != own[name].shape:
            state[name] = own[name]
    for name, value in state.items():
        if name in own and value.shape != own[name].shape:
            found, expected = (list(each.shape) for each in (value, own[name]))
            raise ConfigError(
                f"weights do not fit: {where}: {name} has the shape {found}, expected {expected}"
            )
    missing, unknown = network.load_state_dict(state, strict=False)
    told = [
        f"{names[0]} is {what}" + (f", and {len(names) - 1} more" if names[1:] else "")
        for names, what in ((missing, "missing"), (unknown, "not of this network"))
        if names
    ]
    if told:
        raise ConfigError(f"weights do not fit: {where}: {'; '.join(told)}")


def load_state(path: Path) -> dict[str, Tensor]:
    """Read a state dict from .safetensors or, without unpickling objects, from .pth.

    Raises:
        ConfigError: There is no such file, or it is no state dict.
    """
    try:
        state = load_file(path) if path.suffix == ".safetensors" else load_saved(path)
    except OSError as error:
        raise ConfigError(f"weights {path}: {error.strerror or error}") from error
    except (SafetensorError, ValueError) as error:
        raise ConfigError(f"weights {path}: not a state dict") from error
    if not isinstance(state, dict) or not state:
        raise ConfigError(f"weights {path}: not a state dict")
    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise ConfigError(
                f"weights {path}: not a state dict, {name!r} is no tensor; where a checkpoint "
                "holds more than that, save the state dict alone"
            )
    return state


def load_saved(path: Path) -> Any:
    """What `torch.save` wrote, without unpickling objects.

    Raises:
        OSError: The file cannot be opened.
        ValueError: It is damaged or something else, for which torch has errors of many kinds.
    """
    with path.open("rb") as file:
        try:
            return torch.load(file, map_location="cpu", weights_only=True)
        except (EOFError, LookupError, OSError, RuntimeError, UnpicklingError) as error:
            raise ValueError(f"{path}: damaged, or not written by torch") from error
