"""Makes models on which a real engine fails with its real error."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from detectors.model.loading import LoadRequest, load_model
from detectors.model.predict import Model
from standgale.testing.graphs import change_graph, write_model

Trouble = Literal["onnxruntime", "both"]


def model_with_fault(card: Path, fault: Callable[[np.ndarray], None]) -> Model:
    """Load a real model; ``fault`` gets each batch first, and its exception is the engine's failure."""
    model = load_model(LoadRequest(card, "onnxruntime", 1))
    infer = model.infer

    def infer_with_fault(tiles: np.ndarray) -> object:
        fault(tiles)
        return infer(tiles)

    model.infer = infer_with_fault  # type: ignore[assignment,method-assign]  # a real engine has no such fault
    return model


def broken_while(card: Path, broken: threading.Event) -> Model:
    """Load a real model whose engine fails on every batch while ``broken`` is set, like a broken GPU."""

    def fail(_tiles: np.ndarray) -> None:
        if broken.is_set():
            raise RuntimeError("CUDA error 719: unspecified launch failure")

    return model_with_fault(card, fail)


def write_failing_model(folder: Path, trouble: Trouble) -> Path:
    """Write a model that works as that of standgale.testing.graphs, but fails on tiles that are nearly white.

    onnxruntime: it takes a value from beyond the end of a list, which ONNX Runtime refuses while OpenVINO gives 0;
    both: it asks for the best 3 of a list of 2, which both refuse.
    """
    return change_graph(write_model(folder), partial(_fail_on_white, trouble))


def _fail_on_white(trouble: Trouble, model: onnx.ModelProto) -> None:
    graph = model.graph
    for node in graph.node:
        node.output[:] = ["real_output" if name == graph.output[0].name else name for name in node.output]
    last = graph.output[0].name
    white = [
        helper.make_node("ReduceMean", ["images"], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Greater", ["mean", "nearly_white"], ["is_white"]),
        helper.make_node("Cast", ["is_white"], ["place"], to=TensorProto.INT64),
    ]
    graph.initializer.append(numpy_helper.from_array(np.float32(0.95), "nearly_white"))
    steps = _beyond_the_end(graph, last) if trouble == "onnxruntime" else _more_than_there_are(graph, last)
    graph.node.extend([*white, *steps])


def _beyond_the_end(graph: onnx.GraphProto, last: str) -> list[onnx.NodeProto]:
    graph.initializer.append(numpy_helper.from_array(np.zeros(1, np.float32), "list"))
    graph.initializer.append(numpy_helper.from_array(np.array([-1, 1, 1], np.int64), "column"))
    return [
        helper.make_node("Gather", ["list", "place"], ["taken"]),
        helper.make_node("Reshape", ["taken", "column"], ["zero"]),
        helper.make_node("Add", ["real_output", "zero"], [last]),
    ]


def _more_than_there_are(graph: onnx.GraphProto, last: str) -> list[onnx.NodeProto]:
    graph.initializer.append(numpy_helper.from_array(np.array([0], np.int64), "first_axis"))
    graph.initializer.append(numpy_helper.from_array(np.array([2], np.int64), "two"))
    graph.initializer.append(numpy_helper.from_array(np.array([5, -5], np.float32), "list"))
    return [
        helper.make_node("ReduceSum", ["place", "first_axis"], ["white_tiles"], keepdims=1),
        helper.make_node("Add", ["white_tiles", "two"], ["wanted"]),
        helper.make_node("TopK", ["list", "wanted"], ["best", "places"]),
        helper.make_node("ReduceSum", ["best"], ["zero"], keepdims=0),
        helper.make_node("Add", ["real_output", "zero"], [last]),
    ]
