"""Adds preprocessing to a graph, so that it takes uint8 tiles: a quarter of the bytes to copy to a GPU."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from detectors.card.card import InputCard
from detectors.engines.port import find_image_input, image_axes
from detectors.errors import ModelLoadError

_TYPES = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE, TensorProto.UINT8)
_OLDEST_OPSET = 7
"""In older opsets arithmetic does not broadcast."""
_PREFIX = "standgale"
_BATCH_NAME = "tiles"


@dataclass(frozen=True, slots=True)
class ImageModel:
    """Holds a model whose image input is uint8 (N, height, width, 3) BGR."""

    data: bytes
    """The ONNX file's bytes, without weights in separate files."""
    folder: Path
    """The folder of separate weight files."""
    image_input: str
    """The name of the image input."""
    batch: int | None
    """Tiles per run; None where any number fits."""
    opset: int
    """The opset of the standard operators."""


def with_image_input(
    path: Path, card: InputCard, constants: Collection[str] = (), model: onnx.ModelProto | None = None
) -> ImageModel:
    """Return the model at ``path`` for uint8 tiles: its new first nodes convert them to the input of ``card``.

    ``model``: the graph to use instead of the file's, changed here; separate weight files are still in the folder of
    ``path``. ``constants``: the names of the inputs other than the image.

    (pixel * scale - mean) / std per channel is computed in float32, in the same steps as other engines do, then
    converted to the input's type. Other inputs, opset, metadata, separate weights and an open batch axis do not change.
    Raises ModelLoadError when the file is no such model.
    """
    model = model or _read(path)
    opset = next((each.version for each in model.opset_import if each.domain in ("", "ai.onnx")), 0)
    if opset < _OLDEST_OPSET:
        raise ModelLoadError(f"{path} has opset {opset}; export it with opset {_OLDEST_OPSET} or later")
    graph = model.graph
    held = {one.name for one in graph.initializer} | {one.values.name for one in graph.sparse_initializer}
    # Old exporters list the weights among the inputs.
    inputs = [one for one in graph.input if one.name not in held]
    image = inputs[find_image_input([{one.name} for one in inputs], dict.fromkeys(constants, np.empty(0)), path)]
    tensor = image.type.tensor_type
    if tensor.elem_type not in _TYPES:
        kind = TensorProto.DataType.Name(tensor.elem_type).lower()
        raise ModelLoadError(f"{path} takes {image.name} as {kind}; export it with a float32 or uint8 input")
    sizes = [dim.dim_value if dim.HasField("dim_value") else None for dim in tensor.shape.dim]
    axes = image_axes(sizes, card, path)
    name = _unused(f"{_PREFIX}_pixels", graph)
    nodes = _conversion(name, image.name, card, tensor.elem_type, axes.channels_last, graph)
    given = tensor.shape.dim[0]
    batch = given.dim_value if given.HasField("dim_value") else given.dim_param or _BATCH_NAME
    replaced = helper.make_tensor_value_info(name, TensorProto.UINT8, [batch, card.height, card.width, 3])
    place = next(index for index, one in enumerate(graph.input) if one.name == image.name)
    graph.input[place].CopyFrom(replaced)
    for node in reversed(nodes):
        graph.node.insert(0, node)
    return ImageModel(model.SerializeToString(), path.parent, name, sizes[0], opset)


def _read(path: Path) -> onnx.ModelProto:
    try:
        return onnx.load(path, load_external_data=False)
    except OSError as error:
        raise ModelLoadError(f"model file {path} cannot be read ({error.strerror}); give an ONNX file") from error
    except Exception as error:  # protobuf's DecodeError and onnx's own errors share no base class below Exception
        raise ModelLoadError(f"{path} is not an ONNX file, or is damaged ({error}); export it again") from error


def _conversion(
    source: str, target: str, card: InputCard, kind: int, channels_last: bool, graph: onnx.GraphProto
) -> list[onnx.NodeProto]:
    """Return nodes from ``source`` (uint8 NHWC BGR) to ``target`` (``kind``); their constants go into ``graph``.

    The target is NCHW, or NHWC with ``channels_last``.

    The conversion to float comes first, because TensorRT supports no other operation on uint8.
    """
    nodes: list[onnx.NodeProto] = []

    def step(operation: str, *others: str, **attributes: int | list[int]) -> None:
        number = len(nodes)
        value = nodes[-1].output[0] if nodes else source
        made = _unused(f"{_PREFIX}_step{number}", graph)
        node = helper.make_node(operation, [value, *others], [made], f"{_PREFIX}/{operation}{number}")
        node.attribute.extend(helper.make_attribute(key, one) for key, one in attributes.items())
        nodes.append(node)

    step("Cast", to=TensorProto.FLOAT)
    step("Transpose", perm=[0, 3, 1, 2])
    if card.channels == "rgb":
        step("Gather", _constant(np.array([2, 1, 0], np.int64), "turned", graph), axis=1)
    if card.scale != 1:
        step("Mul", _constant(np.array(card.scale, np.float32), "scale", graph))
    if any(card.mean):
        step("Sub", _constant(_by_channel(card.mean), "mean", graph))
    if any(std != 1 for std in card.std):
        step("Div", _constant(_by_channel(card.std), "std", graph))
    if channels_last:
        step("Transpose", perm=[0, 2, 3, 1])
    if kind != TensorProto.FLOAT and not (kind == TensorProto.UINT8 and _is_only_cast(target, graph)):
        step("Cast", to=kind)
    nodes[-1].output[0] = target
    return nodes


def _is_only_cast(name: str, graph: onnx.GraphProto) -> bool:
    """Return whether all nodes that take ``name`` convert it: then it may be float, which TensorRT needs it to be."""
    takers = [node for node in graph.node if name in node.input]
    return bool(takers) and all(node.op_type == "Cast" for node in takers)


def _by_channel(values: tuple[float, float, float]) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.array(values, np.float32)[:, None, None]


def _constant(
    value: np.ndarray[tuple[int, ...], np.dtype[np.float32]] | np.ndarray[tuple[int, ...], np.dtype[np.int64]],
    name: str,
    graph: onnx.GraphProto,
) -> str:
    unused = _unused(f"{_PREFIX}_{name}", graph)
    graph.initializer.append(numpy_helper.from_array(value, unused))
    return unused


def _unused(name: str, graph: onnx.GraphProto) -> str:
    """Return ``name``, made longer until no value in ``graph`` has it."""
    taken = {one.name for one in (*graph.input, *graph.initializer)}
    taken.update(output for node in graph.node for output in node.output)
    while name in taken:
        name += "_"
    return name
