"""Checks what is read from an ONNX file without loading it, and that a file made to do harm is refused quickly."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from detectors.card import protobuf
from detectors.card.card import read_card
from detectors.card.onnx_file import external_data_of, read_onnx_file
from detectors.errors import ModelLoadError
from standgale.testing.graphs import GraphSpec, build


def changed(folder: Path, change: Callable[[onnx.ModelProto], None], spec: GraphSpec | None = None) -> Path:
    """A small detector, changed by ``change``."""
    model = onnx.load_model_from_string(build(spec or GraphSpec()))
    change(model)
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def weights_in(location: str) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        tensor = model.graph.initializer[0]
        tensor.data_location = TensorProto.EXTERNAL
        tensor.ClearField("raw_data")
        tensor.external_data.add(key="location", value=location)

    return change


@pytest.mark.parametrize("location", ["../secret", "/etc/passwd", "a/b.data", "..", "c:x", "a\\b", "", "n" * 300])
def test_read_onnx_file_refuses_weights_outside_its_folder(tmp_path: Path, location: str) -> None:
    with pytest.raises(ModelLoadError, match="not a file in its own folder"):
        read_onnx_file(changed(tmp_path, weights_in(location)))


def test_external_data_of_names_weights_without_reading_nodes(tmp_path: Path) -> None:
    path = changed(tmp_path, weights_in("weights.data"))
    assert external_data_of(path) == read_onnx_file(path).external_data == ("weights.data",)
    assert external_data_of(changed(tmp_path, add_nested)) == ()
    with pytest.raises(ModelLoadError, match="not a file in its own folder"):
        external_data_of(changed(tmp_path, weights_in("../secret")))
    path.write_bytes(b"\x08\x08")
    with pytest.raises(ModelLoadError, match="holds no graph"):
        external_data_of(path)


def test_read_onnx_file_refuses_weights_behind_a_link(tmp_path: Path) -> None:
    (tmp_path / "weights.data").symlink_to("/etc/hostname")
    with pytest.raises(ModelLoadError, match="not a file in its own folder"):
        read_onnx_file(changed(tmp_path, weights_in("weights.data")))


def nested(depth: int) -> onnx.GraphProto:
    graph = helper.make_graph([], "inner", [], [])
    for _ in range(depth):
        node = helper.make_node("If", ["c"], ["o"], then_branch=graph)
        graph = helper.make_graph([node], "inner", [], [])
    return graph


def add_nested(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("If", ["c"], ["deep"], then_branch=nested(20)))


def add_large_tensor(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(numpy_helper.from_array(np.array([100_000, 100_000], np.int64), "sizes"))
    model.graph.node.append(helper.make_node("ConstantOfShape", ["sizes"], ["bomb"]))


def add_large_tensor_of_a_node(model: onnx.ModelProto) -> None:
    sizes = helper.make_tensor("sizes", TensorProto.INT64, [2], [1 << 20, 1 << 20])
    model.graph.node.append(helper.make_node("Constant", [], ["sizes"], value=sizes))
    model.graph.node.append(helper.make_node("Expand", ["images", "sizes"], ["bomb"]))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (add_nested, "more than 16 graphs inside of each other"),
        (add_large_tensor, r"ConstantOfShape makes a tensor of 1e\+10 numbers"),
        (add_large_tensor_of_a_node, "Expand makes a tensor"),
    ],
)
def test_read_onnx_file_refuses_what_no_detector_has(
    tmp_path: Path, change: Callable[[onnx.ModelProto], None], words: str
) -> None:
    with pytest.raises(ModelLoadError, match=words):
        read_onnx_file(changed(tmp_path, change))


def set_length(tensor: onnx.ValueInfoProto, axis: int, length: int) -> None:
    tensor.type.tensor_type.shape.dim[axis].dim_value = length


@pytest.mark.parametrize("length", [-1, 0])
def test_read_onnx_file_takes_an_axis_of_minus_one_or_zero_as_open(tmp_path: Path, length: int) -> None:
    def change(model: onnx.ModelProto) -> None:
        set_length(model.graph.input[0], 0, length)
        set_length(model.graph.output[0], 1, length)

    found = read_onnx_file(changed(tmp_path, change))
    assert found.inputs[0].shape[0] is None
    assert found.outputs[0].shape[1] is None


@pytest.mark.parametrize("length", [-2, -640, -(2**63)])
def test_read_onnx_file_refuses_other_negative_axes_with_their_length(tmp_path: Path, length: int) -> None:
    path = changed(tmp_path, lambda model: set_length(model.graph.input[0], 2, length))
    with pytest.raises(ModelLoadError, match=rf"an axis of images has the length {length}\); export it again"):
        read_onnx_file(path)
    with pytest.raises(ModelLoadError, match=f"an axis of output0 has the length {length}"):
        read_onnx_file(changed(tmp_path, lambda model: set_length(model.graph.output[0], 0, length)))


def test_read_onnx_file_reads_a_negative_opset_as_it_is(tmp_path: Path) -> None:
    def change(model: onnx.ModelProto) -> None:
        model.opset_import[0].version = -3

    assert read_onnx_file(changed(tmp_path, change)).opset == -3


def test_read_onnx_file_stops_after_a_number_of_fields(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protobuf, "MOST_FIELDS", 10_000)
    path = tmp_path / "model.onnx"
    path.write_bytes(b"\x08\x08" * 1_000_000)
    start = time.perf_counter()
    with pytest.raises(ModelLoadError, match="more than 10,000 parts"):
        read_onnx_file(path)
    assert time.perf_counter() - start < 1


def test_read_onnx_file_bounds_names_and_metadata(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protobuf, "LONGEST_TEXT", 100_000)
    path = changed(tmp_path, lambda model: helper.set_model_props(model, {"names": "x" * 200_000}))
    with pytest.raises(ModelLoadError, match="more than 100,000 bytes"):
        read_onnx_file(path)


def test_read_onnx_file_refuses_a_sparse_file_over_two_gigabytes(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    with path.open("wb") as file:
        file.write(b"\x08\x08")
        file.truncate((2 << 30) + 1)
    with pytest.raises(ModelLoadError, match="weights in a separate file"):
        read_onnx_file(path)


def test_read_onnx_file_names_operators_of_no_standard(tmp_path: Path) -> None:
    node = helper.make_node("TRTBatchedNMS", ["images"], ["o"], domain="mmdeploy")
    found = read_onnx_file(changed(tmp_path, lambda model: model.graph.node.append(node)))
    assert found.graph.custom_operators == ("mmdeploy.TRTBatchedNMS",)


@pytest.mark.parametrize("as_node", [False, True])
def test_read_onnx_file_finds_the_score_threshold_of_nms(tmp_path: Path, as_node: bool) -> None:
    def add_nms(model: onnx.ModelProto) -> None:
        tensor = helper.make_tensor("least", TensorProto.FLOAT, [1], [0.3])
        if as_node:
            model.graph.node.append(helper.make_node("Constant", [], ["least"], value=tensor))
        else:
            model.graph.initializer.append(tensor)
        model.graph.node.append(helper.make_node("NonMaxSuppression", ["b", "s", "", "", "least"], ["kept"]))

    assert read_onnx_file(changed(tmp_path, add_nms)).graph.score_threshold == pytest.approx(0.3)
    assert read_onnx_file(changed(tmp_path, lambda model: None)).graph.score_threshold is None


@pytest.mark.parametrize("mean", [0.0, 0.45])
def test_read_onnx_file_finds_what_the_graph_does_to_pixels(tmp_path: Path, mean: float) -> None:
    spec = GraphSpec(kind="uint8", scales_itself=True, mean=mean, std=0.5, channels_last=True)
    pixels = read_onnx_file(changed(tmp_path, lambda model: None, spec)).graph.pixels
    assert pixels.factor == pytest.approx(2 / 255)
    assert pixels.offset == pytest.approx(-2 * mean)
    assert pixels.takes_bytes


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("best.pt", b"PK\x03\x04rest", "yolo export model=best.pt format=onnx"),
        ("best.onnx", b"PK\x03\x04rest", "a file of PyTorch, not ONNX"),
        ("model.engine", b"ptrt", "engine of TensorRT"),
        ("model.tflite", b"\x1c\0\0\0TFL3", "tf2onnx"),
        ("model.bin", b"\0\0", "a file of OpenVINO"),
    ],
)
def test_read_onnx_file_of_other_formats_names_the_export(
    tmp_path: Path, name: str, content: bytes, words: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelLoadError, match=words):
        read_onnx_file(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "words"), [("a.onnx", "model inspect .*a.onnx --write"), ("a.pt", "yolo export model=a.pt")]
)
def test_read_card_of_a_model_file_names_the_command_for_a_card(tmp_path: Path, name: str, words: str) -> None:
    with pytest.raises(ModelLoadError, match=words):
        read_card(tmp_path / name)
