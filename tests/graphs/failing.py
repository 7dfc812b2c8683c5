"""Models that one engine fails on, for tests of what happens then: real graphs, real engines, real errors."""

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


def model_with_fault(card: Path, meddle: Callable[[np.ndarray], None]) -> Model:
    """A real model; ``meddle`` gets each batch first, and what it raises is the engine's failure."""
    model = load_model(LoadRequest(card, "onnxruntime", 1))
    infer = model.infer

    def meddled(tiles: np.ndarray) -> object:
        meddle(tiles)
        return infer(tiles)

    model.infer = meddled  # type: ignore[assignment,method-assign]  # faults that a real engine can't be told to have
    return model


def broken_while(card: Path, broken: threading.Event) -> Model:
    """A real model whose engine fails on everything while ``broken`` is set, as on a GPU that fell off the bus."""

    def fail(_tiles: np.ndarray) -> None:
        if broken.is_set():
            raise RuntimeError("CUDA error 719: unspecified launch failure")

    return model_with_fault(card, fail)


def write_failing_model(folder: Path, trouble: Trouble) -> Path:
    """The card of a model that answers as that of standgale.testing.graphs, but fails on tiles that are nearly white.

    onnxruntime: it takes a value from beyond the end of a list, which ONNX Runtime refuses while OpenVINO gives 0;
    both: it asks for the best 3 of a list of 2, which both refuse.
    """
    return change_graph(write_model(folder), partial(_fail_on_white, trouble))


def _fail_on_white(trouble: Trouble, model: onnx.ModelProto) -> None:
    graph = model.graph
    for node in graph.node:
        node.output[:] = ["answer" if name == graph.output[0].name else name for name in node.output]
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
        helper.make_node("Add", ["answer", "zero"], [last]),
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
        helper.make_node("Add", ["answer", "zero"], [last]),
    ]
