"""Reads an ONNX file's metadata, opset, inputs and outputs without loading the model."""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from detectors.errors import ModelLoadError

# Field numbers of the ONNX protobuf messages that are read here.
_MODEL_GRAPH, _MODEL_OPSET, _MODEL_METADATA = 7, 8, 14
_GRAPH_INITIALIZER, _GRAPH_INPUT, _GRAPH_OUTPUT = 5, 11, 12
_INITIALIZER_NAME, _INITIALIZER_EXTERNAL = 8, 13
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_ELEMENT_TYPES = {1: "float32", 2: "uint8", 3: "int8", 6: "int32", 7: "int64", 9: "bool", 10: "float16", 11: "float64"}

Field = tuple[int, int, int, int]
"""Number, value (of a varint, else 0), start and end of the payload in the file."""


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


def read_onnx_file(path: Path) -> OnnxFile:
    """Read what the file at ``path`` states about itself. Raises ModelLoadError when it is not readable ONNX."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _model(data)
    except OSError as error:
        raise ModelLoadError(f"model file {path} cannot be read ({error.strerror}); give an ONNX file") from error
    except (ValueError, IndexError) as error:
        raise ModelLoadError(f"{path} is not an ONNX file, or is damaged ({error}); export it again") from error


def _model(data: mmap.mmap) -> OnnxFile:
    opset, graph = 0, None
    metadata: dict[str, str] = {}
    for number, _, start, end in _fields(data, 0, len(data)):
        if number == _MODEL_GRAPH:
            graph = (start, end)
        elif number == _MODEL_OPSET:
            domain = _text(data, start, end, 1)
            if domain in ("", "ai.onnx"):
                opset = _number(data, start, end, 2)
        elif number == _MODEL_METADATA:
            metadata[_text(data, start, end, 1)] = _text(data, start, end, 2)
    if graph is None:
        raise ValueError("it holds no graph")
    constants: set[str] = set()
    external: set[str] = set()
    inputs: list[TensorInfo] = []
    outputs: list[TensorInfo] = []
    for number, _, start, end in _fields(data, *graph):
        if number == _GRAPH_INPUT:
            inputs.append(_tensor(data, start, end))
        elif number == _GRAPH_OUTPUT:
            outputs.append(_tensor(data, start, end))
        elif number == _GRAPH_INITIALIZER:
            constants.add(_text(data, start, end, _INITIALIZER_NAME))
            external.update(_locations(data, start, end))
    # Old exporters list the weights among the inputs.
    fed = tuple(one for one in inputs if one.name not in constants)
    if not fed or not outputs:
        raise ValueError("its graph has no input or no output")
    return OnnxFile(opset, metadata, fed, tuple(outputs), tuple(sorted(external)))


def _locations(data: mmap.mmap, start: int, end: int) -> list[str]:
    """Return the file that has the values of a TensorProto, as a list of one; empty when the message has them."""
    entries = _messages(data, start, end, _INITIALIZER_EXTERNAL)
    return [_text(data, *entry, 2) for entry in entries if _text(data, *entry, 1) == "location"]


def _tensor(data: mmap.mmap, start: int, end: int) -> TensorInfo:
    """Read a ValueInfoProto: name, and a type that has an element type and a shape of dimensions."""
    name = _text(data, start, end, 1)
    kind, shape = 0, []
    for type_at in _messages(data, start, end, 2):
        for tensor_at in _messages(data, *type_at, 1):
            kind = _number(data, *tensor_at, 1)
            for shape_at in _messages(data, *tensor_at, 2):
                shape = [_number(data, *axis, 1) or None for axis in _messages(data, *shape_at, 1)]
    return TensorInfo(name, _ELEMENT_TYPES.get(kind, f"type {kind}"), tuple(shape))


def _messages(data: mmap.mmap, start: int, end: int, wanted: int) -> list[tuple[int, int]]:
    return [(low, high) for number, _, low, high in _fields(data, start, end) if number == wanted]


def _text(data: mmap.mmap, start: int, end: int, wanted: int) -> str:
    found = _messages(data, start, end, wanted)
    return data[slice(*found[-1])].decode() if found else ""


def _number(data: mmap.mmap, start: int, end: int, wanted: int) -> int:
    return next((value for number, value, _, _ in _fields(data, start, end) if number == wanted), 0)


def _fields(data: mmap.mmap, start: int, end: int) -> Iterator[Field]:
    """Yield the fields of the protobuf message ``data[start:end]``; raises ValueError or IndexError for other data."""
    at = start
    while at < end:
        tag, at = _varint(data, at)
        number, wire = tag >> 3, tag & 7
        value, size = 0, 0
        if wire == _VARINT:
            value, at = _varint(data, at)
        elif wire == _BYTES:
            size, at = _varint(data, at)
        elif wire in (_FIXED64, _FIXED32):
            size = 8 if wire == _FIXED64 else 4
        else:
            raise ValueError(f"unknown wire type {wire} at byte {at}")
        if number == 0 or at + size > end:
            raise ValueError(f"a field at byte {at} leaves its message")
        yield number, value, at, at + size
        at += size


def _varint(data: mmap.mmap, at: int) -> tuple[int, int]:
    """Return the number that starts at ``at``, 7 bits a byte, and the position after it."""
    value = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError(f"a number at byte {at} does not end")
