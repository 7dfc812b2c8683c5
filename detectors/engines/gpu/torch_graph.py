"""An ONNX graph made plain for torch: sizes fixed, what follows from them computed, later opsets spelled as 17."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper, shape_inference
from onnx.reference import ReferenceEvaluator

from detectors.errors import ModelLoadError

_Values = dict[str, npt.NDArray[np.generic]]
_LARGEST_CONSTANT = 1 << 22
"""Elements: grids of anchors are computed once, not weights made larger than they are."""
_SPELLED = 17
"""The opset whose operations the converter knows."""
_DEFAULTS: Mapping[tuple[str, str], int | bytes] = {
    ("Cast", "saturate"): 1,
    ("Resize", "antialias"): 0,
    ("Resize", "keep_aspect_ratio_policy"): b"stretch",
    ("Shape", "start"): 0,
    ("TopK", "sorted"): 1,
}
_DRAWN = frozenset(
    {"RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Multinomial", "Bernoulli"}
)


def plain_graph(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> onnx.ModelProto:
    """The model at ``path`` for inputs of ``shapes`` and no others, as few and as old operations as possible.

    Its outputs are the same. Raises ModelLoadError when it cannot be read, or an input does not take its shape.
    """
    try:
        model = onnx.load(path)
        _fix_inputs(model.graph, shapes)
        while True:
            model = shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
            if not _fold(model):
                break
    except (OSError, ValueError, shape_inference.InferenceError, onnx.checker.ValidationError) as error:
        raise ModelLoadError(f"{path} cannot be prepared for torch: {error}; choose another engine") from error
    _spell_older(model, path)
    return model


def _fix_inputs(graph: onnx.GraphProto, shapes: Mapping[str, tuple[int, ...]]) -> None:
    held = {one.name for one in graph.initializer}
    inputs = [one for one in graph.input if one.name not in held]
    for one in inputs:
        dims = one.type.tensor_type.shape.dim
        shape = shapes[one.name]
        if len(dims) != len(shape):
            raise ValueError(f"input {one.name} has {len(dims)} axes, not {len(shape)}")
        for dim, size in zip(dims, shape, strict=True):
            if dim.HasField("dim_value") and dim.dim_value != size:
                raise ValueError(f"input {one.name} takes {dim.dim_value}, not {size}")
            dim.dim_value = size
    del graph.input[:]
    graph.input.extend(inputs)
    # What was written beside the values was true for open sizes; it is inferred again.
    del graph.value_info[:]
    for output in graph.output:
        output.type.tensor_type.ClearField("shape")


def _fold(model: onnx.ModelProto) -> bool:
    """Compute every node all of whose inputs are known, and every shape that is; whether there was any."""
    graph = model.graph
    known: _Values = {
        one.name: numpy_helper.to_array(one)
        for one in graph.initializer
        if int(np.prod(one.dims, dtype=np.int64)) <= _LARGEST_CONSTANT
    }
    sizes = sizes_of(graph)
    wanted = {one.name for one in graph.output}
    left: list[onnx.NodeProto] = []
    made: _Values = {}
    for node in graph.node:
        values = None if wanted.intersection(node.output) else _computed(node, known, sizes, model)
        if values is None:
            left.append(node)
        else:
            known.update(values)
            made.update(values)
    read = {name for node in left for name in node.input}
    del graph.node[:]
    graph.node.extend(left)
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in made.items() if name in read)
    kept = [one for one in graph.initializer if one.name in read]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    return bool(made)


def sizes_of(graph: onnx.GraphProto) -> Mapping[str, tuple[int, ...] | None]:
    """The shape of every value in ``graph``, None where not all of it is known."""
    given = {one.name: _sizes(one) for one in (*graph.value_info, *graph.input, *graph.output)}
    return given | {one.name: tuple(one.dims) for one in graph.initializer}


def _sizes(value: onnx.ValueInfoProto) -> tuple[int, ...] | None:
    """The shape of ``value`` where all of it is known."""
    tensor = value.type.tensor_type
    if not tensor.HasField("shape") or not all(dim.HasField("dim_value") for dim in tensor.shape.dim):
        return None
    return tuple(dim.dim_value for dim in tensor.shape.dim)


def _computed(
    node: onnx.NodeProto, known: _Values, sizes: Mapping[str, tuple[int, ...] | None], model: onnx.ModelProto
) -> _Values | None:
    """What ``node`` gives, by name, or None where that depends on the picture."""
    if node.op_type == "Shape" and node.input[0] not in known:
        shape = sizes.get(node.input[0])
        if shape is None:
            return None
        begin = _integer(node, "start", 0)
        return {node.output[0]: np.array(shape[begin : _integer(node, "end", len(shape))], np.int64)}
    inputs = [name for name in node.input if name]
    if node.op_type in _DRAWN or any(name not in known for name in inputs):
        return None
    if any(attribute.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS) for attribute in node.attribute):
        return None
    shape = sizes.get(node.output[0])
    if shape is not None and int(np.prod(shape, dtype=np.int64)) > _LARGEST_CONSTANT:
        return None
    given = {name: known[name] for name in inputs}
    values = ReferenceEvaluator(_alone(node, given, model)).run(None, given)
    return {name: np.asarray(value) for name, value in zip([name for name in node.output if name], values, strict=True)}


def _alone(node: onnx.NodeProto, given: _Values, model: onnx.ModelProto) -> onnx.ModelProto:
    """A model of nothing but ``node``."""
    inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
        for name, value in given.items()
    ]
    outputs = [helper.make_value_info(name, onnx.TypeProto()) for name in node.output if name]
    graph = helper.make_graph([node], "alone", inputs, outputs)
    return helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)


def _integer(node: onnx.NodeProto, name: str, otherwise: int) -> int:
    return next((attribute.i for attribute in node.attribute if attribute.name == name), otherwise)


def _spell_older(model: onnx.ModelProto, path: Path) -> None:
    """Spell as in opset 17 what later opsets spell in another way, and say that it is opset 17.

    Most later versions of operations take more types and are the same otherwise. Raises ModelLoadError for what cannot
    be said in opset 17.
    """
    version = next(one for one in model.opset_import if one.domain in ("", "ai.onnx"))
    if version.version <= _SPELLED:
        return
    graph = model.graph
    constants = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
    sizes = sizes_of(graph)
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        _drop_defaults(node)
        if node.op_type == "Split" and len(node.input) < 2:
            _name_parts(node, sizes, graph)
        elif node.op_type.startswith("Reduce") and node.op_type != "ReduceSum":
            _axes_as_attribute(node, constants)
        elif node.op_type == "GridSample":
            _older_modes(node)
        nodes.extend(_composed(node) if node.op_type in ("Mish", "Gelu") else [node])
    del graph.node[:]
    graph.node.extend(nodes)
    for node in graph.node:
        if node.domain in ("", "ai.onnx"):
            _require_known(node, path)
    version.version = _SPELLED


def _drop_defaults(node: onnx.NodeProto) -> None:
    """Drop attributes of later opsets that say what would hold without them."""
    kept = [one for one in node.attribute if helper.get_attribute_value(one) != _DEFAULTS.get((node.op_type, one.name))]
    del node.attribute[:]
    node.attribute.extend(kept)


def _name_parts(node: onnx.NodeProto, sizes: Mapping[str, tuple[int, ...] | None], graph: onnx.GraphProto) -> None:
    """Split into equal parts, the last one smaller where it does not come out even: with the sizes written down."""
    shape = sizes.get(node.input[0])
    kept = [one for one in node.attribute if one.name != "num_outputs"]
    if shape is None or len(kept) == len(node.attribute):
        return
    length, parts = shape[_integer(node, "axis", 0)], len(node.output)
    each = -(-length // parts)
    name = f"{node.output[0]}/parts"
    lengths = np.array([each] * (parts - 1) + [length - each * (parts - 1)], np.int64)
    graph.initializer.append(numpy_helper.from_array(lengths, name))
    node.input.append(name)
    del node.attribute[:]
    node.attribute.extend(kept)


def _axes_as_attribute(node: onnx.NodeProto, constants: Mapping[str, npt.NDArray[np.generic]]) -> None:
    if len(node.input) == 2 and node.input[1] in constants and not _integer(node, "noop_with_empty_axes", 0):
        axes = [int(axis) for axis in constants[node.input[1]].reshape(-1)]
        del node.input[1:]
        if axes:
            node.attribute.append(helper.make_attribute("axes", axes))


def _older_modes(node: onnx.NodeProto) -> None:
    for one in node.attribute:
        if one.name == "mode":
            one.s = {b"linear": b"bilinear", b"cubic": b"bicubic"}.get(one.s, one.s)


def _composed(node: onnx.NodeProto) -> list[onnx.NodeProto]:
    """Mish and the exact Gelu from what they are made of: x·tanh(softplus(x)); x/2·(1 + erf(x/√2))."""
    (x,), (y,) = node.input, node.output
    if node.op_type == "Mish":
        return [
            helper.make_node("Softplus", [x], [f"{y}/a"]),
            helper.make_node("Tanh", [f"{y}/a"], [f"{y}/b"]),
            helper.make_node("Mul", [x, f"{y}/b"], [y]),
        ]
    if any(one.name == "approximate" and one.s == b"tanh" for one in node.attribute):
        return [node]
    numbers = {"root": 2**-0.5, "one": 1.0, "half": 0.5}
    constants = [
        helper.make_node("Constant", [], [f"{y}/{name}"], value_float=number) for name, number in numbers.items()
    ]
    return [
        *constants,
        helper.make_node("Mul", [x, f"{y}/root"], [f"{y}/a"]),
        helper.make_node("Erf", [f"{y}/a"], [f"{y}/b"]),
        helper.make_node("Add", [f"{y}/b", f"{y}/one"], [f"{y}/c"]),
        helper.make_node("Mul", [x, f"{y}/c"], [f"{y}/d"]),
        helper.make_node("Mul", [f"{y}/d", f"{y}/half"], [y]),
    ]


def _require_known(node: onnx.NodeProto, path: Path) -> None:
    try:
        schema = onnx.defs.get_schema(node.op_type, _SPELLED)
    except onnx.defs.SchemaError as error:
        raise ModelLoadError(
            f"{path} uses {node.op_type}, which opset {_SPELLED} does not have; export it with that opset"
        ) from error
    unknown = [one.name for one in node.attribute if one.name not in schema.attributes]
    if unknown or len(node.input) > schema.max_input:
        raise ModelLoadError(
            f"{path} uses {node.op_type} as opset {_SPELLED} does not have it ({', '.join(unknown) or 'more inputs'}); "
            "export it with that opset"
        )
