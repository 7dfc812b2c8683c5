"""The torch engine answers as ONNX Runtime does: on the CPU, so without what it does with CUDA."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from detectors.card.card import InputCard, default_card_path, read_card
from detectors.engines.cpu.onnxruntime import OnnxRuntimeEngine, to_input
from detectors.engines.gpu.torch import TorchEngine, preparation
from detectors.engines.gpu.torch_module import Precision, TorchModule, Weights
from detectors.engines.port import EngineRequest
from detectors.errors import InferenceError, ModelLoadError
from standgale.testing.graphs import GraphSpec, tiles_that_differ, write_model


def shipped(precision: str = "f32", batch: int = 0) -> EngineRequest:
    path = default_card_path()
    card = read_card(path)
    return EngineRequest(path.parent / card.file, card.input, 2, precision, batch=batch)  # type: ignore[arg-type]


def scene(count: int, card: InputCard) -> NDArray[np.uint8]:
    """Tiles of a plain ground with a few rectangles."""
    rng = np.random.default_rng(5)
    made = np.full((count, card.height, card.width, 3), 90, np.uint8)
    for tile in made:
        for _ in range(12):
            x, y = rng.integers(0, card.width - 70), rng.integers(0, card.height - 70)
            tile[y : y + rng.integers(8, 60), x : x + rng.integers(8, 60)] = rng.integers(0, 256, 3)
    return made


def test_the_model_that_ships_answers_as_in_onnx_runtime() -> None:
    wanted = shipped(batch=2)
    engine = TorchEngine(wanted)
    for count in (1, 2, 3):
        made = scene(count, wanted.input)
        (expected,), (found,) = OnnxRuntimeEngine(wanted).run(made), engine.run(made)
        assert found.dtype == np.float32
        assert found.shape == expected.shape
        # Boxes are pixels up to 640: of those 1e-4 is less than float32 keeps.
        assert np.abs(expected - found)[:, 4:].max() < 1e-4
        assert np.allclose(expected, found, rtol=1e-5, atol=1e-4)
    engine.close()


@pytest.mark.parametrize("precision", ["f16", "bf16"])
def test_half_precision_stays_close(precision: str) -> None:
    made = scene(1, shipped().input)
    (exact,), (found,) = TorchEngine(shipped()).run(made), TorchEngine(shipped(precision)).run(made)
    scores = np.abs(exact - found)[:, 4:]
    assert 0 < scores.max() < (0.02 if precision == "f16" else 0.2)
    seen = exact[0, 4:].max(axis=0) > 0.25
    assert seen.any()
    assert np.abs(exact - found)[0, :4, seen].max() < (0.5 if precision == "f16" else 4.0)


@pytest.mark.parametrize("layout", ["yolov8", "yolov5", "nms_inside", "yolox", "rtdetr", "rfdetr"])
@pytest.mark.parametrize("batch", [None, 1, 3])
def test_every_layout_answers_as_in_onnx_runtime(tmp_path: Path, layout: str, batch: int | None) -> None:
    spec = GraphSpec(layout=layout, width=64, height=32, batch=batch, mean=0.4, std=0.3)  # type: ignore[arg-type]
    card = read_card(write_model(tmp_path, spec))
    constants = {"orig_target_sizes": np.array([64, 32], np.int64)} if layout == "rtdetr" else {}
    wanted = EngineRequest(tmp_path / card.file, card.input, 1, "f32", constants=constants, batch=4)
    made = tiles_that_differ(11)
    expected, engine = OnnxRuntimeEngine(wanted).run(made), TorchEngine(wanted)
    for one, other in zip(expected, engine.run(made), strict=True):
        assert np.abs(one - other).max() < 1e-4
    with ThreadPoolExecutor(4) as pool:
        for answers in pool.map(lambda at: engine.run(made[at : at + 3]), range(8)):
            assert len(answers) == len(expected)


@pytest.mark.parametrize("channels", ["rgb", "bgr"])
def test_preprocessing_on_the_device_is_that_of_other_engines(channels: str) -> None:
    card = InputCard(width=64, height=32, channels=channels, mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))  # type: ignore[arg-type]
    pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 64, 3), np.uint8)
    made = preparation(card, torch.device("cpu"))(torch.from_numpy(pixels))
    assert made.is_contiguous(memory_format=torch.channels_last)
    assert np.abs(made.numpy() - to_input(pixels, card)).max() < 1e-6


def test_a_failing_run_is_an_inference_error_and_the_engine_lives_on(tmp_path: Path) -> None:
    card = read_card(write_model(tmp_path, GraphSpec(width=64, height=32)))
    engine = TorchEngine(EngineRequest(tmp_path / card.file, card.input, 1, "f32"))
    for _ in range(3):
        with pytest.raises(InferenceError, match=r"tiles are \(16, 16, 3\)"):
            engine.run(np.zeros((1, 16, 16, 3), np.uint8))
    assert engine.run(tiles_that_differ(2))[0].shape[0] == 2


def test_sizes_share_their_weights() -> None:
    wanted = shipped()
    weights = Weights()
    precision = Precision("cpu")
    for size in (1, 2):
        TorchModule(wanted.path, {"images": (size, 3, 640, 640)}, precision, weights)
    held = sum(one.numel() for module in weights.modules.values() for one in module.parameters())
    stored = sum(int(np.prod(one.dims)) for one in onnx.load(wanted.path).graph.initializer)
    assert held <= 1.05 * stored


def test_what_torch_is_not_taught_is_named(tmp_path: Path) -> None:
    picture = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 3, 32, 64])
    answer = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph([helper.make_node("Hardmax", ["images"], ["y"])], "odd", [picture], [answer])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "m.onnx")
    with pytest.raises(ModelLoadError, match=r"torch cannot run .*Hardmax.*choose another engine"):
        TorchModule(tmp_path / "m.onnx", {"images": (1, 3, 32, 64)}, Precision("cpu"), Weights())


SHAPE = (2, 3, 8, 8)
CASES: dict[str, tuple[dict[str, object], list[NDArray[np.generic]]]] = {
    "Slice": ({}, [np.array([6, -1]), np.array([1, -(2**31)]), np.array([2, 3]), np.array([-2, -1])]),
    "Split": ({"axis": 2, "num_outputs": 3}, []),
    "Resize/linear": ({"mode": "linear"}, [np.array([], np.float32), np.array([1, 1, 2, 1.5], np.float32)]),
    "Resize/cubic": (
        {"mode": "cubic", "coordinate_transformation_mode": "align_corners"},
        [np.array([], np.float32), np.array([1, 1, 2, 2], np.float32)],
    ),
    "Resize/nearest": (
        {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
        [np.array([], np.float32), np.array([1, 1, 2, 3], np.float32)],
    ),
    "Pad/constant": ({}, [np.array([0, 0, 1, 2, 0, 0, 3, 0]), np.array(0.5, np.float32)]),
    "Pad/reflect": ({"mode": "reflect"}, [np.array([0, 0, 1, 2, 0, 0, 3, 0])]),
    "Pad/edge": ({"mode": "edge"}, [np.array([0, 0, 0, 2, 0, 0, 3, 0])]),
    "ReduceSum": ({"keepdims": 0}, [np.array([2, 3])]),
    "ReduceMax": ({}, [np.array([1])]),
    "ReduceMean": ({"keepdims": 0}, [np.array([2, 3])]),
    "Clip": ({}, [np.array(0.2, np.float32), np.array(0.7, np.float32)]),
    "TopK": ({"axis": 3}, [np.array([3])]),
    "GridSample": (
        {"mode": "linear", "padding_mode": "zeros"},
        [np.random.default_rng(1).uniform(-1.2, 1.2, (2, 5, 4, 2)).astype(np.float32)],
    ),
    "ScatterND": (
        {},
        [np.array([[0, 1], [1, 2]]), np.arange(2 * 8 * 8, dtype=np.float32).reshape(2, 8, 8)],
    ),
    "Mish": ({}, []),
    "Gelu": ({}, []),
    "Tile": ({}, [np.array([1, 2, 1, 3])]),
    "Expand": ({}, [np.array([4, 2, 3, 8, 8])]),
    "Squeeze": ({}, []),
}


@pytest.mark.parametrize("case", CASES)
def test_operations_with_known_sizes_do_what_onnx_runtime_does(tmp_path: Path, case: str) -> None:
    kind = case.partition("/")[0]
    attributes, others = CASES[case]
    names = [f"k{index}" for index in range(len(others))]
    outputs = [f"y{index}" for index in range({"Split": 3, "TopK": 2}.get(kind, 1))]
    node = helper.make_node(kind, ["images", *names], outputs, **attributes)
    graph = helper.make_graph(
        [node],
        "one",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 3, 8, 8])],
        [helper.make_value_info(name, onnx.TypeProto()) for name in outputs],
        [numpy_helper.from_array(value, name) for name, value in zip(names, others, strict=True)],
    )
    for index, output in enumerate(graph.output):
        integer = kind == "TopK" and index == 1
        output.type.tensor_type.elem_type = TensorProto.INT64 if integer else TensorProto.FLOAT
    path = tmp_path / "one.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), path)
    picture = np.random.default_rng(0).permutation(int(np.prod(SHAPE))).reshape(SHAPE).astype(np.float32) / 400
    expected = ort.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"images": picture})
    module = TorchModule(path, {"images": SHAPE}, Precision("cpu"), Weights())
    found = module(torch.from_numpy(picture))
    assert len(found) == len(expected)
    for one, other in zip(expected, found, strict=True):
        assert tuple(other.shape) == one.shape
        assert np.abs(one - other.numpy()).max() < 1e-5
