"""A float32 graph in half precision, for libraries that compute in the types of the graph and in no others."""

from __future__ import annotations

import logging
from pathlib import Path

import onnx

from detectors.errors import ModelLoadError

_HEAVY = frozenset({"Conv", "ConvTranspose", "MatMul", "Gemm", "Einsum", "Attention"})
_KEPT = ["Resize", "TopK", "NonMaxSuppression", "Range", "RoiAlign", "GridSample", "CumSum"]
"""Operations that know no half precision everywhere, or whose numbers are places, which halves are too coarse for."""


def in_half_precision(path: Path) -> onnx.ModelProto:
    """The model at ``path``, its inputs and outputs as they are, computing in float16 where that is worth it.

    What comes after the last convolution or matrix product stays in float32: it costs nothing, and it makes boxes in
    pixels, of which float16 keeps only half a pixel beyond 512. Raises ModelLoadError when it cannot be converted.
    """
    # A part of ONNX Runtime that needs nothing but onnx; it is slow to import.
    from onnxruntime.transformers.float16 import convert_float_to_float16  # noqa: PLC0415

    model = onnx.load(path)
    for index, node in enumerate(model.graph.node):
        node.name = f"node{index}"
    # It tells about every weight that is too small for half precision.
    logging.getLogger("onnxruntime.transformers.float16").setLevel(logging.ERROR)
    try:
        made: onnx.ModelProto = convert_float_to_float16(
            model, keep_io_types=True, op_block_list=_KEPT, node_block_list=_last_nodes(model.graph)
        )
    except Exception as error:  # what the converter raises is not documented
        raise ModelLoadError(
            f"{path} cannot be brought into half precision ({error}); use precision f32, or export it in half precision"
        ) from error
    _without_doubles(made.graph)
    return made


def _last_nodes(graph: onnx.GraphProto) -> list[str]:
    """The names of the nodes behind which no heavy operation comes, heavy ones left out."""
    feeds_heavy: set[str] = set()
    last: list[str] = []
    for node in reversed(graph.node):
        heavy = node.op_type in _HEAVY
        if heavy or any(output in feeds_heavy for output in node.output):
            feeds_heavy.update(node.input)
        if not heavy and not any(output in feeds_heavy for output in node.output):
            last.append(node.name)
    return last


def _without_doubles(graph: onnx.GraphProto) -> None:
    """Drop nodes that make what a node before them made: the converter casts a value once for each of its readers."""
    known: set[str] = set()
    kept: list[onnx.NodeProto] = []
    for node in graph.node:
        if not known.issuperset(node.output):
            node.name = f"node{len(kept)}"
            kept.append(node)
        known.update(node.output)
    del graph.node[:]
    graph.node.extend(kept)
