"""Checks that a file that runs for ever, or fills memory, is refused in bounded time when it is inspected."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from detectors.errors import ModelLoadError
from detectors.model.inspect import Inspection
from detectors.model.inspect_process import InspectRequest, inspect_in_process
from standgale.testing.graphs import CLASS_NAMES, GraphSpec, build


def written(folder: Path, *nodes: onnx.NodeProto, constants: dict[str, object]) -> Path:
    """A detector to whose output ``nodes`` add the value ``more``, which is a number."""
    model = onnx.load_model_from_string(build(GraphSpec()))
    graph = model.graph
    for name, value in constants.items():
        graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    last = graph.node[-1]
    last.output[0] = "before"
    graph.node.extend([*nodes, helper.make_node("Add", ["before", "more"], ["output0"])])
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def test_inspect_in_process_returns_the_inspection_and_its_errors(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(build(GraphSpec()))
    wanted = InspectRequest(path, names=CLASS_NAMES, engine="onnxruntime", name="mine")
    assert inspect_in_process(wanted).card.name == "mine"
    with pytest.raises(ModelLoadError, match="yolov8 with 2 classes"):
        inspect_in_process(InspectRequest(path, names=("a", "b"), engine="onnxruntime"))


def test_inspect_in_process_ends_a_graph_that_runs_for_ever(tmp_path: Path) -> None:
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["go_on"]), helper.make_node("Add", ["value", "tiny"], ["value_out"])],
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("value", TensorProto.FLOAT, []),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("value_out", TensorProto.FLOAT, []),
        ],
    )
    constants = {"turns": np.int64(1 << 60), "yes": np.bool_(True), "zero": np.float32(0), "tiny": np.float32(0)}
    loop = helper.make_node("Loop", ["turns", "yes", "zero"], ["more"], body=body)
    path = written(tmp_path, loop, constants=constants)
    start = time.monotonic()
    with pytest.raises(ModelLoadError, match="not inspected within 6 s of CPU time"):
        inspect_in_process(InspectRequest(path, names=CLASS_NAMES, engine="onnxruntime"), cpu_s=6)
    assert time.monotonic() - start < 60


def test_inspect_in_process_refuses_a_graph_that_needs_more_memory_than_there_is(tmp_path: Path) -> None:
    # The size is computed, so that it is seen only when the graph runs.
    nodes = [
        helper.make_node("Mul", ["side", "side"], ["squared"]),
        helper.make_node("ConstantOfShape", ["squared"], ["bomb"]),
        helper.make_node("ReduceMax", ["bomb"], ["more"], keepdims=0),
    ]
    path = written(tmp_path, *nodes, constants={"side": np.array([600_000], np.int64)})
    with pytest.raises(ModelLoadError, match=r"(?i)alloc|memory"):
        inspect_in_process(InspectRequest(path, names=CLASS_NAMES, engine="onnxruntime"), cpu_s=30)


def crash(_: InspectRequest) -> Inspection:
    raise RuntimeError


def test_inspect_in_process_names_a_crash_and_no_limit_that_was_not_reached(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match=r"ended the process in which it was inspected \(status 1\)"):
        inspect_in_process(InspectRequest(tmp_path / "model.onnx"), run=crash)
