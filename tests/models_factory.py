"""Builds a tiny model folder that answers only to a bright square; no training, no torch."""

import dataclasses
import hashlib
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from imaging.preprocessing import Preprocessing
from models.card import Accepts, ModelCard
from models.classifier import CONTRACT_KEY

CELL = 16
"""Model pixels per side of one map cell."""


def square_model(
    folder: Path,
    name: str = "square",
    *,
    size: int = 224,
    fit: Literal["squash", "pad"] = "pad",
    color: Literal["rgb", "gray"] = "rgb",
    accepts: Accepts | None = None,
    labels: tuple[str, ...] = ("dark", "square"),
    threshold: float = 0.5,
    license: str = "Apache-2.0",
) -> Path:
    """Write `folder/name/model.onnx` and `card.json`.

    The last label's map is how far each cell's mean brightness (0 to 1) lies above `threshold`;
    every other label has a map of zeros and a logit of 0. The last label's logit is 0 where the
    brightest cell lies 0.1 above the threshold, and 4 where it lies 0.5 above.

    Args:
        folder: Folder of models, such as the one CARE_MODELS names.
        size: Side of the model's square, in model pixels; a multiple of 16.
        threshold: Mean brightness, from 0 to 1, up to which a cell is no evidence.

    Returns:
        The model's own folder.
    """
    card = ModelCard(
        name=name,
        version="1.0.0",
        labels=labels,
        preprocessing=Preprocessing(size=size, fit=fit, color=color),
        accepts=accepts or Accepts(),
        temperature=1.0,
        operating_points={label: 0.5 for label in labels},
        license=license,
    )
    graph = _graph(card, threshold).SerializeToString()
    own = folder / name
    own.mkdir(parents=True)
    (own / "model.onnx").write_bytes(graph)
    card = dataclasses.replace(card, sha256=hashlib.sha256(graph).hexdigest())
    (own / "card.json").write_text(card.to_json(), encoding="utf-8")
    return own


def _graph(card: ModelCard, threshold: float) -> onnx.ModelProto:
    size, count = card.preprocessing.size, len(card.labels)
    cells = size // CELL
    # one column per label: nothing but the last one answers
    last = np.zeros((1, count), np.float32)
    last[0, -1] = 1
    constants = {
        "white": np.array(255, np.float32),
        "threshold": np.array(threshold, np.float32),
        "last_map": last.reshape(1, count, 1, 1),
        "gain": 10 * last,
        "offset": -last,
    }
    node = helper.make_node
    nodes = [
        node("Cast", ["images"], ["raw"], to=TensorProto.FLOAT),
        node("Div", ["raw", "white"], ["brightness"]),
        node("Transpose", ["brightness"], ["planes"], perm=[0, 3, 1, 2]),
        node("ReduceMean", ["planes"], ["gray"], axes=[1], keepdims=1),
        node("AveragePool", ["gray"], ["grid"], kernel_shape=[CELL] * 2, strides=[CELL] * 2),
        node("Sub", ["grid", "threshold"], ["signed"]),
        node("Relu", ["signed"], ["evidence"]),
        node("Mul", ["evidence", "last_map"], ["cams"]),
        node("GlobalMaxPool", ["evidence"], ["brightest"]),
        node("GlobalAveragePool", ["evidence"], ["average"]),
        node("Flatten", ["brightest"], ["brightest_flat"]),
        node("Flatten", ["average"], ["average_flat"]),
        node("Concat", ["brightest_flat", "average_flat"], ["embedding"], axis=1),
        node("MatMul", ["brightest_flat", "gain"], ["gained"]),
        node("Add", ["gained", "offset"], ["logits"]),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        card.name,
        [value("images", TensorProto.UINT8, ["N", size, size, 3])],
        [
            value("logits", TensorProto.FLOAT, ["N", count]),
            value("cams", TensorProto.FLOAT, ["N", count, cells, cells]),
            value("embedding", TensorProto.FLOAT, ["N", 2]),
        ],
        [numpy_helper.from_array(array, key) for key, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    helper.set_model_props(model, {CONTRACT_KEY: card.contract()})
    onnx.checker.check_model(model)
    return model
