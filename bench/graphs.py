"""Builds a detector that costs as much as YOLOv8n at 640 pixels, with random weights.

What it finds means nothing. Its cost per tile, its layout and the number of its boxes are what the benchmark needs.
"""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import yaml
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from detectors.heads.grids import grid

SIDE = 640
CLASSES = 4
_WIDTHS = (16, 32, 64, 128, 256)
_BLOCKS = (0, 2, 3, 3, 2)
_BOX_PX = 24.0
_BOXES_PER_TILE = 12
"""As the shipped model has, before duplicates are removed."""


class _Builder:
    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self._rng = np.random.default_rng(0)

    def constant(self, values: NDArray[np.float32] | NDArray[np.int64]) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(values, name))
        return name

    def op(self, kind: str, *inputs: str, **attributes: int | list[int]) -> str:
        name = f"v{len(self.nodes)}"
        node = helper.make_node(kind, list(inputs), [name])
        node.attribute.extend(helper.make_attribute(key, value) for key, value in attributes.items())
        self.nodes.append(node)
        return name

    def convolve(self, x: str, channels: tuple[int, int], kernel: int, stride: int = 1) -> str:
        spread = (2.0 / (channels[0] * kernel**2)) ** 0.5
        weights = self._rng.normal(0, spread, (channels[1], channels[0], kernel, kernel)).astype(np.float32)
        pads = [kernel // 2] * 4
        return self.op("Conv", x, self.constant(weights), kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=pads)

    def block(self, x: str, channels: tuple[int, int], kernel: int, stride: int = 1) -> str:
        y = self.convolve(x, channels, kernel, stride)
        return self.op("Mul", y, self.op("Sigmoid", y))


def write_heavy_model(folder: Path, tile: NDArray[np.uint8]) -> Path:
    """Write the model and its card into ``folder``, and return the card's path.

    ``tile`` (uint8 (640, 640, 3) BGR) is a typical one: the confidence threshold is set so that it shows a dozen boxes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    data = _build()
    (folder / "heavy.onnx").write_bytes(data)
    card = {
        "name": "bench-heavy",
        "version": "1.0.0",
        "file": "heavy.onnx",
        "sha256": sha256(data).hexdigest(),
        "layout": "yolov8",
        "input": {"width": SIDE, "height": SIDE},
        "classes": [{"name": f"class-{number}"} for number in range(CLASSES)],
        "thresholds": {"confidence": _threshold(data, tile)},
        "licence": "Apache-2.0",
    }
    path = folder / "model.yaml"
    path.write_text(yaml.safe_dump(card), encoding="utf-8")
    return path


def _build() -> bytes:
    graph = _Builder()
    x, channels, levels = "images", 3, []
    for width, blocks in zip(_WIDTHS, _BLOCKS, strict=True):
        x, channels = graph.block(x, (channels, width), 3, 2), width
        for _ in range(blocks):
            y = graph.block(graph.block(x, (width, width), 1), (width, width), 3)
            x = graph.op("Add", x, y)
        levels.append((x, width))
    scores = []
    for x, width in levels[2:]:
        y = graph.block(graph.block(x, (width, 64), 3), (64, 64), 3)
        logits = graph.convolve(y, (64, CLASSES), 1)
        scores.append(graph.op("Reshape", logits, graph.constant(np.array([1, CLASSES, -1], np.int64))))
    boxes = graph.constant(_boxes())
    graph.nodes.append(
        helper.make_node("Concat", [boxes, graph.op("Sigmoid", graph.op("Concat", *scores, axis=2))], ["out"], axis=1)
    )
    picture = helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, SIDE, SIDE])
    output = helper.make_tensor_value_info("out", TensorProto.FLOAT, [1, 4 + CLASSES, _boxes().shape[2]])
    proto = helper.make_graph(graph.nodes, "heavy", [picture], [output], graph.weights)
    model = helper.make_model(proto, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def _boxes() -> NDArray[np.float32]:
    """Return float32 (1, 4, anchors): the box of each anchor is around the anchor's place."""
    places = grid(SIDE, SIDE)
    centres = (places[:, :2] + 0.5) * places[:, 2:]
    sizes = np.full_like(centres, _BOX_PX)
    return np.ascontiguousarray(np.concatenate((centres, sizes), axis=1).T[None]).astype(np.float32)


def _threshold(data: bytes, tile: NDArray[np.uint8]) -> float:
    """Return the confidence that only the best boxes of ``tile`` reach."""
    session = ort.InferenceSession(data, providers=["CPUExecutionProvider"])
    values = np.ascontiguousarray(tile[None, :, :, ::-1].transpose(0, 3, 1, 2)).astype(np.float32) / 255
    (output,) = session.run(None, {"images": values})
    best = np.sort(output[0, 4:].max(axis=0))
    return float(best[-_BOXES_PER_TILE])
