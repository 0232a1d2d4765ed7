"""What Grad-CAM of every class costs in the exported graph, beside the logits alone.

    python -m benchmarks.maps [--quick]

ONNX Runtime on one core, as the service runs it, for the shipped models and for larger networks
made here with random weights. The logits are asked of the same graph, and of one from which all
that only maps and embedding need is cut out: ONNX Runtime works out what a graph has, asked for or
not. VGG's gradient goes back through its large head once for each class, so it has no target. The
last line is the worst ratio, of those that have one, of all outputs to the logits of the graph
without the rest.
"""

import argparse
from collections.abc import Iterator
from functools import partial
from statistics import median

import numpy as np
import onnx
import onnx.utils
import torch
from onnxruntime import InferenceSession

from benchmarks.measure import Ratio, ratio, ratio_table, show, table, timed_rounds
from models.classifier import OUTPUTS, session_options
from models.store import model_names, shipped_models
from training.export import export_graph
from training.network import build_network

SIZE = 224  # of the networks made here
LARGER = {"resnet50": 14, "vgg11": 7}
"""Networks made here, and how many classes they tell apart."""
TARGET = 1.05  # what all outputs may cost at most, in runs for logits alone
NO_TARGET = "vgg11"  # its head works on the flattened map: three large layers back for each class
EVERYTHING = "all outputs"
SAME = "logits alone, same graph"
ALONE = "logits alone, own graph"


def made(backbone: str, classes: int) -> onnx.ModelProto:
    """A network with random weights, exported."""
    torch.manual_seed(0)
    return export_graph(build_network(backbone, classes), SIZE)


def logits_alone(graph: onnx.ModelProto) -> onnx.ModelProto:
    """The graph without what only maps and embedding need."""
    return onnx.utils.Extractor(graph).extract_model(["images"], ["logits"])


def session(graph: onnx.ModelProto) -> InferenceSession:
    """A session as the service opens it, on one core."""
    return InferenceSession(
        graph.SerializeToString(), session_options(1), providers=["CPUExecutionProvider"]
    )


def graphs() -> Iterator[tuple[str, onnx.ModelProto]]:
    """Each network's name and its graph."""
    for name in model_names(shipped_models()):
        yield name, onnx.load(shipped_models() / name / "model.onnx")
    for backbone, classes in LARGER.items():
        yield f"{backbone}, {classes} classes", made(backbone, classes)


def timed(graph: onnx.ModelProto, count: int, rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each way in every round, for so many pictures at once."""
    whole, alone = session(graph), session(logits_alone(graph))
    [images] = whole.get_inputs()
    shape = (count, *images.shape[1:])
    feed = {images.name: np.random.default_rng(0).integers(0, 256, shape, np.uint8)}
    ways = {
        EVERYTHING: partial(whole.run, OUTPUTS, feed),
        SAME: partial(whole.run, ["logits"], feed),
        ALONE: partial(alone.run, ["logits"], feed),
    }
    return timed_rounds(ways, rounds=rounds)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    single, several = (7, 5) if parser.parse_args().quick else (51, 11)
    found, batches = [], []
    for name, graph in graphs():
        for count, rounds in ((1, single), (8, several)):
            times = timed(graph, count, rounds)
            medians = {way: median(taken) for way, taken in times.items()}
            show(f"{name}, pictures at once: {count}", medians)
            ratios = {way: ratio(times, EVERYTHING, way) for way in (SAME, ALONE)}
            milliseconds = [f"{taken:.1f}" for taken in medians.values()]
            batches.append([name, count, *milliseconds, *(f"{of:.3f}" for of in ratios.values())])
            if count == 1:
                target = None if name.startswith(NO_TARGET) else TARGET
                found += [
                    Ratio(f"logits and maps, {name}", way, of, "the cost", at_most=target)
                    for way, of in ratios.items()
                ]
    head = ["network", "pictures", *(f"{way}, ms" for way in (EVERYTHING, SAME, ALONE))]
    head += [f"{EVERYTHING} / {way}" for way in (SAME, ALONE)]
    print(table(head, batches), ratio_table(found), sep="\n\n")
    print(f"ratio: {max(one.times for one in found if one.against == ALONE and one.at_most):.3f}")


if __name__ == "__main__":
    main()
