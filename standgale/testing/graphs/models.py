"""Builds small detectors as ONNX files, and writes them with their cards."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path

import numpy as np
import onnx
import yaml
from numpy.typing import NDArray
from onnx import TensorProto, helper

from detectors.card.card import Layout
from standgale.testing.graphs.builder import GraphBuilder
from standgale.testing.graphs.layouts import LAYOUTS, ROTATED_LAYOUTS
from standgale.testing.graphs.rotated import rotated_columns
from standgale.testing.graphs.spec import CLASS_NAMES, COLOURS_HEX, RFDETR_IDS, GraphSpec
from standgale.testing.graphs.text import text_inputs, write_tokenizer

OPSET, IR_VERSION = 17, 8
LETTERBOX: Mapping[Layout, str] = {
    "yolox": "top_left",
    "yolox_decoded": "top_left",
    "rtdetr": "stretch",
    "rfdetr": "stretch",
    "grounding_dino": "stretch",
}
# The outputs of two axes.
_FLAT: Mapping[Layout, tuple[str, ...]] = {
    "rtdetr": ("labels", "scores"),
    "tf_nms": ("num_detections", "detection_scores", "detection_classes"),
    "nms_parts": ("num_dets", "det_scores", "det_classes"),
    "mmdet": ("labels",),
}
ASKED_NAMES = ("Reddish", "big  green", "blue")


def tiles_that_differ(count: int) -> NDArray[np.uint8]:
    """uint8 (count, 32, 64, 3): a rectangle per colour, placed by the tile's number."""
    made = np.zeros((count, 32, 64, 3), np.uint8)
    for index, tile in enumerate(made):
        tile[5:20, 3 + index : 20 + index, index % 3] = 255
    return made


def build(spec: GraphSpec) -> bytes:
    """The ONNX file of ``spec``."""
    graph = GraphBuilder()
    threshold = (0.6 * 255 * spec.scale - spec.mean) / spec.std
    image = _image(graph, spec)
    mask = graph.op("Cast", graph.op("Greater", image, graph.constant(threshold)), to=TensorProto.FLOAT)
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
        if spec.fault == "no_area":
            side = graph.op("Mul", side, graph.constant(0.0))
        sides.append((graph.op("Mul", centre, found), side))
    if spec.layout in ROTATED_LAYOUTS:
        outputs = ROTATED_LAYOUTS[spec.layout](graph, spec, rotated_columns(graph, spec, mask, found), found)
    else:
        outputs = LAYOUTS[spec.layout](graph, spec, sides, found)
    return _file(graph, spec, {name: _faulty(graph, spec, value) for name, value in outputs.items()})


def _image(graph: GraphBuilder, spec: GraphSpec) -> str:
    """The image as float (N, 3, H, W), after what the graph does to it itself."""
    image = "images"
    if spec.kind != "float32":
        image = graph.op("Cast", image, to=TensorProto.FLOAT)
    if spec.channels_last:
        image = graph.op("Transpose", image, perm=[0, 3, 1, 2])
    if spec.input_channels != 3:
        image = graph.op("Concat", *[graph.op("ReduceMax", image, axes=[1], keepdims=1)] * 3, axis=1)
    if spec.scales_itself:
        image = graph.op("Mul", image, graph.constant(spec.scale))
        if spec.mean:
            image = graph.op("Sub", image, graph.constant([[[spec.mean]]] * 3))
        if spec.std != 1:
            image = graph.op("Div", image, graph.constant([[[spec.std]]] * 3))
    return image


def _faulty(graph: GraphBuilder, spec: GraphSpec, output: str) -> str:
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


def _file(graph: GraphBuilder, spec: GraphSpec, outputs: dict[str, str]) -> bytes:
    batch = spec.batch or "batch"
    sides = ["height", "width"] if spec.dynamic else [spec.height, spec.width]
    channels = [spec.input_channels]
    shape = [batch, *sides, *channels] if spec.channels_last else [batch, *channels, *sides]
    kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(spec.kind))
    inputs = [helper.make_tensor_value_info("images", kind, shape)]
    if spec.layout == "rtdetr":
        kind = TensorProto.FLOAT if spec.fault == "float_sizes" else TensorProto.INT64
        inputs.append(helper.make_tensor_value_info("orig_target_sizes", kind, [batch, 2]))
    if spec.layout == "grounding_dino":
        inputs += text_inputs(spec, batch)
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
        flat = name in _FLAT.get(spec.layout, ())
        declared.append(helper.make_tensor_value_info(name, kind, [batch, None] if flat else [batch, None, None]))
    proto = helper.make_graph(graph.nodes, "rectangles", inputs, declared, graph.constants)
    model = helper.make_model(proto, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    helper.set_model_props(model, dict(spec.metadata))
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def write_model(folder: Path, spec: GraphSpec | None = None, **card: object) -> Path:
    """The model of ``spec`` and its card in ``folder``; ``card`` adds or replaces fields. Returns the card's path."""
    wanted = spec or GraphSpec()
    folder.mkdir(parents=True, exist_ok=True)
    data = build(wanted)
    ids = {"rfdetr": RFDETR_IDS, "tf_nms": (1, 2, 3)}.get(wanted.layout)
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
            "scale": 1.0 if wanted.scales_itself else wanted.scale,
            "mean": [0.0 if wanted.scales_itself else wanted.mean] * 3,
            "std": [1.0 if wanted.scales_itself else wanted.std] * 3,
            "letterbox": LETTERBOX.get(wanted.layout, "center"),
        },
        "classes": [
            {"name": name, "color": color, **({"id": ids[place]} if ids else {})}
            for place, (name, color) in enumerate(zip(CLASS_NAMES, COLOURS_HEX, strict=True))
        ],
        **({"boxes": wanted.boxes.model_dump()} if wanted.layout == "boxes_scores" else {}),
        "licence": "Apache-2.0",
    }
    path = folder / "model.yaml"
    path.write_text(yaml.safe_dump({**fields, **card}), encoding="utf-8")
    return path


def write_asked_model(folder: Path, spec: GraphSpec, names: tuple[str, ...] = ASKED_NAMES, **card: object) -> Path:
    """As :func:`write_model`, for a model that is asked in words: with its tokenizer, and ``names`` as classes."""
    folder.mkdir(parents=True, exist_ok=True)
    write_tokenizer(folder)
    fields = {"classes": [{"name": name} for name in names], "text": {"tokenizer": "tokenizer.json"}}
    return write_model(folder, spec, **{**fields, **card})


def change_graph(card: Path, change: Callable[[onnx.ModelProto], None]) -> Path:
    """Change the ONNX file of ``card`` in place by ``change``; write its new checksum into the card."""
    fields = yaml.safe_load(card.read_text(encoding="utf-8"))
    file = card.parent / fields["file"]
    model = onnx.load_model_from_string(file.read_bytes())
    change(model)
    onnx.checker.check_model(model)
    file.write_bytes(model.SerializeToString())
    fields["sha256"] = sha256(file.read_bytes()).hexdigest()
    card.write_text(yaml.safe_dump(fields), encoding="utf-8")
    return card
