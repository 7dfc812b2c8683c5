"""Converts a float32 graph to half precision, for libraries that compute only in the types of the graph."""

from __future__ import annotations

import logging
from pathlib import Path

import onnx

from detectors.errors import ModelLoadError

_HEAVY = frozenset({"Conv", "ConvTranspose", "MatMul", "Gemm", "Einsum", "Attention"})
_KEPT = ["Resize", "TopK", "NonMaxSuppression", "Range", "RoiAlign", "GridSample", "CumSum"]
"""Operations that not all libraries support in half precision, or whose numbers are positions, which need float32."""


def convert_to_float16(path: Path) -> onnx.ModelProto:
    """Return the model at ``path`` with the same inputs and outputs, computing mostly in float16.

    The operations after the last convolution or matrix product stay in float32: they cost little, and they compute
    boxes in pixels, which float16 rounds to half a pixel beyond 512. Raises ModelLoadError when it cannot be converted.
    """
    # This part of ONNX Runtime needs only onnx; it is slow to import.
    from onnxruntime.transformers.float16 import convert_float_to_float16  # noqa: PLC0415

    model = onnx.load(path)
    for index, node in enumerate(model.graph.node):
        node.name = f"node{index}"
    # It logs every weight that is too small for half precision.
    logging.getLogger("onnxruntime.transformers.float16").setLevel(logging.ERROR)
    try:
        made: onnx.ModelProto = convert_float_to_float16(
            model, keep_io_types=True, op_block_list=_KEPT, node_block_list=_last_nodes(model.graph)
        )
    except Exception as error:  # what the converter raises is not documented
        raise ModelLoadError(
            f"{path} cannot be converted to half precision ({error}); use precision f32, or export it in half precision"
        ) from error
    _remove_repeated_nodes(made.graph)
    _remove_rounding(made.graph)
    return made


def _last_nodes(graph: onnx.GraphProto) -> list[str]:
    """Return the names of the nodes after the last heavy operation."""
    feeds_heavy: set[str] = set()
    last: list[str] = []
    for node in reversed(graph.node):
        heavy = node.op_type in _HEAVY
        if heavy or any(output in feeds_heavy for output in node.output):
            feeds_heavy.update(node.input)
        if not heavy and not any(output in feeds_heavy for output in node.output):
            last.append(node.name)
    return last


def _remove_repeated_nodes(graph: onnx.GraphProto) -> None:
    """Remove nodes that repeat the work of an earlier node: the converter casts a value once for each reader."""
    known: set[str] = set()
    kept: list[onnx.NodeProto] = []
    for node in graph.node:
        if not known.issuperset(node.output):
            node.name = f"node{len(kept)}"
            kept.append(node)
        known.update(node.output)
    del graph.node[:]
    graph.node.extend(kept)


def _remove_rounding(graph: onnx.GraphProto) -> None:
    """Pass values from one float32 node to another unchanged: the converter rounds them to float16 in between."""
    rounded: dict[str, str] = {}
    exact: dict[str, str] = {}
    for node in graph.node:
        kind = next((one.i for one in node.attribute if one.name == "to"), None) if node.op_type == "Cast" else None
        if kind == onnx.TensorProto.FLOAT16:
            rounded[node.output[0]] = node.input[0]
        elif kind == onnx.TensorProto.FLOAT and node.input[0] in rounded:
            exact[node.output[0]] = rounded[node.input[0]]
    outputs = {one.name for one in graph.output}
    for node in graph.node:
        if node.op_type == "Cast" and node.output[0] in exact and node.output[0] in outputs:
            node.input[0] = exact[node.output[0]]
        node.input[:] = [exact.get(name, name) for name in node.input]
    kept = _needed(graph, outputs)
    del graph.node[:]
    graph.node.extend(kept)


def _needed(graph: onnx.GraphProto, outputs: set[str]) -> list[onnx.NodeProto]:
    """Return the nodes on which outputs depend, each after those it needs; the converter puts casts anywhere."""
    makers = {output: index for index, node in enumerate(graph.node) for output in node.output}
    wanted = [makers[name] for name in outputs if name in makers]
    found: set[int] = set()
    while wanted:
        index = wanted.pop()
        if index not in found:
            found.add(index)
            wanted.extend(makers[name] for name in _reads(graph.node[index]) if name in makers)
    ordered: list[onnx.NodeProto] = []
    waiting = sorted(found)
    made: set[str] = set()
    while waiting:
        ready = [at for at in waiting if all(name in made or name not in makers for name in _reads(graph.node[at]))]
        ordered.extend(graph.node[at] for at in ready)
        made.update(name for at in ready for name in graph.node[at].output)
        waiting = [at for at in waiting if at not in set(ready)]
    return ordered


def _reads(node: onnx.NodeProto) -> set[str]:
    """Return the values that ``node`` and the graphs inside it read."""
    inner = (each for one in node.attribute for graph in (one.g, *one.graphs) for each in graph.node)
    return {*node.input, *(name for each in inner for name in _reads(each))}
