"""ONNX operations whose sizes are known beforehand, as torch functions that never ask the GPU for a number.

A converter that keeps sizes as tensors reads them back at each run, which stops the GPU and cannot be recorded in a
CUDA graph. Here they are numbers by the time the function is made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
import torch.nn.functional as F  # noqa: N812 - as everybody calls it
from onnx import helper

Tensor = Any
"""A torch.Tensor: where torch is not installed its types are unknown."""
Step = Callable[..., Any]
"""Takes tensors of a node's inputs; gives a tensor or, where a node has several outputs, a tuple."""


class UnknownStepError(Exception):
    """A node says something that no function here does."""


@dataclass(frozen=True, slots=True)
class Node:
    """A node with what is known of it. constants: of its inputs, by place; shapes: of its first input and output."""

    proto: onnx.NodeProto
    constants: Mapping[int, npt.NDArray[np.generic]]
    input_shape: tuple[int, ...] | None
    output_shape: tuple[int, ...] | None

    def attribute(self, name: str, otherwise: Any) -> Any:
        for one in self.proto.attribute:
            if one.name == name:
                value = helper.get_attribute_value(one)
                return value.decode() if isinstance(value, bytes) else value
        return otherwise

    def numbers(self, place: int, name: str = "") -> list[int] | None:
        """The whole numbers of input ``place``, or of attribute ``name`` in older opsets; None for neither."""
        if place in self.constants:
            return [int(number) for number in self.constants[place].reshape(-1)]
        found: list[int] | None = self.attribute(name, None) if name else None
        return found

    def required(self, place: int, name: str = "") -> list[int]:
        found = self.numbers(place, name)
        if found is None:
            raise UnknownStepError(f"{self.proto.op_type} whose sizes depend on the picture")
        return found


def _reshape(node: Node) -> Step:
    if node.output_shape is None:
        raise UnknownStepError("Reshape to a shape that depends on the picture")
    shape = node.output_shape
    return lambda x: x.reshape(shape)


def _expand(node: Node) -> Step:
    if node.output_shape is None:
        raise UnknownStepError("Expand to a shape that depends on the picture")
    shape = node.output_shape
    return lambda x: x.expand(shape)


def _slice(node: Node) -> Step:
    starts, ends = node.required(1, "starts"), node.required(2, "ends")
    axes = node.numbers(3, "axes") or list(range(len(starts)))
    steps = node.numbers(4) or [1] * len(starts)
    if node.input_shape is None:
        raise UnknownStepError("Slice of something whose shape depends on the picture")
    picks: list[tuple[int, range]] = []
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        picks.append((axis, range(*slice(start, _end(end, step), step).indices(node.input_shape[axis]))))

    def run(x: Tensor) -> Tensor:
        for axis, pick in picks:
            # Backwards is turned round and sliced forwards, because torch has no negative steps.
            forward = pick if pick.step > 0 else pick[::-1]
            x = x[(slice(None),) * (axis % x.dim()) + (slice(forward.start, forward.stop, forward.step),)]
            if pick.step < 0:
                x = x.flip(axis)
        return x

    return run


def _end(end: int, step: int) -> int | None:
    """Before the first element there is no number for an end; exporters write the smallest one they know."""
    return None if step < 0 and end < -(2**31) + 2 else end


def _split(node: Node) -> Step:
    axis, count = node.attribute("axis", 0), len(node.proto.output)
    parts = node.numbers(1, "split")
    if parts is None:
        if node.input_shape is None:
            raise UnknownStepError("Split of something whose shape depends on the picture")
        each = -(-node.input_shape[axis] // count)
        parts = [each] * (count - 1) + [node.input_shape[axis] - each * (count - 1)]
    return lambda x: torch.split(x, parts, dim=axis)


def _squeeze(node: Node) -> Step:
    if node.output_shape is None:
        raise UnknownStepError("Squeeze of something whose shape depends on the picture")
    shape = node.output_shape
    return lambda x: x.reshape(shape)


def _tile(node: Node) -> Step:
    repeats = node.required(1)
    return lambda x: x.repeat(repeats)


def _pad(node: Node) -> Step:
    pads, mode = node.required(1, "pads"), node.attribute("mode", "constant")
    if 3 in node.constants:
        raise UnknownStepError("Pad of chosen axes")
    value = float(node.constants[2].reshape(-1)[0]) if 2 in node.constants else float(node.attribute("value", 0.0))
    half = len(pads) // 2
    # torch counts from the last axis, begin and end together.
    turned = [side for axis in reversed(range(half)) for side in (pads[axis], pads[half + axis])]
    if mode == "constant":
        return lambda x: F.pad(x, turned, value=value)
    if mode not in ("reflect", "edge") or any(pads[:2]) or any(pads[half : half + 2]):
        raise UnknownStepError(f"Pad in mode {mode}")
    return lambda x: F.pad(x, turned[: 2 * (half - 2)], mode="replicate" if mode == "edge" else mode)


def _reduce_sum(node: Node) -> Step:
    axes, keep = node.numbers(1, "axes"), bool(node.attribute("keepdims", 1))
    if not axes:
        if node.attribute("noop_with_empty_axes", 0):
            return lambda x: x
        axes = list(range(len(node.input_shape or ())))
    return lambda x: x.sum(dim=axes, keepdim=keep)


def _clip(node: Node) -> Step:
    if any(name and place not in node.constants for place, name in enumerate(node.proto.input) if place):
        raise UnknownStepError("Clip to limits that depend on the picture")
    low, high = (
        float(node.constants[place].reshape(-1)[0]) if place in node.constants else node.attribute(name, None)
        for place, name in ((1, "min"), (2, "max"))
    )
    if low is None and high is None:
        return lambda x: x
    return lambda x: x.clamp(low, high)


def _top_k(node: Node) -> Step:
    (count,) = node.required(1, "k")
    axis, largest = node.attribute("axis", -1), bool(node.attribute("largest", 1))
    return lambda x: tuple(torch.topk(x, count, dim=axis, largest=largest, sorted=True))


def _scatter_nd(node: Node) -> Step:
    if node.attribute("reduction", "none") != "none":
        raise UnknownStepError("ScatterND with a reduction")

    def run(x: Tensor, places: Tensor, values: Tensor) -> Tensor:
        return x.index_put(tuple(places.unbind(-1)), values)

    return run


def _grid_sample(node: Node) -> Step:
    mode = {"bilinear": "bilinear", "linear": "bilinear", "nearest": "nearest", "bicubic": "bicubic"}[
        node.attribute("mode", "bilinear")
    ]
    padding, corners = node.attribute("padding_mode", "zeros"), bool(node.attribute("align_corners", 0))

    def run(x: Tensor, grid: Tensor) -> Tensor:
        return F.grid_sample(x, grid.to(x.dtype), mode=mode, padding_mode=padding, align_corners=corners)

    return run


def _resize(node: Node) -> Step:
    """Of pictures; nearest only where every pixel is repeated as often, because torch rounds differently."""
    mode, place = node.attribute("mode", "nearest"), node.attribute("coordinate_transformation_mode", "half_pixel")
    before, after = node.input_shape, node.output_shape
    if before is None or after is None or len(before) != 4 or before[:2] != after[:2]:
        raise UnknownStepError("Resize of anything but height and width of known size")
    size = after[2:]
    if mode == "nearest":
        if any(new % old for old, new in zip(before[2:], size, strict=True)):
            raise UnknownStepError("Resize by the nearest pixel to a size that is no multiple")
        return lambda x: F.interpolate(x, size=size, mode="nearest")
    corners = place == "align_corners"
    if mode not in ("linear", "cubic") or place not in ("half_pixel", "pytorch_half_pixel", "align_corners"):
        raise UnknownStepError(f"Resize in mode {mode} with {place}")
    if node.attribute("antialias", 0) or node.attribute("exclude_outside", 0):
        raise UnknownStepError("Resize with antialias or exclude_outside")
    torch_mode = "bilinear" if mode == "linear" else "bicubic"
    return lambda x: F.interpolate(x, size=size, mode=torch_mode, align_corners=corners)


STEPS: Mapping[str, tuple[Callable[[Node], Step], tuple[int, ...]]] = {
    "Reshape": (_reshape, (0,)),
    "Expand": (_expand, (0,)),
    "Slice": (_slice, (0,)),
    "Split": (_split, (0,)),
    "Squeeze": (_squeeze, (0,)),
    "Unsqueeze": (_squeeze, (0,)),
    "Flatten": (_squeeze, (0,)),
    "Tile": (_tile, (0,)),
    "Pad": (_pad, (0,)),
    "ReduceSum": (_reduce_sum, (0,)),
    "Clip": (_clip, (0,)),
    "TopK": (_top_k, (0,)),
    "ScatterND": (_scatter_nd, (0, 1, 2)),
    "GridSample": (_grid_sample, (0, 1)),
    "Resize": (_resize, (0,)),
    "Identity": (lambda _: lambda x: x, (0,)),
}
"""Operation → how its function is made, and the places of the inputs the function takes."""
