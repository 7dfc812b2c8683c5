"""An ONNX graph as torch operations, run one after the other; sizes are fixed, weights are shared between sizes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from onnx2torch.node_converters import get_converter
from onnx2torch.onnx_graph import OnnxGraph

from detectors.engines.gpu.torch_graph import plain_graph, sizes_of
from detectors.engines.gpu.torch_steps import STEPS, Node, Step, Tensor, UnknownStepError
from detectors.errors import ModelLoadError

_HALVED = ("Conv", "ConvTranspose", "Gemm")
"""Operations whose weights are worth keeping in half precision."""


@dataclass(slots=True)
class Weights:
    """What modules of one model for different numbers of tiles share."""

    modules: dict[str, Any] = field(default_factory=dict)
    constants: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Call:
    """One step: what it runs, from which values to which, and the values nobody needs after it."""

    run: Step
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    done: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Precision:
    """Where and in what a module computes: device, and the type of heavy operations, None for float32."""

    device: str
    half: Any = None


class TorchModule:
    """The graph at ``path`` for inputs of ``shapes`` (name → shape, tiles included)."""

    def __init__(
        self, path: Path, shapes: Mapping[str, tuple[int, ...]], precision: Precision, weights: Weights
    ) -> None:
        """Raises ModelLoadError when the graph has something that torch is not taught."""
        graph = plain_graph(path, shapes)
        self._precision = precision
        self._inputs = tuple(shapes)
        self._outputs = tuple(one.name for one in graph.graph.output)
        self._constants: dict[str, Tensor] = {}
        self._calls = self._made(graph, path, weights)

    def _made(self, model: onnx.ModelProto, path: Path, weights: Weights) -> list[_Call]:
        graph = model.graph
        constants = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
        sizes = sizes_of(graph)
        wrapped = OnnxGraph(graph)
        version = max(one.version for one in model.opset_import if one.domain in ("", "ai.onnx"))
        made: list[tuple[Step, tuple[str, ...], tuple[str, ...]]] = []
        for node, proto in zip(wrapped.nodes.values(), graph.node, strict=True):
            key = proto.output[0]
            try:
                if proto.op_type in STEPS:
                    make, places = STEPS[proto.op_type]
                    known = {at: constants[name] for at, name in enumerate(proto.input) if name in constants}
                    about = Node(proto, known, sizes.get(proto.input[0]), sizes.get(key))
                    run, inputs = make(about), tuple(proto.input[at] for at in places)
                else:
                    converted, mapping = get_converter(proto.op_type, version, proto.domain)(node, wrapped)
                    run, inputs = self._shared(key, proto.op_type, converted, weights), tuple(mapping.inputs)
            except (NotImplementedError, UnknownStepError) as error:
                raise ModelLoadError(f"torch cannot run {path}: {error}; choose another engine") from error
            made.append((run, inputs, tuple(proto.output)))
        for name in {name for _, inputs, _ in made for name in inputs if name in constants}:
            self._constants[name] = self._constant(name, constants[name], weights)
        return _with_ends(made, {*self._outputs, *self._inputs, *self._constants, ""})

    def _shared(self, key: str, kind: str, converted: Any, weights: Weights) -> Step:
        """``converted`` where it has to run, or the same of another number of tiles, when it holds weights."""
        if key in weights.modules:
            return weights.modules[key]  # type: ignore[no-any-return]  # torch publishes no types here
        module = converted.eval().to(self._precision.device)
        if kind in _HALVED and self._precision.half is not None:
            module = module.to(self._precision.half)
        if next(iter((*module.parameters(), *module.buffers())), None) is not None:
            if any(one.dim() == 4 for one in module.parameters()):
                module = module.to(memory_format=torch.channels_last)
            weights.modules[key] = module
        return module  # type: ignore[no-any-return]  # torch publishes no types here

    def _constant(self, name: str, value: np.ndarray[Any, Any], weights: Weights) -> Tensor:
        there = weights.constants.get(name)
        made = torch.from_numpy(np.array(value))
        if there is not None and there.shape == made.shape and torch.equal(there.cpu(), made):
            return there
        weights.constants[name] = made.to(self._precision.device)
        return weights.constants[name]

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The outputs for ``inputs``, tensors on the device, in the order of ``shapes``."""
        values = dict(zip(self._inputs, inputs, strict=True)) | self._constants
        half = self._precision.half
        with torch.autocast(
            self._precision.device.partition(":")[0], dtype=half, enabled=half is not None, cache_enabled=False
        ):
            for call in self._calls:
                result = call.run(*(values[name] if name else None for name in call.inputs))
                made = result if isinstance(result, tuple | list) else (result,)
                values.update(zip(call.outputs, made, strict=True))
                for name in call.done:
                    del values[name]
        return tuple(values[name] for name in self._outputs)


def _with_ends(made: list[tuple[Step, tuple[str, ...], tuple[str, ...]]], kept: set[str]) -> list[_Call]:
    """The steps, each with the values that it is the last to need, so that their memory can be used again."""
    calls: list[_Call] = []
    later: set[str] = set(kept)
    for run, inputs, outputs in reversed(made):
        done = tuple(name for name in dict.fromkeys((*inputs, *outputs)) if name not in later)
        later.update(inputs)
        calls.append(_Call(run, inputs, outputs, done))
    return calls[::-1]
