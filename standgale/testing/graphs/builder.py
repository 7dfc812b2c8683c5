"""Adds nodes and constants to an ONNX graph, and makes the rows of boxes and scores that most layouts have."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from standgale.testing.graphs.spec import SCORES, GraphSpec


class GraphBuilder:
    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, values: object, kind: type = np.float32) -> str:
        name = f"k{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(values, kind), name))
        return name

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
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


def score_table(graph: GraphBuilder, spec: GraphSpec, found: str) -> str:
    """(N, 3, classes): row i is the object of colour i, its score in column i."""
    classes = 4 if spec.fault == "extra_class" else 3
    diagonal = np.zeros((3, classes), np.float32)
    if spec.fault != "zero_scores":
        diagonal[range(3), range(3)] = SCORES
    return graph.op("Mul", graph.op("Unsqueeze", found, graph.constant([2], np.int64)), graph.constant(diagonal))


def stack_rows(graph: GraphBuilder, columns: list[str], scores: str) -> str:
    parts = [graph.op("Unsqueeze", column, graph.constant([2], np.int64)) for column in columns]
    return graph.op("Concat", *parts, scores, axis=2)


def stack_columns(graph: GraphBuilder, columns: list[str]) -> str:
    parts = [graph.op("Unsqueeze", column, graph.constant([2], np.int64)) for column in columns]
    return graph.op("Concat", *parts, axis=2)


def pad_rows(graph: GraphBuilder, rows: str, count: int) -> str:
    """(N, 3, C) → (N, count, C): all other rows are empty."""
    return graph.op("Pad", rows, graph.constant([0, 0, 0, 0, count - 3, 0], np.int64))


def centre_columns(sides: list[tuple[str, str]]) -> list[str]:
    (cx, w), (cy, h) = sides
    return [cx, cy, w, h]


def corner_columns(graph: GraphBuilder, sides: list[tuple[str, str]], found: str) -> list[str]:
    """x1, y1, x2, y2, 0 where nothing was found."""
    half = graph.constant(0.5)
    ends = []
    for kind in ("Sub", "Add"):
        for centre, side in sides:
            ends.append(graph.op("Mul", found, graph.op(kind, centre, graph.op("Mul", half, side))))
    return ends


def confidences(graph: GraphBuilder, spec: GraphSpec, found: str) -> str:
    """(N, 3): the score of each colour."""
    zero = spec.fault == "zero_scores"
    return graph.op("Mul", found, graph.constant([0.0] * 3 if zero else SCORES))


def class_numbers(graph: GraphBuilder, spec: GraphSpec, found: str) -> str:
    """(N, 3): the class number of each colour."""
    numbers = [0.0, 1.0, 7.0 if spec.fault == "extra_class" else 2.0]
    return graph.op("Add", graph.op("Mul", found, graph.constant(0.0)), graph.constant(numbers))


def as_float(graph: GraphBuilder, value: str) -> str:
    return graph.op("Cast", value, to=TensorProto.FLOAT)
