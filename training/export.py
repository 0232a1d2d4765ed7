"""A network → one ONNX graph that puts out logits, Grad-CAM of every class, and embedding.

Grad-CAM needs the gradient of each class score by the feature maps. A gradient is arithmetic like
any other: it is traced once into plain tensor operations, and the graph computes it forwards. No
torch and no backward pass are left at serving time.
"""

import copy
import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn
from torch._decomp import get_decompositions
from torch.fx.experimental.proxy_tensor import make_fx

from imaging.gradcam import gradcam
from models.card import ModelCard
from models.classifier import CONTRACT_KEY, OUTPUTS, Classifier, Outputs, session_for
from training.errors import ExportError
from training.files import complete
from training.network import Network, evaluating, map_sides

TRACED_BATCH = (
    7  # equals no other dimension: else the exporter takes the two for one and freezes it
)
TOLERANCE = 1e-3  # of the largest value; float32 kernels against float64
# A gradient through further convolutions passes their kinks: where an activation is nearly zero,
# float32 and float64 may fall on different sides. Such maps must agree as pictures all the same.
TAIL_TOLERANCE = 2e-2
TAIL_CORRELATION = 0.999


class ExportedNetwork(nn.Module):
    """The network as the service sees it.

    Args:
        network: In eval mode.
        size: Side S of the input, in pixels.
    """

    def __init__(self, network: Network, size: int) -> None:
        super().__init__()
        self.network = network
        self.early = early_layers(network, size)
        self.linear = network.closed_form
        if self.linear is None:
            with torch.no_grad():
                example = network.activations(
                    torch.zeros(TRACED_BATCH, size, size, 3, dtype=torch.uint8)
                )
            # not channels last: a pooling's gradient would write into strides, which ONNX has not
            self.class_weights = trace_class_weights(network, example.contiguous())

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """uint8 (N, S, S, 3) → logits (N, C), ReLU'd Grad-CAM (N, C, h, w), embedding (N, K)."""
        texture = self.network.features[: self.early](self.network.normalized(images))
        activations = self.network.features[self.early :](texture)
        if self.linear is not None:
            weights = self.linear.weight / (activations.shape[2] * activations.shape[3])
        else:
            weights = self.class_weights(activations.contiguous())
        logits, _, pooled = self.network.classify(activations)
        return logits, gradcam(activations, weights), embedding(texture, pooled)


def early_layers(network: Network, size: int) -> int:
    """How many layers lead to the map of an eighth of the input's resolution."""
    sides = map_sides(network.features, size)
    return max(n for n, side in enumerate(sides) if side >= size // 8) + 1


def texture_width(network: Network, size: int) -> int:
    """How many of the embedding's leading entries describe texture: 2 T."""
    with torch.no_grad(), evaluating(network):
        early = network.features[: early_layers(network, size)]
        return 2 * int(early(torch.zeros(1, 3, size, size)).shape[1])


def embedding(texture: Tensor, pooled: Tensor) -> Tensor:
    """What tells pictures apart: mean and spread of an early map, and the last map pooled.

    A network trained to tell diseases apart maps pictures of other kinds into the middle of those
    it knows: on its last map alone, dermoscopy passes for a chest film. Early maps know texture.

    Args:
        texture: The early map, (N, T, h, w).
        pooled: The last map, pooled, (N, K).

    Returns:
        (N, 2 T + K).
    """
    mean = texture.mean((2, 3))
    variance = ((texture - mean[:, :, None, None]) ** 2).mean((2, 3))
    return torch.cat([mean, variance.sqrt(), pooled], 1)


def trace_class_weights(network: Network, example: Tensor) -> Callable[[Tensor], Tensor]:
    """Grad-CAM weights of every class as plain tensor operations, traced from the gradient.

    Args:
        network: In eval mode, with more than one linear layer behind the map.
        example: Feature maps to trace with, (N, K, h, w); their batch equals no other dimension.

    Returns:
        A module: the feature maps → weights (N, C, K).
    """

    def class_weights(activations: Tensor) -> Tensor:
        behind, point = network.behind_the_map(activations)
        pullback = torch.func.vjp(behind, point)[1]

        def of_class(unit: Tensor) -> Tensor:
            [gradient] = pullback(unit.expand(activations.shape[0], network.classes))
            return gradient

        if point.ndim == 2:
            gradients = torch.func.vmap(of_class)(torch.eye(network.classes))  # (C, N, K)
            return gradients.transpose(0, 1) / (activations.shape[2] * activations.shape[3])
        # One class after the other: batching a convolution's gradient over classes freezes shapes.
        means = [of_class(unit).mean((2, 3)) for unit in torch.eye(network.classes)]
        return torch.stack(means, 1)

    return make_fx(
        class_weights,
        decomposition_table=GRADIENTS,
        tracing_mode="symbolic",
        _allow_non_fake_inputs=True,
    )(example)


def _transposed_convolution(
    gradient: Tensor,
    source: Tensor,
    weight: Tensor,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    groups: int,
) -> Tensor:
    """The gradient of a convolution by its input, `source`, as the convolution that it is."""
    missing = [
        source.shape[2 + axis]
        - ((gradient.shape[2 + axis] - 1) * stride[axis] - 2 * padding[axis])
        - dilation[axis] * (weight.shape[2 + axis] - 1)
        - 1
        for axis in (0, 1)
    ]
    return torch.ops.aten.convolution(
        gradient, weight, None, stride, padding, dilation, True, missing, groups
    )


def _convolution_backward(
    gradient: Tensor,
    source: Tensor,
    weight: Tensor,
    bias_sizes: object,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    transposed: bool,
    output_padding: list[int],
    groups: int,
    output_mask: list[bool],
) -> tuple[Tensor | None, None, None]:
    """The gradient of a convolution, where only that by its input is asked for."""
    if transposed or output_mask[1] or output_mask[2]:
        return NotImplemented
    found = _transposed_convolution(gradient, source, weight, stride, padding, dilation, groups)
    return found, None, None


def _avg_pool_backward(
    gradient: Tensor,
    source: Tensor,
    kernel_size: list[int],
    stride: list[int],
    padding: list[int],
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
) -> Tensor:
    """The gradient of an average pooling, a convolution of each channel with equal weights."""
    if ceil_mode or divisor_override or (any(padding) and not count_include_pad):
        return NotImplemented
    channels = source.shape[1]
    weight = torch.full((channels, 1, *kernel_size), 1 / math.prod(kernel_size))
    return _transposed_convolution(
        gradient, source, weight, stride or kernel_size, padding, [1, 1], channels
    )


GRADIENTS: Any = {
    **get_decompositions(
        [
            torch.ops.aten.threshold_backward,
            torch.ops.aten.hardtanh_backward,
            torch.ops.aten.hardswish_backward,
            torch.ops.aten.hardsigmoid_backward,
            torch.ops.aten.silu_backward,
            torch.ops.aten.gelu_backward,
            torch.ops.aten.sigmoid_backward,
            torch.ops.aten.native_batch_norm_backward,
            torch.ops.aten.native_layer_norm_backward,
        ]
    ),
    torch.ops.aten.convolution_backward.default: _convolution_backward,
    torch.ops.aten.avg_pool2d_backward.default: _avg_pool_backward,
}


def export_graph(network: Network, size: int) -> onnx.ModelProto:
    """Turn a trained network into an ONNX graph with a free batch dimension."""
    exported = ExportedNetwork(copy.deepcopy(network).float().cpu().eval(), size).eval()
    try:
        return to_onnx(exported, size, OUTPUTS)
    except torch.onnx.errors.OnnxExporterError as error:
        where = "the last map" if not len(network.tail) else "the map before the last"
        raise ExportError(f"Grad-CAM of this network at {where} cannot be exported") from error


def to_onnx(module: nn.Module, size: int, outputs: Sequence[str]) -> onnx.ModelProto:
    """A module as an ONNX graph with a free batch dimension.

    Args:
        module: In eval mode, uint8 "images" (N, S, S, 3) to its outputs.
        size: Side S of the input, in pixels.
        outputs: Names of the outputs.
    """
    images = torch.zeros(TRACED_BATCH, size, size, 3, dtype=torch.uint8)
    with torch.no_grad():
        program = torch.onnx.export(
            module,
            (images,),
            dynamo=True,
            input_names=["images"],
            output_names=list(outputs),
            dynamic_shapes={"images": {0: torch.export.Dim("N")}},
            verbose=False,
        )
    assert program is not None  # only the older exporter, which writes a file, returns None
    return program.model_proto


def reference(network: Network, images: np.ndarray) -> Outputs:
    """The same outputs by another route: float64, and backpropagation from each class score."""
    network = copy.deepcopy(network).cpu().eval()
    early = early_layers(network, images.shape[1])
    network.double()
    normalized = network.normalized(torch.from_numpy(images).double())
    texture = network.features[:early](normalized)
    activations = network.features(normalized).detach().requires_grad_()
    logits, _, pooled = network.classify(activations)
    cams = []
    for label in range(logits.shape[1]):
        [gradient] = torch.autograd.grad(logits[:, label].sum(), activations, retain_graph=True)
        weights = gradient.mean((2, 3), keepdim=True)
        cams.append((weights * activations).sum(1).relu())
    outputs = (logits, torch.stack(cams, 1), embedding(texture, pooled))
    return Outputs(*(output.detach().numpy() for output in outputs))


def difference(found: np.ndarray, expected: np.ndarray) -> float:
    """Largest difference, relative to the largest value expected."""
    return float(np.abs(found - expected).max() / max(np.abs(expected).max(), 1e-12))


def least_correlation(found: np.ndarray, expected: np.ndarray) -> float:
    """Least correlation of a map with its counterpart, of (N, C, h, w); blank maps aside."""
    pairs = zip(
        found.reshape(-1, found[0, 0].size), expected.reshape(-1, found[0, 0].size), strict=True
    )
    return min(
        (float(np.corrcoef(one, other)[0, 1]) for one, other in pairs if one.std() and other.std()),
        default=1.0,
    )


def verify(
    run: Callable[[np.ndarray], Outputs],
    network: Network,
    size: int,
    *,
    pictures: np.ndarray | None,
) -> float:
    """Compare a graph with the float64 reference, on pictures other than the traced ones.

    Args:
        run: The graph, uint8 (N, S, S, 3) → outputs.
        network: What it was made from.
        size: Side S of the input.
        pictures: Real pictures to compare on besides noise, uint8 (M, S, S, 3); None for none.

    Returns:
        The largest relative difference of any output.

    Raises:
        ExportError: It is above the tolerance.
    """
    random = np.random.default_rng(0)
    of_maps = TAIL_TOLERANCE if len(network.tail) else TOLERANCE
    worst = 0.0
    for batch in (1, 2, 5):
        images = random.integers(0, 256, (batch, size, size, 3), np.uint8)
        if pictures is not None:
            images = np.concatenate([images[: batch // 2], pictures[: batch - batch // 2]])
        found, expected = run(images), reference(network, images)
        for name, one, other in zip(OUTPUTS, found, expected, strict=True):
            allowed = of_maps if name == "cams" else TOLERANCE
            if not (apart := difference(one, other)) <= allowed:
                raise ExportError(
                    f"the graph differs from the float64 network: {name} by {apart:.2e} of the "
                    f"largest value, expected at most {allowed:.0e}; no model was written"
                )
            worst = max(worst, apart)
        if (alike := least_correlation(found.cams, expected.cams)) < TAIL_CORRELATION:
            raise ExportError(
                f"the graph's maps correlate with the float64 network's by {alike:.4f} only, "
                f"expected at least {TAIL_CORRELATION}; no model was written"
            )
    return worst


def export_model(
    network: Network, card: ModelCard, folder: Path, *, pictures: np.ndarray | None = None
) -> ModelCard:
    """Write `model.onnx` and `card.json`, if the graph does what the network does.

    Args:
        network: The trained network.
        card: Its card; digest and difference are filled in.
        folder: The model's folder, such as `models/chest-xray`.
        pictures: Model inputs to compare on, uint8 (M, S, S, 3); better than noise alone.

    Returns:
        The card as written.

    Raises:
        ExportError: Graph and network differ; nothing is written.
    """
    graph, card = stamped(export_graph(network, card.preprocessing.size), card)
    classifier = Classifier(card, session_for(graph, card))
    difference = verify(classifier.run, network, card.preprocessing.size, pictures=pictures)
    card = replace(
        card, training={**card.training, "difference_from_float64": float(f"{difference:.1e}")}
    )
    write_model(graph, card, folder)
    return card


def restamp(card: ModelCard, folder: Path) -> ModelCard:
    """Give a model that is in a folder another card; its arithmetic stays as it was verified.

    Returns:
        The card as written, with the graph's new digest.
    """
    graph, card = stamped(onnx.load(folder / "model.onnx"), card)
    write_model(graph, card, folder)
    return card


def stamped(model: onnx.ModelProto, card: ModelCard) -> tuple[bytes, ModelCard]:
    """The graph with the card's contract in it, serialized, and the card with its digest."""
    onnx.helper.set_model_props(model, {CONTRACT_KEY: card.contract()})
    graph = model.SerializeToString()
    return graph, replace(card, sha256=hashlib.sha256(graph).hexdigest())


def write_model(graph: bytes, card: ModelCard, folder: Path) -> None:
    """Write `model.onnx` and `card.json`, each complete or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    with complete(folder / "card.json") as told, complete(folder / "model.onnx") as made:
        made.write_bytes(graph)
        told.write_text(card.to_json(), encoding="utf-8")
