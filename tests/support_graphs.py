"""Small ONNX detectors built for tests: they find pure red, green and blue rectangles, exactly, in a known layout.

Those with rotated boxes answer with the rectangle of least area, in steps of half a degree, around what they see.

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
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from tests.support_graphs_rotated import rotated_columns

COLOURS_BGR = ((0, 0, 255), (0, 255, 0), (255, 0, 0))
COLOURS_HEX = ("#ff0000", "#00ff00", "#0000ff")
CLASS_NAMES = ("red", "green", "blue")
SCORES = (0.9, 0.8, 0.7)
OPSET, IR_VERSION = 17, 8

Layout = Literal[
    "yolov8",
    "yolov5",
    "nms_inside",
    "yolox",
    "yolox_decoded",
    "rtdetr",
    "rfdetr",
    "grounding_dino",
    "yolov8_obb",
    "nms_inside_obb",
]
Fault = Literal[
    "nan",
    "logits",
    "extra_class",
    "two_outputs",
    "zero_scores",
    "constant",
    "normalised",
    "other_input",
    "float_sizes",
    "degrees",
]
# The rows of layouts that answer with finished boxes, and where RF-DETR has the three classes among its columns.
FINISHED_ROWS, RFDETR_COLUMNS, RFDETR_IDS = 20, 91, (3, 17, 90)
# The angle where a model with rotated boxes finds nothing.
NO_ANGLE = 0.8
LETTERBOX: Mapping[Layout, str] = {
    "yolox": "top_left",
    "yolox_decoded": "top_left",
    "rtdetr": "stretch",
    "rfdetr": "stretch",
    "grounding_dino": "stretch",
}
# What the model that is asked in words knows: each word's place within its name, how many tokens belong to that name
# with the full stop behind it, its colour and by how much its logit is below that of the colour's score.
WORDS = {
    "red": (0, 3, 0, 1.0),
    "##dish": (1, 3, 0, 0.0),
    "big": (0, 3, 1, 2.0),
    "green": (1, 3, 1, 0.0),
    "blue": (0, 2, 2, 0.0),
    "boat": (0, 2, 2, 9.0),
}
VOCABULARY = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", ".", "?", *WORDS)
ASKED_NAMES = ("Reddish", "big  green", "blue")
TEXT_COLUMNS = 256


def tiles_that_differ(count: int) -> NDArray[np.uint8]:
    """uint8 (count, 32, 64, 3): a rectangle per colour, placed by the tile's number."""
    made = np.zeros((count, 32, 64, 3), np.uint8)
    for index, tile in enumerate(made):
        tile[5:20, 3 + index : 20 + index, index % 3] = 255
    return made


@dataclass(frozen=True)
class GraphSpec:
    """The model to build; ``batch`` None leaves it dynamic, ``dynamic`` leaves height and width open. ``metadata`` goes
    into the file; ``turned`` lists the outputs in the opposite order. A model asked in words takes ``tokens`` of them
    (None: any number), and with ``original`` what the original code's export takes, else what Hugging Face's does."""

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
    tokens: int | None = None
    original: bool = False


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
    if spec.layout in _ROTATED:
        outputs = _ROTATED[spec.layout](graph, spec, rotated_columns(graph, spec, mask, found), found)
    else:
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


def _grounding_dino(graph: _Builder, spec: GraphSpec, sides: list[tuple[str, str]], found: str) -> dict[str, str]:
    """Query i is the rectangle of colour i. A token's logit is right only when the text came as it has to: with other
    words, types, places, masks or pixels masked it is low. Full stops and brackets are surer than any word, and what is
    not text is -inf, so that counting them shows."""
    table = np.full((len(VOCABULARY), 3), -9.0, np.float32)
    table[2:6] = 4.0
    wanted = np.zeros((len(VOCABULARY), 3), np.float32)
    for word, (place, seen, colour, below) in WORDS.items():
        table[VOCABULARY.index(word), colour] = np.log(SCORES[colour] / (1 - SCORES[colour])) - below
        wanted[VOCABULARY.index(word)] = (1, place, seen)
    if spec.fault == "zero_scores":
        table[:] = -np.inf
    said = graph.op("Gather", graph.constant(table), "input_ids", axis=0)
    off = graph.op("Cast", "token_type_ids", to=TensorProto.FLOAT)
    if spec.original:
        known = graph.op("Gather", graph.constant(wanted), "input_ids", axis=0)
        word, place, seen = (graph.op("Gather", known, graph.constant(at, np.int64), axis=2) for at in range(3))
        sees = graph.op("ReduceSum", _float(graph, "text_token_mask"), graph.constant([2], np.int64), keepdims=0)
        for value, right in ((_float(graph, "position_ids"), place), (sees, seen)):
            off = graph.op("Add", off, graph.op("Mul", word, graph.op("Abs", graph.op("Sub", value, right))))
    else:
        whole = graph.op("ReduceMin", _float(graph, "pixel_mask"), axes=[1, 2], keepdims=0)
        blind = graph.op("Sub", graph.constant(1.0), whole)
        off = graph.op("Add", off, graph.op("Unsqueeze", blind, graph.constant([1], np.int64)))
    there = graph.op("Unsqueeze", graph.op("Sub", found, graph.constant(1.0)), graph.constant([1], np.int64))
    missed = graph.op("Sub", there, graph.op("Unsqueeze", off, graph.constant([2], np.int64)))
    logits = graph.op("Add", said, graph.op("Mul", missed, graph.constant(18.0)))
    text = graph.op("Unsqueeze", graph.op("Cast", "attention_mask", to=TensorProto.BOOL), graph.constant([2], np.int64))
    logits = graph.op("Where", text, logits, graph.constant(-np.inf))
    length = graph.op("Gather", graph.op("Shape", "input_ids"), graph.constant([1], np.int64), axis=0)
    rest = graph.op("Sub", graph.constant([TEXT_COLUMNS], np.int64), length)
    pads = graph.op("Concat", graph.constant([0] * 5, np.int64), rest, axis=0)
    columns = graph.op("Pad", graph.op("Transpose", logits, perm=[0, 2, 1]), pads, graph.constant(-np.inf))
    sizes = graph.constant([1 / spec.width, 1 / spec.height] * 2)
    boxes = graph.op("Mul", _stacked_only(graph, _flat(sides)), sizes)
    return {"logits": columns, "boxes" if spec.original else "pred_boxes": boxes}


def _float(graph: _Builder, value: str) -> str:
    return graph.op("Cast", value, to=TensorProto.FLOAT)


def _text_inputs(spec: GraphSpec, batch: int | str) -> list[onnx.ValueInfoProto]:
    length = spec.tokens or "tokens"
    shapes = {"input_ids": [batch, length], "token_type_ids": [batch, length], "attention_mask": [batch, length]}
    kinds = {"attention_mask": TensorProto.BOOL if spec.original else TensorProto.INT64}
    if spec.original:
        shapes |= {"position_ids": [batch, length], "text_token_mask": [batch, length, length]}
        kinds |= {"text_token_mask": TensorProto.BOOL}
    else:
        shapes |= {"pixel_mask": [batch, spec.height, spec.width]}
    if spec.fault == "float_sizes":
        kinds["input_ids"] = TensorProto.FLOAT16
    return [
        helper.make_tensor_value_info(name, kinds.get(name, TensorProto.INT64), shape) for name, shape in shapes.items()
    ]


def write_tokenizer(folder: Path) -> Path:
    """A WordPiece tokenizer with the words of VOCABULARY as ``tokenizer.json`` in ``folder``; returns its path.

    Like those published with models it cuts and fills texts, which nobody who asks wants.
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    numbers = {word: number for number, word in enumerate(VOCABULARY)}
    tokenizer = Tokenizer(models.WordPiece(numbers, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    brackets = [(name, numbers[name]) for name in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=brackets)
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=300)
    path = folder / "tokenizer.json"
    tokenizer.save(str(path))
    return path


def write_asked_model(folder: Path, spec: GraphSpec, names: tuple[str, ...] = ASKED_NAMES, **card: object) -> Path:
    """As :func:`write_model`, for a model that is asked in words: with its tokenizer, and ``names`` as classes."""
    folder.mkdir(parents=True, exist_ok=True)
    write_tokenizer(folder)
    fields = {"classes": [{"name": name} for name in names], "text": {"tokenizer": "tokenizer.json"}}
    return write_model(folder, spec, **{**fields, **card})


def _stacked_only(graph: _Builder, columns: list[str]) -> str:
    parts = [graph.op("Unsqueeze", column, graph.constant([2], np.int64)) for column in columns]
    return graph.op("Concat", *parts, axis=2)


def _yolov8_obb(graph: _Builder, spec: GraphSpec, columns: list[str], found: str) -> dict[str, str]:
    *upright, angle = columns
    rows = _stacked(graph, upright, _scores(graph, spec, found))
    count = anchors(spec.width, spec.height)
    padding = graph.constant([0, 0, 0, count - 3], np.int64)
    elsewhere = graph.constant(NO_ANGLE * (180 / np.pi if spec.fault == "degrees" else 1))
    angles = graph.op("Unsqueeze", graph.op("Pad", angle, padding, elsewhere), graph.constant([2], np.int64))
    whole = graph.op("Concat", _padded(graph, rows, count), angles, axis=2)
    return {"output0": graph.op("Transpose", whole, perm=[0, 2, 1])}


def _nms_inside_obb(graph: _Builder, spec: GraphSpec, columns: list[str], found: str) -> dict[str, str]:
    *upright, angle = columns
    rest = [graph.op("Mul", value, found) for value in (_numbers(graph, spec, found), angle)]
    rows = _stacked_only(graph, [*upright, _confidences(graph, spec, found), *rest])
    return {"output0": _padded(graph, rows, FINISHED_ROWS)}


_ROTATED = {"yolov8_obb": _yolov8_obb, "nms_inside_obb": _nms_inside_obb}
_LAYOUTS = {
    "yolov8": _yolov8,
    "yolov5": _yolov5,
    "nms_inside": _nms_inside,
    "yolox": _yolox,
    "yolox_decoded": _yolox_decoded,
    "rtdetr": _rtdetr,
    "rfdetr": _rfdetr,
    "grounding_dino": _grounding_dino,
}


def _file(graph: _Builder, spec: GraphSpec, outputs: dict[str, str]) -> bytes:
    batch = spec.batch or "batch"
    sides = ["height", "width"] if spec.dynamic else [spec.height, spec.width]
    inputs = [helper.make_tensor_value_info("images", TensorProto.FLOAT, [batch, 3, *sides])]
    if spec.layout == "rtdetr":
        kind = TensorProto.FLOAT if spec.fault == "float_sizes" else TensorProto.INT64
        inputs.append(helper.make_tensor_value_info("orig_target_sizes", kind, [batch, 2]))
    if spec.layout == "grounding_dino":
        inputs += _text_inputs(spec, batch)
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
