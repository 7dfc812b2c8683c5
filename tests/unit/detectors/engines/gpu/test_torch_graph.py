"""A graph made plain for torch answers as before, holds no open sizes, and says nothing that opset 17 does not know."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from detectors.card.card import default_card_path, read_card
from detectors.engines.gpu.torch_graph import plain_graph, sizes_of
from detectors.errors import ModelLoadError
from tests.support_graphs import GraphSpec, write_model


def answers(model: bytes, **inputs: NDArray[np.generic]) -> list[NDArray[np.float32]]:
    return list(ort.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, inputs))


def write(folder: Path, nodes: list[onnx.NodeProto], weights: dict[str, NDArray[np.generic]], opset: int = 20) -> Path:
    picture = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 3, 32, 64])
    answer = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    constants = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "made", [picture], [answer], constants)
    path = folder / "made.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9), path)
    return path


@pytest.mark.parametrize("size", [1, 3])
def test_the_model_that_ships_stays_the_same_without_computing_sizes(size: int) -> None:
    path = default_card_path()
    card = read_card(path)
    shape = (size, 3, card.input.height, card.input.width)
    model = plain_graph(path.parent / card.file, {"images": shape})
    kinds = {node.op_type for node in model.graph.node}
    assert not kinds & {"Shape", "Range", "Gather", "ConstantOfShape", "Expand", "Cast"}
    sizes = sizes_of(model.graph)
    assert all(sizes[name] is not None for node in model.graph.node for name in node.output)
    assert model.opset_import[0].version == 17
    onnx.checker.check_model(model)
    picture = np.random.default_rng(0).random(shape, np.float32)
    before = answers((path.parent / card.file).read_bytes(), images=picture)
    after = answers(model.SerializeToString(), images=picture)
    assert all(np.abs(one - other).max() < 1e-4 for one, other in zip(before, after, strict=True))


def test_other_inputs_get_their_sizes_and_outputs_keep_their_order(tmp_path: Path) -> None:
    spec = GraphSpec(layout="rtdetr", width=64, height=32)
    card = read_card(write_model(tmp_path, spec))
    model = plain_graph(tmp_path / card.file, {"images": (2, 3, 32, 64), "orig_target_sizes": (2, 2)})
    picture = np.zeros((2, 3, 32, 64), np.float32)
    picture[0, 0, 4:20, 8:30] = 1
    given = {"images": picture, "orig_target_sizes": np.array([[64, 32]] * 2)}
    before = answers((tmp_path / card.file).read_bytes(), **given)
    after = answers(model.SerializeToString(), **given)
    assert [one.shape for one in before] == [one.shape for one in after]
    assert all((one == other).all() for one, other in zip(before, after, strict=True))


@pytest.mark.parametrize(
    "nodes",
    [
        [helper.make_node("Mish", ["images"], ["y"])],
        [helper.make_node("Gelu", ["images"], ["y"])],
        [
            helper.make_node("Split", ["images"], ["a", "b"], axis=3, num_outputs=2),
            helper.make_node("Sub", ["a", "b"], ["y"]),
        ],
        [helper.make_node("ReduceMax", ["images", "axes"], ["y"], keepdims=0)],
        [helper.make_node("ReduceMean", ["images"], ["y"])],
        [helper.make_node("GridSample", ["images", "grid"], ["y"], mode="linear")],
        [helper.make_node("Resize", ["images", "", "scales"], ["y"], antialias=0)],
        [helper.make_node("Cast", ["images"], ["y"], to=TensorProto.FLOAT, saturate=1)],
    ],
    ids=lambda nodes: nodes[0].op_type,
)
def test_later_spellings_become_those_of_opset_17(tmp_path: Path, nodes: list[onnx.NodeProto]) -> None:
    weights = {
        "axes": np.array([1, 3]),
        "grid": np.random.default_rng(0).uniform(-1, 1, (2, 4, 5, 2)).astype(np.float32),
        "scales": np.array([1, 1, 2, 2], np.float32),
    }
    used = {name: value for name, value in weights.items() if any(name in node.input for node in nodes)}
    path = write(tmp_path, nodes, used)
    model = plain_graph(path, {"images": (2, 3, 32, 64)})
    assert model.opset_import[0].version == 17
    onnx.checker.check_model(model, full_check=True)
    picture = np.random.default_rng(1).normal(size=(2, 3, 32, 64)).astype(np.float32)
    before, after = answers(path.read_bytes(), images=picture), answers(model.SerializeToString(), images=picture)
    assert np.abs(before[0] - after[0]).max() < 1e-5


def test_what_opset_17_cannot_say_is_refused(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        [helper.make_node("Resize", ["images", "", "scales"], ["y"], mode="linear", antialias=1)],
        {"scales": np.array([1, 1, 0.5, 0.5], np.float32)},
    )
    with pytest.raises(ModelLoadError, match=r"uses Resize as opset 17 does not have it \(antialias\)"):
        plain_graph(path, {"images": (2, 3, 32, 64)})
    path = write(tmp_path, [helper.make_node("Gelu", ["images"], ["y"], approximate="tanh")], {})
    with pytest.raises(ModelLoadError, match="uses Gelu, which opset 17 does not have"):
        plain_graph(path, {"images": (2, 3, 32, 64)})


def test_a_size_the_model_does_not_take_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, [helper.make_node("Relu", ["images"], ["y"])], {})
    with pytest.raises(ModelLoadError, match="input images takes 32, not 16; choose another engine"):
        plain_graph(path, {"images": (2, 3, 16, 64)})
