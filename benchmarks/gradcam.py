"""Grad-CAM out of the graph, against pytorch-grad-cam and captum.

    python -m benchmarks.gradcam [--quick]

The same MobileNetV2 with the same random weights sees the same picture, on one core: our exported
graph in ONNX Runtime, which puts out logits and the maps of all classes whatever is asked for; and
the two libraries as their manuals have them, on torch: a forward and a backward pass for each
class. All three have to agree before they are timed. The last line says how many times faster ours
is than the faster of the two, for the map of one class out of seven.
"""

import argparse
from collections.abc import Callable
from functools import partial

import cv2
import numpy as np
import torch
from captum.attr import LayerGradCam
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn

from benchmarks.maps import session
from benchmarks.measure import Ratio, growth, interleaved, ratio_table, show
from models.classifier import OUTPUTS, Outputs
from training.export import export_graph
from training.network import Network, build_network

SIZE = 224
CLASSES = (2, 7, 20, 100)
FEW = 7
OURS, PACKAGE, CAPTUM = "ours", "pytorch-grad-cam", "captum"
AGREED = 1e-3  # of the largest value: float32 kernels of two libraries

Maps = Callable[[list[int]], np.ndarray]
"""Maps of some classes, (C, h, w)."""


class Normalized(nn.Module):
    """What the libraries want: normalized pictures (N, 3, S, S) in, logits out."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, pictures: Tensor) -> Tensor:
        """Logits, (N, C)."""
        return self.network.classify(self.network.features(pictures)).logits


def ways(network: Network, image: np.ndarray) -> dict[str, Maps]:
    """The three ways to the maps of one picture, uint8 (S, S, 3)."""
    graph = session(export_graph(network, image.shape[0]))
    model, layer = Normalized(network), network.features[-1]
    pictures = network.normalized(torch.from_numpy(image[None]))
    package, captum = GradCAM(model=model, target_layers=[layer]), LayerGradCam(model, layer)

    def ours(labels: list[int]) -> np.ndarray:
        outputs = Outputs(*graph.run(OUTPUTS, {"images": image[None]}))
        return outputs.cams[0, labels]

    def by_package(labels: list[int]) -> np.ndarray:
        targets = [[ClassifierOutputTarget(label)] for label in labels]
        return np.concatenate([package(input_tensor=pictures, targets=one) for one in targets])

    def by_captum(labels: list[int]) -> np.ndarray:
        maps = [captum.attribute(pictures, label, relu_attributions=True) for label in labels]
        return torch.cat(maps)[:, 0].detach().numpy()

    return {OURS: ours, PACKAGE: by_package, CAPTUM: by_captum}


def disagreement(found: dict[str, Maps], labels: list[int], size: int) -> float:
    """How far the libraries' maps are from ours at most, of the largest value."""
    ours, by_captum, by_package = (found[way](labels) for way in (OURS, CAPTUM, PACKAGE))
    # pytorch-grad-cam scales each map to [0, 1], at its own size and again at the picture's
    stretched = np.stack([cv2.resize(_scaled(one), (size, size)) for one in ours])
    scaled = np.stack([_scaled(one) for one in stretched])
    return max(
        float(np.abs(by_captum - ours).max() / ours.max()), float(np.abs(by_package - scaled).max())
    )


def _scaled(one: np.ndarray) -> np.ndarray:
    above = one - one.min()
    return above / (above.max() + 1e-7)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    rounds = 3 if parser.parse_args().quick else 11
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    image = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
    found, sizes = [], {}
    for classes in CLASSES:
        torch.manual_seed(0)
        maps = ways(build_network("mobilenet_v2", classes).eval(), image)
        every = list(range(classes))
        if (apart := disagreement(maps, every, SIZE)) > AGREED:
            raise SystemExit(f"the ways differ by {apart:.1e}, expected at most {AGREED:.0e}")
        print(f"{classes} classes: the three ways differ by at most {apart:.0e}")
        for words, labels in (("one class", [0]), ("all classes", every)):
            calls = {name: partial(way, labels) for name, way in maps.items()}
            medians = interleaved(calls, rounds=rounds if classes <= FEW else 3)
            show(f"maps of {words} out of {classes}", medians)
            if classes == FEW:
                found += [
                    Ratio(
                        f"maps of {words} out of {classes}, MobileNetV2",
                        name,
                        medians[name] / medians[OURS],
                        "as fast",
                    )
                    for name in (PACKAGE, CAPTUM)
                ]
        sizes[classes] = medians
    print(growth("classes, all of them", sizes, OURS), ratio_table(found), sep="\n\n")
    print(f"ratio: {min(one.times for one in found[:2]):.1f}")


if __name__ == "__main__":
    main()
