"""Reads the nodes of an ONNX graph: what it does to pixels, what its NMS leaves out, and what no detector has."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from detectors.card.protobuf import MessageReader, Span, signed

MOST_NODES = 200_000
DEEPEST_GRAPH = 16
"""So many graphs may be inside of each other (branches and loops); exports have up to three."""
MOST_ELEMENTS = 1 << 28
"""The largest tensor that a graph may make from constants: 1 GiB in f32."""
_MOST_NAMED = 5

# Field numbers of the ONNX protobuf messages that are read here.
_GRAPH_NODE, _GRAPH_INITIALIZER = 1, 5
_NODE_INPUT, _NODE_OUTPUT, _NODE_OPERATOR, _NODE_ATTRIBUTE, _NODE_DOMAIN = 1, 2, 4, 5, 7
_ATTRIBUTE_TENSOR, _ATTRIBUTE_GRAPH, _ATTRIBUTE_GRAPHS = 5, 6, 11
_TENSOR_TYPE, _TENSOR_NAME, _TENSOR_RAW = 2, 8, 9
# The field of a TensorProto with values that are not raw, by element type, and the type of its values.
_VALUES: Mapping[int, tuple[int, type[np.generic]]] = {
    1: (4, np.float32),
    6: (5, np.int32),
    7: (7, np.int64),
    11: (10, np.float64),
}
_RAW: Mapping[int, type[np.generic]] = {
    1: np.float32,
    2: np.uint8,
    6: np.int32,
    7: np.int64,
    10: np.float16,
    11: np.float64,
}
_LARGEST_CONSTANT_BYTES = 512
_STANDARD_DOMAINS = frozenset(
    {
        "",
        "ai.onnx",
        "ai.onnx.ml",
        "ai.onnx.training",
        "ai.onnx.preview.training",
        "com.microsoft",
        "com.microsoft.nchwc",
        "com.ms.internal.nhwc",
    }
)
# Operators that make a tensor as large as a constant input says, and the place of that input.
_SIZED = {"ConstantOfShape": 0, "Expand": 1, "Tile": 1, "Resize": 3}
# Operators that move pixels without changing their values.
_PASSING = frozenset({"Cast", "Identity", "Transpose", "Resize", "Reshape", "Squeeze", "Unsqueeze", "Pad", "Clip"})
_MOST_STEPS = 24

Constant = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class PixelSteps:
    """Says what the first nodes of a graph do to each value of the image: value * factor + offset."""

    factor: float = 1.0
    """The largest one of all channels"""
    offset: float = 0.0
    """The one of the largest amount of all channels"""

    @property
    def takes_bytes(self) -> bool:
        """Whether the graph scales pixels of 0 to 255 itself, as a division by 255, 127.5 or 58 shows."""
        return abs(self.factor) <= _LARGEST_FACTOR_OF_BYTES

    @property
    def normalises(self) -> bool:
        """Whether the graph subtracts a mean itself."""
        return self.offset != 0.0


# A deviation of ImageNet is 0.22 to 0.23 of 255; pixels of 0 to 1 are never divided by more than that.
_LARGEST_FACTOR_OF_BYTES = 0.04


@dataclass(frozen=True, slots=True)
class GraphFacts:
    """Holds what the nodes of a graph show."""

    operators: frozenset[str] = frozenset()
    custom_operators: tuple[str, ...] = ()
    """Some of the operators of no standard, with their domains; engines know them only with a library of their own"""
    score_threshold: float | None = None
    """The score that boxes need in the NMS in the graph, where that is a constant; the highest of several"""
    pixels: PixelSteps = PixelSteps()
    """What the graph does to the pixels of its image"""

    @property
    def custom_text(self) -> str:
        """Text about operators of no standard, to follow an engine's refusal; empty without any."""
        if not self.custom_operators:
            return ""
        return (
            f"; its graph has operators of no standard ({', '.join(self.custom_operators)}), which engines know only "
            "with a library of their own: export it without them, for ONNX Runtime, with NMS by the standard operator"
        )


@dataclass(slots=True)
class _Node:
    operator: str = ""
    domain: str = ""
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    attributes: list[Span] = field(default_factory=list)


class GraphReader:
    """Reads the nodes of one graph and of the graphs in it. Raises ValueError for what no detector has."""

    def __init__(self, reader: MessageReader) -> None:
        self._reader = reader
        self._nodes: list[_Node] = []
        self._tensors: dict[str, Span] = {}

    def facts(self, graph: Span, image: str) -> GraphFacts:
        """Return what the nodes of ``graph`` show; ``image``: the name of the input that takes the image."""
        outer = self._read(graph, 1)
        self._require_bounded()
        custom = sorted({f"{one.domain}.{one.operator}" for one in self._nodes if one.domain not in _STANDARD_DOMAINS})
        return GraphFacts(
            frozenset(one.operator for one in self._nodes),
            tuple(custom[:_MOST_NAMED]),
            self._score_threshold(),
            self._pixel_steps(self._nodes[:outer], image),
        )

    def _read(self, graph: Span, depth: int) -> int:
        """Read the nodes and constants of ``graph``, then those of graphs in it; return how many it has itself."""
        if depth > DEEPEST_GRAPH:
            raise ValueError(f"it has more than {DEEPEST_GRAPH} graphs inside of each other; no detector has so many")
        inner: list[Span] = []
        for number, _, start, end in self._reader.fields(*graph):
            if number == _GRAPH_NODE:
                inner += self._add_node((start, end))
            elif number == _GRAPH_INITIALIZER:
                self._tensors[self._reader.text((start, end), _TENSOR_NAME)] = (start, end)
        own = len(self._nodes)
        for each in inner:
            self._read(each, depth + 1)
        return own

    def _add_node(self, span: Span) -> list[Span]:
        """Add a node, with its value where it is a constant; return the graphs in it."""
        if len(self._nodes) >= MOST_NODES:
            raise ValueError(f"its graph has more than {MOST_NODES:,} nodes; no detector has so many")
        node, inner = _Node(), []
        reader = self._reader
        for number, _, start, end in reader.fields(*span):
            if number == _NODE_INPUT:
                node.inputs.append(reader.string(start, end))
            elif number == _NODE_OUTPUT:
                node.outputs.append(reader.string(start, end))
            elif number == _NODE_OPERATOR:
                node.operator = reader.string(start, end)
            elif number == _NODE_DOMAIN:
                node.domain = reader.string(start, end)
            elif number == _NODE_ATTRIBUTE:
                node.attributes.append((start, end))
                inner += [
                    (low, high)
                    for kind, _, low, high in reader.fields(start, end)
                    if kind in (_ATTRIBUTE_GRAPH, _ATTRIBUTE_GRAPHS)
                ]
        if node.operator == "Constant" and node.outputs:
            for attribute in node.attributes:
                for tensor in reader.messages(attribute, _ATTRIBUTE_TENSOR):
                    self._tensors[node.outputs[0]] = tensor
        self._nodes.append(node)
        return inner

    def _constant(self, name: str) -> Constant | None:
        """Return the small constant ``name``, flat; None when it is not one, or its values are in another file."""
        span = self._tensors.get(name)
        return None if span is None else _small_tensor(self._reader, span)

    def _require_bounded(self) -> None:
        for node in self._nodes:
            place = _SIZED.get(node.operator)
            if place is None or len(node.inputs) <= place:
                continue
            sizes = self._constant(node.inputs[place])
            if sizes is None:
                continue
            elements = math.prod(float(size) for size in sizes if size > 0)
            if elements > MOST_ELEMENTS:
                raise ValueError(
                    f"its operator {node.operator} makes a tensor of {elements:.3g} numbers; "
                    f"at most {MOST_ELEMENTS:,} are allowed"
                )

    def _score_threshold(self) -> float | None:
        found: list[float] = []
        for node in self._nodes:
            if node.operator == "NonMaxSuppression" and len(node.inputs) > 4:
                value = self._constant(node.inputs[4])
                found += [] if value is None else value.tolist()
        return max((value for value in found if 0 < value < 1), default=None)

    def _pixel_steps(self, nodes: Sequence[_Node], image: str) -> PixelSteps:
        """Follow the image through the first nodes, as long as one node takes it and only moves or scales values."""
        factor, offset = np.ones(1), np.zeros(1)
        takers: dict[str, list[_Node]] = {}
        for node in nodes:
            for name in set(node.inputs):
                takers.setdefault(name, []).append(node)
        value = image
        for _ in range(_MOST_STEPS):
            following = takers.get(value, [])
            if len(following) != 1 or not following[0].outputs:
                break
            node = following[0]
            if node.operator not in _PASSING:
                by = self._other_operand(node, value)
                if by is None:
                    break
                factor, offset = _applied(node.operator, factor, offset, by)
            value = node.outputs[0]
        return PixelSteps(
            float(np.abs(factor).max()), float(offset[np.abs(offset).argmax()]) if np.isfinite(offset).all() else 0.0
        )

    def _other_operand(self, node: _Node, value: str) -> Constant | None:
        """Return the constant, one number or one per channel, with which ``node`` changes ``value``; else None."""
        if node.operator not in ("Div", "Mul", "Sub", "Add") or len(node.inputs) != 2:
            return None
        if node.operator in ("Div", "Sub") and node.inputs[0] != value:
            return None
        other = node.inputs[1] if node.inputs[0] == value else node.inputs[0]
        found = self._constant(other)
        if found is None or found.size not in (1, 3) or not np.isfinite(found).all():
            return None
        return None if node.operator == "Div" and not found.all() else found


def _applied(operator: str, factor: Constant, offset: Constant, by: Constant) -> tuple[Constant, Constant]:
    if operator == "Div":
        return factor / by, offset / by
    if operator == "Mul":
        return factor * by, offset * by
    return factor + 0 * by, offset - by if operator == "Sub" else offset + by


def _small_tensor(reader: MessageReader, span: Span) -> Constant | None:
    """Return the values of a TensorProto of at most some tens of values, flat; None for all others."""
    kind, raw = 0, None
    values: list[bytes | list[int]] = []
    for number, value, start, end in reader.fields(*span):
        if number == _TENSOR_TYPE:
            kind = value
        elif end - start > _LARGEST_CONSTANT_BYTES:
            return None
        elif number == _TENSOR_RAW:
            raw = reader.data[start:end]
    if raw is not None:
        return _from_bytes(raw, _RAW.get(kind))
    if kind not in _VALUES:
        return None
    field_number, dtype = _VALUES[kind]
    for number, value, start, end in reader.fields(*span):
        if number == field_number:
            values.append(_packed_or_single(reader, dtype, value, start, end))
    parts = [
        np.frombuffer(one, dtype).astype(np.float64) if isinstance(one, bytes) else np.array(one, np.float64)
        for one in values
    ]
    return np.concatenate(parts) if parts else None


def _packed_or_single(
    reader: MessageReader, dtype: type[np.generic], value: int, start: int, end: int
) -> bytes | list[int]:
    if dtype in (np.int32, np.int64):
        return [signed(each) for each in (reader.packed(start, end) if end > start else [value])]
    size = np.dtype(dtype).itemsize
    return reader.data[start : end - (end - start) % size]


def _from_bytes(raw: bytes, dtype: type[np.generic] | None) -> Constant | None:
    if dtype is None or not raw or len(raw) % np.dtype(dtype).itemsize:
        return None
    found: Constant = np.frombuffer(raw, np.dtype(dtype).newbyteorder("<")).astype(np.float64).ravel()
    return found
