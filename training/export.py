"""A network → one ONNX graph that puts out logits, Grad-CAM of every class, and embedding.

Grad-CAM needs the gradient of each class score by the feature maps. A gradient is arithmetic like
any other: it is traced once into plain tensor operations, and the graph computes it forwards. No
torch and no backward pass are left at serving time.
"""

import copy
import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx

from imaging.gradcam import gradcam
from models.card import ModelCard
from models.classifier import CONTRACT_KEY, OUTPUTS, Classifier, Outputs, session_for
from training.errors import ExportError
from training.network import Network, linear_head

TRACED_BATCH = (
    7  # equals no other dimension: else the exporter takes the two for one and freezes it
)
TOLERANCE = 1e-3  # of the largest value; float32 kernels against float64


class ExportedNetwork(nn.Module):
    """The network as the service sees it.

    Args:
        network: In eval mode.
        size: Side S of the input, in pixels.
    """

    def __init__(self, network: Network, size: int) -> None:
        super().__init__()
        self.network = network
        self.linear = linear_head(network.head) if network.pooled else None
        if self.linear is None:
            with torch.no_grad():
                example = network.activations(
                    torch.zeros(TRACED_BATCH, size, size, 3, dtype=torch.uint8)
                )
            self.class_weights = trace_class_weights(network, example)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """uint8 (N, S, S, 3) → logits (N, C), ReLU'd Grad-CAM (N, C, h, w), embedding (N, K)."""
        activations = self.network.activations(images)
        vector = self.network.vector(activations)
        if self.linear is not None:
            weights = self.linear.weight / (activations.shape[2] * activations.shape[3])
        else:
            weights = self.class_weights(vector, activations)
        return self.network.head(vector), gradcam(activations, weights), activations.mean((2, 3))


def trace_class_weights(network: Network, example: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """Grad-CAM weights of every class as plain tensor operations, traced from the head's gradient.

    Args:
        network: In eval mode, with a head that is more than one linear layer.
        example: Feature maps to trace with, (N, K, h, w); their batch equals no other dimension.

    Returns:
        A module: what the head works on, and the feature maps → weights (N, C, K).
    """
    head, classes, pooled = network.head, network.classes, network.pooled

    def class_weights(vector: Tensor, activations: Tensor) -> Tensor:
        pullback = torch.func.vjp(head, vector)[1]

        def of_class(unit: Tensor) -> Tensor:
            [gradient] = pullback(unit.expand(vector.shape[0], classes))
            return gradient

        gradients = torch.func.vmap(of_class)(torch.eye(classes))  # (C, N, features)
        n, k, h, w = activations.shape
        if pooled:
            return gradients.transpose(0, 1) / (h * w)
        return gradients.transpose(0, 1).reshape(n, classes, k, h * w).mean(3)

    return make_fx(class_weights, tracing_mode="symbolic", _allow_non_fake_inputs=True)(
        network.vector(example), example
    )


def export_graph(network: Network, size: int) -> onnx.ModelProto:
    """Turn a trained network into an ONNX graph with a free batch dimension."""
    exported = ExportedNetwork(copy.deepcopy(network).float().cpu().eval(), size).eval()
    images = torch.zeros(TRACED_BATCH, size, size, 3, dtype=torch.uint8)
    with torch.no_grad():
        program = torch.onnx.export(
            exported,
            (images,),
            dynamo=True,
            input_names=["images"],
            output_names=list(OUTPUTS),
            dynamic_shapes={"images": {0: torch.export.Dim("N")}},
            verbose=False,
        )
    assert program is not None  # only the older exporter, which writes a file, returns None
    return program.model_proto


def reference(network: Network, images: np.ndarray) -> Outputs:
    """The same outputs by another route: float64, and backpropagation from each class score."""
    network = copy.deepcopy(network).double().cpu().eval()
    activations = network.activations(torch.from_numpy(images).double()).detach().requires_grad_()
    logits = network.head(network.vector(activations))
    cams = []
    for label in range(logits.shape[1]):
        [gradient] = torch.autograd.grad(logits[:, label].sum(), activations, retain_graph=True)
        weights = gradient.mean((2, 3), keepdim=True)
        cams.append((weights * activations).sum(1).relu())
    outputs = (logits, torch.stack(cams, 1), activations.mean((2, 3)))
    return Outputs(*(output.detach().numpy() for output in outputs))


def largest_difference(found: Outputs, expected: Outputs) -> float:
    """Largest difference of any output, relative to the largest value of the reference's."""
    return max(
        float(np.abs(one - other).max() / max(np.abs(other).max(), 1e-12))
        for one, other in zip(found, expected, strict=True)
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
        The largest relative difference.

    Raises:
        ExportError: It is above the tolerance.
    """
    random = np.random.default_rng(0)
    worst = 0.0
    for batch in (1, 2, 5):
        images = random.integers(0, 256, (batch, size, size, 3), np.uint8)
        if pictures is not None:
            images = np.concatenate([images[: batch // 2], pictures[: batch - batch // 2]])
        worst = max(worst, largest_difference(run(images), reference(network, images)))
    if not worst <= TOLERANCE:
        raise ExportError(
            f"the graph differs from the float64 network by {worst:.2e} of the largest value, "
            f"expected at most {TOLERANCE:.0e}; no model was written"
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
    model = export_graph(network, card.preprocessing.size)
    onnx.helper.set_model_props(model, {CONTRACT_KEY: card.contract()})
    graph = model.SerializeToString()
    card = replace(card, sha256=hashlib.sha256(graph).hexdigest())
    classifier = Classifier(card, session_for(graph, card))
    difference = verify(classifier.run, network, card.preprocessing.size, pictures=pictures)
    card = replace(
        card, training={**card.training, "difference_from_float64": float(f"{difference:.1e}")}
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx.part").write_bytes(graph)
    (folder / "card.json.part").write_text(card.to_json(), encoding="utf-8")
    (folder / "model.onnx.part").replace(folder / "model.onnx")
    (folder / "card.json.part").replace(folder / "card.json")
    return card
