"""Builds the part of a small detector that looks for rotated rectangles: the one of least area in a mask."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto

if TYPE_CHECKING:
    from standgale.testing.graphs.builder import GraphBuilder
    from standgale.testing.graphs.spec import GraphSpec

# Directions a rotated box is looked for in, every half degree of a quarter turn.
DIRECTIONS = np.radians(np.arange(-45, 45, 0.5))
# Pixels whose centres lie inside a rectangle end this much before it, on both sides together.
PIXELS_MISSING = 0.3


def rotated_columns(graph: GraphBuilder, spec: GraphSpec, mask: str, found: str) -> list[str]:
    """cx, cy, w, h and angle, (N, 3) each: the rectangle of least area; where nothing was found an empty one.

    The longer side is the width, so that angles are from -pi/4 to 3/4 pi as Ultralytics' are.
    """
    cos, sin = graph.constant(np.cos(DIRECTIONS)), graph.constant(np.sin(DIRECTIONS))
    x, y, there = _outline(graph, spec, mask)
    ends = []
    for one, two, sign in ((cos, sin, "Add"), (sin, cos, "Sub")):
        # Along a direction x cos + y sin, across it y cos - x sin.
        parts = (graph.op("Mul", y, two), graph.op("Mul", x, one))
        along = graph.op(sign, *parts)
        away = graph.op("Mul", graph.op("Sub", graph.constant(1.0), there), graph.constant(1e6))
        held = graph.op("Mul", along, there)
        ends.append(
            (
                graph.op("ReduceMin", graph.op("Add", held, away), axes=[2], keepdims=0),
                graph.op("ReduceMax", graph.op("Sub", held, away), axes=[2], keepdims=0),
            )
        )
    missing = graph.constant(PIXELS_MISSING)
    lengths = [graph.op("Add", graph.op("Sub", high, low), missing) for low, high in ends]
    best = graph.op("ArgMin", graph.op("Mul", *lengths), axis=2, keepdims=1)
    w, h, u, v = (
        _only(graph, graph.op("GatherElements", value, best, axis=2))
        for value in (*lengths, *(graph.op("Add", low, high) for low, high in ends))
    )
    direction = _only(graph, best)
    c, s, angle = (graph.op("Gather", values, direction) for values in (cos, sin, graph.constant(DIRECTIONS)))
    half = graph.op("Mul", found, graph.constant(0.5))
    cx = graph.op("Sub", graph.op("Mul", u, c), graph.op("Mul", v, s))
    cy = graph.op("Add", graph.op("Mul", u, s), graph.op("Mul", v, c))
    tall = graph.op("Cast", graph.op("Greater", h, w), to=TensorProto.FLOAT)
    turned = graph.op("Add", angle, graph.op("Mul", tall, graph.constant(np.pi / 2)))
    if spec.fault == "degrees":
        turned = graph.op("Mul", turned, graph.constant(180 / np.pi))
    sizes = [graph.op("Mul", found, graph.op(pick, w, h)) for pick in ("Max", "Min")]
    return [graph.op("Mul", half, cx), graph.op("Mul", half, cy), *sizes, turned]


def _outline(graph: GraphBuilder, spec: GraphSpec, mask: str) -> tuple[str, str, str]:
    """The first and the last pixel of each row of ``mask``: x and y of their centres, and 1 where the row has any.

    x and the last are (N, 3, 2 H, 1), y is (2 H, 1).
    """
    places = graph.constant(np.arange(spec.width) + 0.5)
    there = graph.op("ReduceMax", mask, axes=[3], keepdims=0)
    outside = graph.op("Mul", graph.op("Sub", graph.constant(1.0), mask), graph.constant(1e6))
    pixels = graph.op("Mul", mask, places)
    first = graph.op("ReduceMin", graph.op("Add", pixels, outside), axes=[3], keepdims=0)
    last = graph.op("ReduceMax", pixels, axes=[3], keepdims=0)
    last_axis = graph.constant([3], np.int64)
    x, twice = (
        graph.op("Unsqueeze", graph.op("Concat", *both, axis=2), last_axis) for both in ((first, last), (there, there))
    )
    y = np.tile(np.arange(spec.height) + 0.5, 2)[:, None]
    return x, graph.constant(y), twice


def _only(graph: GraphBuilder, value: str) -> str:
    """(N, 3, 1) → (N, 3)."""
    return graph.op("Squeeze", value, graph.constant([2], np.int64))
