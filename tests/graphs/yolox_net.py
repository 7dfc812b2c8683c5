"""Builds a net with the outputs of YOLOX and random weights: 80 classes, raw offsets and log sizes per grid cell.

Its detections mean nothing. Its outputs depend on every pixel, so it can replace a real export where two ways of
reading the same model are compared.
"""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

SIDE = 416
CLASSES = 80
_STRIDES = (8, 16, 32)
_OPSET, _IR_VERSION = 17, 8
# A few per cent of the cells reach a confidence of 0.1 on pictures with contrast.
_OBJECT_BIAS, _CLASS_BIAS, _GAIN = -2.6, -3.2, 2.6


def build_yolox(seed: int = 7) -> bytes:
    """Return an ONNX file: ``images`` float32 (1, 3, 416, 416), 0..255 BGR → ``output`` float32 (1, 3549, 85)."""
    random = np.random.default_rng(seed)
    nodes, constants, levels = [], [], []
    for stride in _STRIDES:
        weights, bias = _kernels(random, stride), _bias()
        constants += [numpy_helper.from_array(weights, f"w{stride}"), numpy_helper.from_array(bias, f"b{stride}")]
        nodes += [
            helper.make_node("Conv", ["images", f"w{stride}", f"b{stride}"], [f"c{stride}"], strides=[stride, stride]),
            helper.make_node("Split", [f"c{stride}", "parts"], [f"box{stride}", f"odds{stride}"], axis=1),
            helper.make_node("Sigmoid", [f"odds{stride}"], [f"sure{stride}"]),
            helper.make_node("Concat", [f"box{stride}", f"sure{stride}"], [f"grid{stride}"], axis=1),
            helper.make_node("Reshape", [f"grid{stride}", "flat"], [f"flat{stride}"]),
            helper.make_node("Transpose", [f"flat{stride}"], [f"rows{stride}"], perm=[0, 2, 1]),
        ]
        levels.append(f"rows{stride}")
    nodes.append(helper.make_node("Concat", levels, ["output"], axis=1))
    constants.append(numpy_helper.from_array(np.array([4, 1 + CLASSES], np.int64), "parts"))
    constants.append(numpy_helper.from_array(np.array([1, 5 + CLASSES, -1], np.int64), "flat"))
    cells = sum((SIDE // stride) ** 2 for stride in _STRIDES)
    graph = helper.make_graph(
        nodes,
        "yolox",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, (1, 3, SIDE, SIDE))],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, (1, cells, 5 + CLASSES))],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def _kernels(random: np.random.Generator, stride: int) -> NDArray[np.float32]:
    """Return weights that respond to contrast, not to brightness; boxes vary less than scores."""
    weights = random.normal(size=(5 + CLASSES, 3, stride, stride))
    weights -= weights.mean(axis=(2, 3), keepdims=True)
    weights /= 40 * np.sqrt(3) * stride
    weights[:4] *= 0.25
    weights[4:] *= _GAIN
    return weights.astype(np.float32)


def _bias() -> NDArray[np.float32]:
    bias = np.full(5 + CLASSES, _CLASS_BIAS, np.float32)
    bias[:4] = (0.5, 0.5, 0.6, 0.6)
    bias[4] = _OBJECT_BIAS
    return bias
