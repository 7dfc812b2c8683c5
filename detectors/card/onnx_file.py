"""Reads an ONNX file's metadata, opset, inputs and outputs without loading the model."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, TypeVar

from detectors.card.model_formats import foreign_format
from detectors.card.onnx_graph import GraphFacts, GraphReader
from detectors.card.protobuf import MessageReader, Span, signed
from detectors.errors import ModelLoadError
from infra.regular_files import open_regular

# Field numbers of the ONNX protobuf messages that are read here.
_MODEL_GRAPH, _MODEL_OPSET, _MODEL_METADATA = 7, 8, 14
_GRAPH_INITIALIZER, _GRAPH_INPUT, _GRAPH_OUTPUT = 5, 11, 12
_INITIALIZER_NAME, _INITIALIZER_EXTERNAL = 8, 13
_ELEMENT_TYPES = {
    1: "float32",
    2: "uint8",
    3: "int8",
    5: "int16",
    6: "int32",
    7: "int64",
    9: "bool",
    10: "float16",
    11: "float64",
    16: "bfloat16",
}
# Exporters write the version of the format first.
_FIRST_BYTE = b"\x08"
LARGEST_FILE_BYTES = 2 << 30
"""The largest message of protobuf; models with more keep their weights in separate files."""
_MOST_AXES, _MOST_TENSORS, _LONGEST_NAME = 16, 1_000, 200

_Part = TypeVar("_Part")


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """Describes an input or output as declared."""

    name: str
    type: str
    shape: tuple[int | None, ...]
    """None for an axis that is not fixed; empty when no shape is declared"""


@dataclass(frozen=True, slots=True)
class OnnxFile:
    """Holds what an ONNX file states about itself."""

    opset: int
    """Of the standard operators, 0 when not stated"""
    metadata: Mapping[str, str]
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    external_data: tuple[str, ...] = ()
    """The files next to it that have weights"""
    graph: GraphFacts = field(default_factory=GraphFacts)
    """What its nodes show"""


def read_onnx_file(path: Path) -> OnnxFile:
    """Read what the file at ``path`` states about itself, in bounded time and memory.

    Raises ModelLoadError when it is not readable ONNX, is larger than any detector, or has weights outside its folder.
    """
    found = _read(path, _model)
    _require_beside(path, found.external_data)
    return found


def external_data_of(path: Path) -> tuple[str, ...]:
    """Return what :func:`read_onnx_file` finds as ``external_data``, without reading the nodes, which takes longest.

    Raises ModelLoadError when the file is not readable ONNX, is too large, or has weights outside its folder.
    """
    names = _read(path, lambda reader: _locations(reader, reader.messages(_graph(reader), _GRAPH_INITIALIZER)))
    _require_beside(path, names)
    return names


def _read(path: Path, part: Callable[[MessageReader], _Part]) -> _Part:
    """Return the ``part`` of the file at ``path``. Raises ModelLoadError when it is not readable ONNX."""
    try:
        with open_regular(path) as file:
            _require_onnx(path, file)
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return part(MessageReader(data))
    except OSError as error:
        raise ModelLoadError(f"model file {path} cannot be read ({error.strerror}); give an ONNX file") from error
    except (ValueError, IndexError) as error:
        raise ModelLoadError(f"{path} is not an ONNX file, or is damaged ({error}); export it again") from error


def _require_onnx(path: Path, file: BinaryIO) -> None:
    """Raise ModelLoadError for a model of another format, which the first bytes or the name show, or one too large."""
    first = file.read(16)
    other = foreign_format(path, first)
    if other is not None and not first.startswith(_FIRST_BYTE):
        raise ModelLoadError(other)
    size = file.seek(0, os.SEEK_END)
    if size > LARGEST_FILE_BYTES:
        raise ModelLoadError(
            f"{path} has {size:,} bytes; an ONNX file has at most {LARGEST_FILE_BYTES:,}, so export it with its "
            "weights in a separate file (external data)"
        )


def _require_beside(path: Path, names: Iterable[str]) -> None:
    """Raise ModelLoadError when weights called ``names`` are anywhere but in the folder of the file at ``path``."""
    for name in names:
        plain = name not in ("", ".", "..") and not any(each in name for each in "/\\\0:")
        if not plain or len(name) > _LONGEST_NAME or (path.parent / name).is_symlink():
            raise ModelLoadError(
                f"{path} keeps weights in {name[:_LONGEST_NAME]!r}, which is not a file in its own folder; "
                "such a file may read what it should not, so export the model again with its weights beside it"
            )


def _model(reader: MessageReader) -> OnnxFile:
    opset = 0
    metadata: dict[str, str] = {}
    for number, _, start, end in reader.fields(0, len(reader.data)):
        if number == _MODEL_OPSET:
            domain = reader.text((start, end), 1)
            if domain in ("", "ai.onnx"):
                opset = signed(reader.number((start, end), 2))
        elif number == _MODEL_METADATA:
            metadata[reader.text((start, end), 1)] = reader.text((start, end), 2)
    graph = _graph(reader)
    initializers: list[Span] = []
    inputs: list[TensorInfo] = []
    outputs: list[TensorInfo] = []
    for number, _, start, end in reader.fields(*graph):
        if number == _GRAPH_INPUT:
            inputs.append(_tensor(reader, (start, end)))
        elif number == _GRAPH_OUTPUT:
            outputs.append(_tensor(reader, (start, end)))
        elif number == _GRAPH_INITIALIZER:
            initializers.append((start, end))
    # Old exporters list the weights among the inputs.
    constants = {reader.text(span, _INITIALIZER_NAME) for span in initializers}
    fed = tuple(one for one in inputs if one.name not in constants)
    if not fed or not outputs:
        raise ValueError("its graph has no input or no output")
    if max(len(fed), len(outputs)) > _MOST_TENSORS:
        raise ValueError(f"it has more than {_MOST_TENSORS} inputs or outputs")
    image = next((one.name for one in fed if len(one.shape) == 4), fed[0].name)
    facts = GraphReader(reader).facts(graph, image)
    return OnnxFile(opset, metadata, fed, tuple(outputs), _locations(reader, initializers), facts)


def _graph(reader: MessageReader) -> Span:
    found = reader.messages((0, len(reader.data)), _MODEL_GRAPH)
    if not found:
        raise ValueError("it holds no graph")
    return found[-1]


def _locations(reader: MessageReader, tensors: Iterable[Span]) -> tuple[str, ...]:
    """Return the files that have the values of some of ``tensors`` (TensorProto), in order; the others have them."""
    entries = (entry for span in tensors for entry in reader.messages(span, _INITIALIZER_EXTERNAL))
    return tuple(sorted({reader.text(entry, 2) for entry in entries if reader.text(entry, 1) == "location"}))


def _tensor(reader: MessageReader, span: Span) -> TensorInfo:
    """Read a ValueInfoProto: name, and a type that has an element type and a shape of dimensions."""
    name = reader.text(span, 1)
    kind, shape = 0, []
    for type_at in reader.messages(span, 2):
        for tensor_at in reader.messages(type_at, 1):
            kind = signed(reader.number(tensor_at, 1))
            for shape_at in reader.messages(tensor_at, 2):
                shape = [_side(signed(reader.number(axis, 1))) for axis in reader.messages(shape_at, 1)]
    if len(shape) > _MOST_AXES:
        raise ValueError(f"{name[:_LONGEST_NAME]} has {len(shape)} axes")
    wrong = next((side for side in shape if side is not None and side < 0), None)
    if wrong is not None:
        raise ValueError(f"an axis of {name[:_LONGEST_NAME]} has the length {wrong}")
    return TensorInfo(name, _ELEMENT_TYPES.get(kind, f"type {kind}"), tuple(shape))


def _side(stated: int) -> int | None:
    """Return the length of an axis; None for 0 and -1, which exporters write for one that is not fixed."""
    return None if stated in (0, -1) else stated
