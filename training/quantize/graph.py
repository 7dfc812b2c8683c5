"""Writes the INT8 graph of a model: chooses which layers are quantized, and the form that each engine needs."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from infra.extras import install_extra
from training.quantize.errors import QuantizeError

if TYPE_CHECKING:
    import onnx

Target = Literal["cpu", "every"]
"""cpu: unsigned numbers throughout the graph, which ONNX Runtime and OpenVINO compute fast and TensorRT refuses; every:
signed numbers around zero before each layer with weights, as TensorRT wants them and all engines read. Behind a ReLU
these waste a bit, and ONNX Runtime computes most of them in floating point."""

Feed = Mapping[str, npt.NDArray[np.generic]]

_WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
# Older ones have no scale per channel.
_LEAST_OPSET = 13


@dataclass(frozen=True, slots=True)
class Plan:
    """Says which part of a model stays in floating point: the names of its nodes, and a description."""

    words: str
    kept: frozenset[str]


_WORDS = (
    "what follows the last layers stays in float",
    "the last layers stay in float",
    "the last two layers stay in float",
)


def prepare_graph(source: Path, out: Path) -> onnx.ModelProto:
    """Return the model at ``source`` with all weights inside and every node named; it is also written to ``out``.

    Raises QuantizeError when it is quantized already, in half precision, too old, or cannot be read.
    """
    try:
        import onnx  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise QuantizeError(f"to quantize a model the library onnx is needed; {install_extra('quantize')}") from error
    try:
        model = onnx.load(source)
    except Exception as error:  # protobuf's DecodeError and onnx's own errors share no base class below Exception
        raise QuantizeError(f"{source} cannot be read ({error}); export it again") from error
    if not any(node.op_type in _WEIGHTED for node in model.graph.node):
        raise QuantizeError(f"{source} has no layer that could be quantized ({', '.join(_WEIGHTED)})")
    opset = max((one.version for one in model.opset_import if one.domain in ("", "ai.onnx")), default=0)
    if opset < _LEAST_OPSET:
        raise QuantizeError(f"{source} is of opset {opset}; export it with opset {_LEAST_OPSET} or later")
    if any("QuantizeLinear" in node.op_type for node in model.graph.node):
        raise QuantizeError(f"{source} is quantized already; give the card of the f32 model it was made from")
    if any(one.data_type == onnx.TensorProto.FLOAT16 for one in model.graph.initializer):
        raise QuantizeError(f"{source} is in half precision; quantize the f32 export")
    for number, node in enumerate(model.graph.node):
        node.name = f"{number}:{node.name or node.op_type}"
    try:
        onnx.save(model, out)
    except ValueError as error:
        raise QuantizeError(f"{source} is too large to be quantized (more than 2 GB): {error}") from error
    return model


def outside_weights(source: Path) -> set[str]:
    """Return the names of further files in which the model at ``source`` keeps weights."""
    import onnx  # noqa: PLC0415 - an extra, and prepare_graph() has imported it
    from onnx.external_data_helper import ExternalDataInfo, uses_external_data  # noqa: PLC0415

    weights = onnx.load(source, load_external_data=False).graph.initializer
    return {ExternalDataInfo(one).location for one in weights if uses_external_data(one)}


def plans(model: onnx.ModelProto, target: Target) -> list[Plan]:
    """Return the different ways to quantize ``model``, the one that quantizes most first.

    Detection heads mix numbers of unlike ranges (pixels and scores in one tensor), which one scale cannot serve.
    """
    depths = _depths(model)
    nodes = {node.name for node in model.graph.node if target == "cpu" or node.op_type in _WEIGHTED}
    found = [Plan("every layer is quantized", frozenset())]
    for depth, words in enumerate(_WORDS):
        kept = frozenset(name for name, at in depths.items() if at <= depth and name in nodes)
        if kept not in [one.kept for one in found] and kept != nodes:
            found.append(Plan(words, kept))
    return found


def _depths(model: onnx.ModelProto) -> dict[str, int]:
    """Return for each node the least number of layers with weights from it to an output, itself included."""
    producers = {output: node for node in model.graph.node for output in node.output}
    found: dict[str, int] = {}
    waiting: deque[tuple[int, onnx.NodeProto]] = deque()

    def approach(tensors: Iterable[str], depth: int) -> None:
        for node in (producers[tensor] for tensor in tensors if tensor in producers):
            # Nearest first: what is reached without passing a layer goes to the front.
            if node.op_type in _WEIGHTED:
                waiting.append((depth + 1, node))
            else:
                waiting.appendleft((depth, node))

    approach([one.name for one in model.graph.output], 0)
    while waiting:
        depth, node = waiting.popleft()
        if node.name not in found:
            found[node.name] = depth
            approach(node.input, depth)
    return found


def write_quantized(source: Path, out: Path, feeds: Iterator[Feed], target: Target, kept: Collection[str]) -> None:
    """Quantize the model at ``source`` (see :func:`prepare_graph`) but its nodes ``kept``, and write it to ``out``.

    ``feeds``: all inputs of the model, batch by batch, from which the ranges of its numbers are taken. A file
    ``source``-inferred may exist for some time. Raises QuantizeError when ONNX Runtime cannot do it.
    """
    try:
        from onnxruntime import quantization  # noqa: PLC0415 - only where it is installed
    except ImportError as error:
        raise QuantizeError(
            f"to quantize a model ONNX Runtime is needed; {install_extra('cpu', 'quantize')}"
        ) from error

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]  # the library publishes no types
        """Returns ``feeds`` one by one, in the form that the library needs."""

        def get_next(self) -> dict[str, npt.NDArray[np.generic]] | None:
            feed = next(feeds, None)
            return None if feed is None else dict(feed)

    try:
        with _without_advice():
            quantization.quantize_static(
                str(source),
                str(out),
                Reader(),
                quant_format=quantization.QuantFormat.QDQ,
                per_channel=True,
                weight_type=quantization.QuantType.QInt8,
                nodes_to_exclude=sorted(kept),
                **_options(target, quantization.QuantType),
            )
    except Exception as error:  # ONNX Runtime's and onnx's errors share no base class below Exception
        raise QuantizeError(f"ONNX Runtime cannot quantize the model: {error}") from error


def _options(target: Target, types: Any) -> dict[str, Any]:
    """Return the options that ``target`` needs besides scales per channel.

    TensorRT takes signed numbers around zero, before a layer rather than behind it, and no quantized bias; ONNX
    Runtime, which does want one, makes it when it loads the model.
    """
    if target == "cpu":
        return {"activation_type": types.QUInt8, "extra_options": {"WeightSymmetric": True}}
    return {
        "activation_type": types.QInt8,
        "op_types_to_quantize": list(_WEIGHTED),
        "extra_options": {
            "ActivationSymmetric": True,
            "WeightSymmetric": True,
            "QuantizeBias": False,
            "MatMulConstBOnly": True,
            "OpTypesToExcludeOutputQuantization": list(_WEIGHTED),
        },
    }


@contextmanager
def _without_advice() -> Iterator[None]:
    """Suppress the advice of the library, in the root logger, to run its pre-processing, which is not needed here."""

    def passes(record: logging.LogRecord) -> bool:
        return "pre-processing" not in record.getMessage()

    root = logging.getLogger()
    root.addFilter(passes)
    try:
        yield
    finally:
        root.removeFilter(passes)
