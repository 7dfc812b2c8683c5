"""Small ONNX detectors built for tests: they find pure red, green and blue rectangles, exactly, in a known layout.

Such a graph is a real detector: its answer depends on the pixels, so a wrong channel order, scale, letterbox, tile
offset or head shows as a wrong box. It finds one rectangle per colour and tile.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import yaml
from onnx import TensorProto, helper, numpy_helper

COLOURS_BGR = ((0, 0, 255), (0, 255, 0), (255, 0, 0))
CLASS_NAMES = ("red", "green", "blue")
SCORES = (0.9, 0.8, 0.7)
OPSET, IR_VERSION = 17, 8

Layout = Literal["yolov8", "yolox"]
Fault = Literal["nan", "logits", "extra_class", "two_outputs"]


@dataclass(frozen=True)
class GraphSpec:
    """The model to build; ``batch`` None leaves it dynamic. ``threshold`` tells colour from ground after scaling."""

    layout: Layout = "yolov8"
    width: int = 128
    height: int = 128
    batch: int | None = None
    channels: Literal["rgb", "bgr"] = "rgb"
    scale: float = 1 / 255
    mean: float = 0.0
    std: float = 1.0
    fault: Fault | None = None


class _Builder:
    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, values: object, kind: type = np.float32) -> str:
        name = f"k{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(values, kind), name))
        return name

    def op(self, kind: str, *inputs: str, **attributes: object) -> str:
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def extent(self, mask: str, axis: int, length: int) -> tuple[str, str]:
        """First and last + 1 place along ``axis`` (of (N, 3, H, W)) where ``mask`` is set; (N, 3) each."""
        present = self.op("ReduceMax", mask, axes=[3 if axis == 2 else 2], keepdims=0)
        places = np.arange(length, dtype=np.float32)
        absent = self.op("Sub", self.constant(1.0), present)
        first = self.op(
            "Add", self.op("Mul", present, self.constant(places)), self.op("Mul", absent, self.constant(1e6))
        )
        last = self.op("Mul", present, self.constant(places + 1))
        return (
            self.op("ReduceMin", first, axes=[2], keepdims=0),
            self.op("ReduceMax", last, axes=[2], keepdims=0),
        )


def anchors(width: int, height: int) -> int:
    return sum((width // stride) * (height // stride) for stride in (8, 16, 32))


def build(spec: GraphSpec) -> bytes:
    """The ONNX file of ``spec``."""
    graph = _Builder()
    threshold = (0.6 * 255 * spec.scale - spec.mean) / spec.std
    mask = graph.op("Cast", graph.op("Greater", "images", graph.constant(threshold)), to=TensorProto.FLOAT)
    if spec.channels == "bgr":
        mask = graph.op("Gather", mask, graph.constant([2, 1, 0], np.int64), axis=1)
    x1, x2 = graph.extent(mask, 3, spec.width)
    y1, y2 = graph.extent(mask, 2, spec.height)
    found = graph.op("ReduceMax", mask, axes=[2, 3], keepdims=0)
    half = graph.constant(0.5)
    sides = []
    for low, high in ((x1, x2), (y1, y2)):
        centre = graph.op("Mul", half, graph.op("Add", low, high))
        # Where nothing was found the side is 1, so that its logarithm is a number.
        side = graph.op("Max", graph.op("Sub", high, low), graph.constant(1.0))
        sides.append((graph.op("Mul", centre, found), side))
    output = _yolov8(graph, spec, sides, found) if spec.layout == "yolov8" else _yolox(graph, spec, sides, found)
    if spec.fault == "nan":
        output = graph.op("Div", output, graph.op("Mul", output, graph.constant(0.0)))
    if spec.fault == "logits":
        output = graph.op("Sub", graph.op("Mul", output, graph.constant(14.0)), graph.constant(7.0))
    return _file(graph, spec, output)


def _scores(graph: _Builder, spec: GraphSpec, found: str) -> str:
    """(N, 3, classes): row i is the object of colour i, its score in column i."""
    classes = 4 if spec.fault == "extra_class" else 3
    diagonal = np.zeros((3, classes), np.float32)
    diagonal[range(3), range(3)] = SCORES
    return graph.op("Mul", graph.op("Unsqueeze", found, graph.constant([2], np.int64)), graph.constant(diagonal))


def _stacked(graph: _Builder, columns: list[str], scores: str) -> str:
    parts = [graph.op("Unsqueeze", column, graph.constant([2], np.int64)) for column in columns]
    return graph.op("Concat", *parts, scores, axis=2)


def _padded(graph: _Builder, spec: GraphSpec, rows: str) -> str:
    """(N, 3, C) → (N, A, C): all other anchors are empty."""
    more = anchors(spec.width, spec.height) - 3
    return graph.op("Pad", rows, graph.constant([0, 0, 0, 0, more, 0], np.int64))


def _yolov8(graph: _Builder, spec: GraphSpec, sides: list[tuple[str, str]], found: str) -> str:
    (cx, w), (cy, h) = sides
    rows = _stacked(graph, [cx, cy, w, h], _scores(graph, spec, found))
    return graph.op("Transpose", _padded(graph, spec, rows), perm=[0, 2, 1])


def _yolox(graph: _Builder, spec: GraphSpec, sides: list[tuple[str, str]], found: str) -> str:
    eighth = graph.constant(1 / 8)
    columns = []
    for (centre, _), cells in zip(sides, ([0.0, 1.0, 2.0], [0.0, 0.0, 0.0]), strict=True):
        columns.append(graph.op("Sub", graph.op("Mul", centre, eighth), graph.constant(cells)))
    columns += [graph.op("Log", graph.op("Mul", side, eighth)) for _, side in sides]
    return _padded(graph, spec, _stacked(graph, [*columns, found], _scores(graph, spec, found)))


def _file(graph: _Builder, spec: GraphSpec, output: str) -> bytes:
    graph.nodes.append(helper.make_node("Identity", [output], ["output0"]))
    batch = spec.batch or "batch"
    picture = helper.make_tensor_value_info("images", TensorProto.FLOAT, [batch, 3, spec.height, spec.width])
    outputs = [helper.make_tensor_value_info("output0", TensorProto.FLOAT, [batch, None, None])]
    if spec.fault == "two_outputs":
        graph.nodes.append(helper.make_node("Identity", [output], ["output1"]))
        outputs.append(helper.make_tensor_value_info("output1", TensorProto.FLOAT, [batch, None, None]))
    proto = helper.make_graph(graph.nodes, "rectangles", [picture], outputs, graph.constants)
    model = helper.make_model(proto, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def write_model(folder: Path, spec: GraphSpec | None = None, **card: object) -> Path:
    """The model of ``spec`` and its card in ``folder``; ``card`` adds or replaces fields. Returns the card's path."""
    wanted = spec or GraphSpec()
    folder.mkdir(parents=True, exist_ok=True)
    data = build(wanted)
    (folder / "model.onnx").write_bytes(data)
    fields: dict[str, object] = {
        "name": "rectangles",
        "version": "1.0.0",
        "file": "model.onnx",
        "sha256": sha256(data).hexdigest(),
        "layout": wanted.layout,
        "input": {
            "width": wanted.width,
            "height": wanted.height,
            "channels": wanted.channels,
            "scale": wanted.scale,
            "mean": [wanted.mean] * 3,
            "std": [wanted.std] * 3,
            "letterbox": "top_left" if wanted.layout == "yolox" else "center",
        },
        "classes": [
            {"name": name, "color": color}
            for name, color in zip(CLASS_NAMES, ("#ff0000", "#00ff00", "#0000ff"), strict=True)
        ],
        "licence": "Apache-2.0",
    }
    path = folder / "model.yaml"
    path.write_text(yaml.safe_dump({**fields, **card}), encoding="utf-8")
    return path
