"""Small ONNX detectors built for tests: they find pure red, green and blue rectangles, exactly, in a known layout.

Such a graph is a real detector: its answer depends on the pixels, so a wrong channel order, scale, letterbox, tile
offset or head shows as a wrong box. It finds one rectangle per colour and tile.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import yaml
from onnx import TensorProto, helper, numpy_helper

COLOURS_BGR = ((0, 0, 255), (0, 255, 0), (255, 0, 0))
COLOURS_HEX = ("#ff0000", "#00ff00", "#0000ff")
CLASS_NAMES = ("red", "green", "blue")
SCORES = (0.9, 0.8, 0.7)
OPSET, IR_VERSION = 17, 8

Layout = Literal["yolov8", "yolov5", "nms_inside", "yolox", "yolox_decoded", "rtdetr", "rfdetr"]
Fault = Literal[
    "nan", "logits", "extra_class", "two_outputs", "zero_scores", "constant", "normalised", "other_input", "float_sizes"
]
# The rows of layouts that answer with finished boxes, and where RF-DETR has the three classes among its columns.
FINISHED_ROWS, RFDETR_COLUMNS, RFDETR_IDS = 20, 91, (3, 17, 90)
LETTERBOX: Mapping[Layout, str] = {
    "yolox": "top_left",
    "yolox_decoded": "top_left",
    "rtdetr": "stretch",
    "rfdetr": "stretch",
}


@dataclass(frozen=True)
class GraphSpec:
    """The model to build; ``batch`` None leaves it dynamic, ``dynamic`` leaves height and width open. ``metadata`` goes
    into the file; ``turned`` lists the outputs in the opposite order."""

    layout: Layout = "yolov8"
    width: int = 128
    height: int = 128
    batch: int | None = None
    channels: Literal["rgb", "bgr"] = "rgb"
    scale: float = 1 / 255
    mean: float = 0.0
    std: float = 1.0
    fault: Fault | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    turned: bool = False
    dynamic: bool = False


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
    outputs = _LAYOUTS[spec.layout](graph, spec, sides, found)
    return _file(graph, spec, {name: _faulty(graph, spec, value) for name, value in outputs.items()})


def _faulty(graph: _Builder, spec: GraphSpec, output: str) -> str:
    if spec.fault == "nan":
        as_float = graph.op("Cast", output, to=TensorProto.FLOAT)
        return graph.op("Div", as_float, graph.op("Mul", as_float, graph.constant(0.0)))
    if spec.fault == "logits":
        return graph.op("Sub", graph.op("Mul", output, graph.constant(14.0)), graph.constant(7.0))
    if spec.fault == "constant":
        return graph.op("Add", graph.op("Mul", output, graph.constant(0.0)), graph.constant(0.5))
    if spec.fault == "normalised":
        return graph.op("Mul", output, graph.constant(1 / 128))
    return output


def _scores(graph: _Builder, spec: GraphSpec, found: str) -> str:
    """(N, 3, classes): row i is the object of colour i, its score in column i."""
    classes = 4 if spec.fault == "extra_class" else 3
    diagonal = np.zeros((3, classes), np.float32)
    if spec.fault != "zero_scores":
        diagonal[range(3), range(3)] = SCORES
    return graph.op("Mul", graph.op("Unsqueeze", found, graph.constant([2], np.int64)), graph.constant(diagonal))


def _stacked(graph: _Builder, columns: list[str], scores: str) -> str:
    parts = [graph.op("Unsqueeze", column, graph.constant([2], np.int64)) for column in columns]
    return graph.op("Concat", *parts, scores, axis=2)


def _padded(graph: _Builder, rows: str, count: int) -> str:
    """(N, 3, C) → (N, count, C): all other rows are empty."""
    return graph.op("Pad", rows, graph.constant([0, 0, 0, 0, count - 3, 0], np.int64))


def _flat(sides: list[tuple[str, str]]) -> list[str]:
    (cx, w), (cy, h) = sides
    return [cx, cy, w, h]


def _corners(graph: _Builder, sides: list[tuple[str, str]], found: str) -> list[str]:
    """x1, y1, x2, y2, 0 where nothing was found."""
    half = graph.constant(0.5)
    ends = []
    for kind in ("Sub", "Add"):
        for centre, side in sides:
            ends.append(graph.op("Mul", found, graph.op(kind, centre, graph.op("Mul", half, side))))
    return ends


def _confidences(graph: _Builder, spec: GraphSpec, found: str) -> str:
    """(N, 3): the score of each colour."""
    zero = spec.fault == "zero_scores"
    return graph.op("Mul", found, graph.constant([0.0] * 3 if zero else SCORES))


def _numbers(graph: _Builder, spec: GraphSpec, found: str) -> str:
    """(N, 3): the class number of each colour."""
    numbers = [0.0, 1.0, 7.0 if spec.fault == "extra_class" else 2.0]
    return graph.op("Add", graph.op("Mul", found, graph.constant(0.0)), graph.constant(numbers))


def _yolov8(graph: _Builder, spec: GraphSpec, sides: list[tuple[str, str]], found: str) -> dict[str, str]:
    rows = _stacked(graph, _flat(sides), _scores(graph, spec, found))
    padded = _padded(graph, rows, anchors(spec.width, spec.height))
    return {"output0": graph.op("Transpose", padded, perm=[0, 2, 1])}


def _yolov5(graph: _Builder, spec: GraphSpec, sides: list[tuple[str, str]], found: str) -> dict[str, str]:
    rows = _stacked(graph, [*_flat(sides), found], _scores(graph, spec, found))
    return {"output0": _padded(graph, rows, 3 * anchors(spec.width, spec.height))}


def _yolox_decoded(graph: _Builder, spec: GraphSpec, sides: list[tuple[str, str]], found: str) -> dict[str, str]:
    rows = _stacked(graph, [*_flat(sides), found], _scores(graph, spec, found))
    return {"output": _padded(graph, rows, anchors(spec.width, spec.height))}


def _yolox(graph: _Builder, spec: GraphSpec, sides: list[tuple[str, str]], found: str) -> dict[str, str]:
    eighth = graph.constant(1 / 8)
    columns = []
    for (centre, _), cells in zip(sides, ([0.0, 1.0, 2.0], [0.0, 0.0, 0.0]), strict=True):
        columns.append(graph.op("Sub", graph.op("Mul", centre, eighth), graph.constant(cells)))
    columns += [graph.op("Log", graph.op("Mul", side, eighth)) for _, side in sides]
    rows = _stacked(graph, [*columns, found], _scores(graph, spec, found))
    return {"output": _padded(graph, rows, anchors(spec.width, spec.height))}


def _nms_inside(graph: _Builder, spec: GraphSpec, sides: list[tuple[str, str]], found: str) -> dict[str, str]:
    number = graph.op("Mul", _numbers(graph, spec, found), found)
    columns = [*_corners(graph, sides, found), _confidences(graph, spec, found)]
    last = graph.op("Unsqueeze", number, graph.constant([2], np.int64))
    return {"output0": _padded(graph, _stacked(graph, columns, last), FINISHED_ROWS)}


def _rtdetr(graph: _Builder, spec: GraphSpec, sides: list[tuple[str, str]], found: str) -> dict[str, str]:
    """Boxes are shares of the input times the sizes asked for, [w, h]."""
    shares = graph.op(
        "Mul",
        _stacked_only(graph, _corners(graph, sides, found)),
        graph.constant([1 / spec.width, 1 / spec.height] * 2),
    )
    wanted = graph.op("Cast", "orig_target_sizes", to=TensorProto.FLOAT)
    twice = graph.op("Concat", wanted, wanted, axis=1)
    boxes = graph.op("Mul", shares, graph.op("Unsqueeze", twice, graph.constant([1], np.int64)))
    labels = graph.op("Cast", _numbers(graph, spec, found), to=TensorProto.INT64)
    return {"labels": labels, "boxes": boxes, "scores": _confidences(graph, spec, found)}


def _rfdetr(graph: _Builder, spec: GraphSpec, sides: list[tuple[str, str]], found: str) -> dict[str, str]:
    """Logits in 91 columns; those of no class are as sure as the best, so that reading one of them shows."""
    sizes = graph.constant([1 / spec.width, 1 / spec.height] * 2)
    dets = graph.op("Mul", _stacked_only(graph, _flat(sides)), sizes)
    logits = np.full((3, RFDETR_COLUMNS), -9.0, np.float32)
    logits[:, 1] = 9.0
    for row, (column, score) in enumerate(zip(RFDETR_IDS, SCORES, strict=True)):
        logits[row, column] = np.log(score / (1 - score))
    there = graph.op("Unsqueeze", found, graph.constant([2], np.int64))
    absent = graph.op("Mul", graph.op("Sub", there, graph.constant(1.0)), graph.constant(18.0))
    return {"dets": dets, "labels": graph.op("Add", graph.constant(logits), absent)}


def _stacked_only(graph: _Builder, columns: list[str]) -> str:
    parts = [graph.op("Unsqueeze", column, graph.constant([2], np.int64)) for column in columns]
    return graph.op("Concat", *parts, axis=2)


_LAYOUTS = {
    "yolov8": _yolov8,
    "yolov5": _yolov5,
    "nms_inside": _nms_inside,
    "yolox": _yolox,
    "yolox_decoded": _yolox_decoded,
    "rtdetr": _rtdetr,
    "rfdetr": _rfdetr,
}


def _file(graph: _Builder, spec: GraphSpec, outputs: dict[str, str]) -> bytes:
    batch = spec.batch or "batch"
    sides = ["height", "width"] if spec.dynamic else [spec.height, spec.width]
    inputs = [helper.make_tensor_value_info("images", TensorProto.FLOAT, [batch, 3, *sides])]
    if spec.layout == "rtdetr":
        kind = TensorProto.FLOAT if spec.fault == "float_sizes" else TensorProto.INT64
        inputs.append(helper.make_tensor_value_info("orig_target_sizes", kind, [batch, 2]))
    if spec.fault == "other_input":
        inputs.append(helper.make_tensor_value_info("prompt", TensorProto.INT64, [batch, 2]))
    if spec.fault == "two_outputs":
        outputs = {**outputs, "output1": next(iter(outputs.values()))}
    names = list(outputs)[::-1] if spec.turned else list(outputs)
    declared = []
    for name in names:
        graph.nodes.append(helper.make_node("Identity", [outputs[name]], [name]))
        whole = spec.layout == "rtdetr" and name == "labels" and spec.fault != "nan"
        kind = TensorProto.INT64 if whole else TensorProto.FLOAT
        flat = spec.layout == "rtdetr" and name != "boxes"
        declared.append(helper.make_tensor_value_info(name, kind, [batch, None] if flat else [batch, None, None]))
    proto = helper.make_graph(graph.nodes, "rectangles", inputs, declared, graph.constants)
    model = helper.make_model(proto, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    helper.set_model_props(model, dict(spec.metadata))
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
            "letterbox": LETTERBOX.get(wanted.layout, "center"),
        },
        "classes": [
            {"name": name, "color": color, **({"id": number} if wanted.layout == "rfdetr" else {})}
            for name, color, number in zip(CLASS_NAMES, COLOURS_HEX, RFDETR_IDS, strict=True)
        ],
        "licence": "Apache-2.0",
    }
    path = folder / "model.yaml"
    path.write_text(yaml.safe_dump({**fields, **card}), encoding="utf-8")
    return path
