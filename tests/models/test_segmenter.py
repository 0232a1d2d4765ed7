"""Any ONNX model that keeps the contract finds lesions; any other is refused in one sentence."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from models.errors import BrokenModel
from models.segmenter import Segmenter

SIDE = 16
BYTES, FLOATS = TensorProto.UINT8, TensorProto.FLOAT
NHWC, NCHW = ["N", SIDE, SIDE, 3], ["N", 3, SIDE, SIDE]


def graph(
    path: Path,
    kind: int = BYTES,
    shape: list = NHWC,
    *,
    gain: float = 1 / 255,
    channels: int = 1,
    inputs: int = 1,
    outputs: int = 1,
) -> Path:
    """A model that takes the brightest channel for the probability."""
    axis = 3 if kind == BYTES else 1
    nodes = [
        helper.make_node("Cast", ["in0"], ["x"], to=FLOATS),
        helper.make_node("Mul", ["x", "gain"], ["y"]),
        helper.make_node("ReduceMax", ["y", "axes"], ["z"], keepdims=int(kind != BYTES)),
    ]
    names = [f"out{n}" for n in range(outputs)]
    for name in names:
        nodes.append(
            helper.make_node("Concat", ["z"] * channels, [name], axis=1)
            if channels > 1
            else helper.make_node("Identity", ["z"], [name])
        )
    made = helper.make_graph(
        nodes,
        "brightest",
        [helper.make_tensor_value_info(f"in{n}", kind, shape) for n in range(inputs)],
        [helper.make_tensor_value_info(name, FLOATS, None) for name in names],
        [
            helper.make_tensor("gain", FLOATS, [], [gain]),
            helper.make_tensor("axes", TensorProto.INT64, [1], [axis]),
        ],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, path)
    return path


def bright_half(height: int, width: int, *channels: int) -> np.ndarray:
    picture = np.zeros((height, width, *channels), np.uint8)
    picture[:, width // 2 :] = 255
    return picture


@pytest.mark.parametrize("shape", [(40, 80), (40, 80, 3), (16, 16, 3), (1, 2)])
@pytest.mark.parametrize(
    ("kind", "input_shape", "gain"), [(BYTES, NHWC, 1 / 255), (FLOATS, NCHW, 1.0)]
)
def test_both_kinds_of_input_give_the_probability_over_the_picture(
    tmp_path, kind, input_shape, gain, shape
):
    segmenter = Segmenter.load(graph(tmp_path / "m.onnx", kind, input_shape, gain=gain))

    found = segmenter(bright_half(*shape))

    assert found.dtype == np.float32
    assert found.shape == shape[:2]
    assert found[:, 0].max() < 0.05  # of two columns, each is a blend at the very edge
    assert found[:, -1].min() > 0.95


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"shape": ["N", SIDE, SIDE, 1]}, r"inputs are .* expected one, tensor\(uint8\)"),
        ({"shape": ["N", SIDE, 2 * SIDE, 3]}, "expected one"),
        ({"shape": ["N", "H", "W", 3]}, "with a number for S"),
        ({"shape": ["N", SIDE, SIDE, 3, 1]}, "expected one"),
        ({"kind": TensorProto.DOUBLE, "shape": NCHW}, "expected one"),
        ({"kind": FLOATS}, "expected one"),
        ({"inputs": 2}, "expected one"),
        ({"outputs": 2}, r"outputs are .* expected one"),
    ],
)
def test_other_inputs_and_outputs_are_refused_when_the_model_is_loaded(tmp_path, settings, words):
    with pytest.raises(BrokenModel, match=f"m.onnx: {words}" if "are" in words else words):
        Segmenter.load(graph(tmp_path / "m.onnx", **settings))


def test_a_model_without_inputs_is_refused(tmp_path):
    model = onnx.load(graph(tmp_path / "m.onnx"))
    constant = helper.make_tensor("in0", BYTES, [1, SIDE, SIDE, 3], bytes(3 * SIDE**2), raw=True)
    model.graph.initializer.append(constant)
    del model.graph.input[:]
    onnx.save(model, tmp_path / "m.onnx")

    with pytest.raises(BrokenModel, match=r"inputs are \[\], expected one"):
        Segmenter.load(tmp_path / "m.onnx")


def test_logits_are_refused_with_the_range_that_was_found(tmp_path):
    segmenter = Segmenter.load(graph(tmp_path / "m.onnx", gain=1.0))

    with pytest.raises(BrokenModel, match=r"values from 0 to 255, expected probabilities in"):
        segmenter(bright_half(40, 80))


def test_several_classes_are_refused(tmp_path):
    path = graph(tmp_path / "m.onnx", FLOATS, NCHW, gain=1.0, channels=2)

    with pytest.raises(BrokenModel, match=r"puts out \[1, 2, 16, 16\], expected \[N, 1, h, w\]"):
        Segmenter.load(path)(bright_half(40, 80))


def test_what_is_no_model_is_refused(tmp_path):
    (tmp_path / "m.onnx").write_bytes(b"nothing")

    with pytest.raises(BrokenModel, match=r"m\.onnx: ONNX Runtime cannot load it"):
        Segmenter.load(tmp_path / "m.onnx")
