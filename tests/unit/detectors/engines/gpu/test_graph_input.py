"""Preprocessing in the graph gives what preprocessing in front of it gives, and nothing else of the model changes."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from detectors.card.card import InputCard, default_card_path, read_card
from detectors.engines.cpu.onnxruntime import OnnxRuntimeEngine, to_input
from detectors.engines.gpu.float16 import convert_to_float16
from detectors.engines.gpu.graph_input import ImageModel, with_image_input
from detectors.engines.port import EngineRequest
from detectors.errors import ModelLoadError
from standgale.testing.graphs import GraphSpec, tiles_that_differ, write_model

CARD = InputCard(width=64, height=32)


def noise(count: int, card: InputCard, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, card.height, card.width, 3), np.uint8)


def write_copy(path: Path, kind: int = TensorProto.FLOAT, batch: int | str = "n", opset: int = 13) -> Path:
    """A model whose output is its input, so that what is fed to a model can be seen."""
    picture = helper.make_tensor_value_info("images", kind, [batch, 3, 32, 64])
    answer = helper.make_tensor_value_info("same", kind, [batch, 3, 32, 64])
    graph = helper.make_graph([helper.make_node("Identity", ["images"], ["same"])], "copy", [picture], [answer])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), path)
    return path


def run(model: ImageModel, tiles: NDArray[np.uint8], **others: NDArray[np.int64]) -> list[NDArray[np.float32]]:
    options = ort.SessionOptions()
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(model.folder))
    session = ort.InferenceSession(model.data, options, providers=["CPUExecutionProvider"])
    return list(session.run(None, {model.image_input: tiles, **others}))


@pytest.mark.parametrize("channels", ["rgb", "bgr"])
@pytest.mark.parametrize(
    ("scale", "mean", "std"),
    [
        (1.0, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
        (1 / 255, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
        (1 / 255, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ],
)
@pytest.mark.parametrize(("kind", "dtype"), [(TensorProto.FLOAT, np.float32), (TensorProto.FLOAT16, np.float16)])
def test_the_graph_makes_of_pixels_what_the_engine_makes_of_them(
    tmp_path: Path,
    channels: Literal["rgb", "bgr"],
    scale: float,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    kind: int,
    dtype: type,
) -> None:
    card = InputCard(width=64, height=32, channels=channels, scale=scale, mean=mean, std=std)
    tiles = noise(3, card)
    (made,) = run(with_image_input(write_copy(tmp_path / "copy.onnx", kind), card), tiles)
    assert made.dtype == dtype
    assert np.abs(made.astype(np.float64) - to_input(tiles, card).astype(dtype)).max() <= 1e-6


@pytest.mark.parametrize("kind", ["uint8", "float32", "float16"])
@pytest.mark.parametrize("last", [False, True])
def test_with_image_input_feeds_every_kind_of_image(
    tmp_path: Path, kind: Literal["uint8", "float32", "float16"], last: bool
) -> None:
    spec = GraphSpec(width=64, height=32, kind=kind, channels_last=last, scales_itself=kind == "uint8")
    path = write_model(tmp_path, spec)
    card = read_card(path)
    made = tiles_that_differ(3)
    engine = OnnxRuntimeEngine(EngineRequest(path.parent / card.file, card.input, 1, "f32"))
    (expected,) = engine.run(made)
    engine.close()
    (found,) = run(with_image_input(path.parent / card.file, card.input), made)
    assert np.abs(found - expected).max() <= 1e-3
    assert expected.max() > 1


def test_shipped_model_outputs_are_the_same_with_picture_input(tmp_path: Path) -> None:
    path = default_card_path()
    card = read_card(path)
    tiles = noise(2, card.input)
    plain = ort.InferenceSession(path.parent / card.file, providers=["CPUExecutionProvider"])
    expected = plain.run(None, {plain.get_inputs()[0].name: to_input(tiles, card.input)})
    found = run(with_image_input(path.parent / card.file, card.input), tiles)
    assert all((one == other).all() for one, other in zip(expected, found, strict=True))


@pytest.mark.parametrize("batch", ["n", 2])
def test_the_number_of_tiles_stays_open_or_fixed(tmp_path: Path, batch: int | str) -> None:
    model = with_image_input(write_copy(tmp_path / "copy.onnx", batch=batch), CARD)
    assert model.batch == (2 if batch == 2 else None)
    (picture,) = onnx.load_from_string(model.data).graph.input
    first = picture.type.tensor_type.shape.dim[0]
    assert (first.dim_value, first.dim_param) == ((2, "") if batch == 2 else (0, "n"))
    for count in (2,) if batch == 2 else (1, 5):
        assert run(model, noise(count, CARD))[0].shape == (count, 3, 32, 64)


def test_other_inputs_metadata_opset_and_names_stay(tmp_path: Path) -> None:
    spec = GraphSpec(layout="rtdetr", width=64, height=32, metadata={"names": "{0: 'red'}"})
    card = read_card(write_model(tmp_path, spec))
    before = onnx.load(tmp_path / card.file)
    model = with_image_input(tmp_path / card.file, card.input, {"orig_target_sizes"})
    after = onnx.load_from_string(model.data)
    onnx.checker.check_model(after)
    assert after.opset_import == before.opset_import
    assert after.metadata_props == before.metadata_props
    assert after.graph.output == before.graph.output
    assert [one for one in after.graph.input if one.name != model.image_input] == [
        one for one in before.graph.input if one.name != "images"
    ]
    tiles = noise(2, card.input)
    sizes = np.array([[64, 32]] * 2, np.int64)
    plain = ort.InferenceSession(tmp_path / card.file, providers=["CPUExecutionProvider"])
    expected = plain.run(None, {"images": to_input(tiles, card.input), "orig_target_sizes": sizes})
    for one, other in zip(expected, run(model, tiles, orig_target_sizes=sizes), strict=True):
        assert np.abs(one - other).max() <= 1e-6


def test_weights_in_files_of_their_own_are_found(tmp_path: Path) -> None:
    path = write_copy(tmp_path / "copy.onnx")
    model = onnx.load(path)
    model.graph.initializer.append(numpy_helper.from_array(np.full((1, 3, 32, 64), 2, np.float32), "two"))
    model.graph.node[0].CopyFrom(helper.make_node("Mul", ["images", "two"], ["same"]))
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    changed = with_image_input(path, CARD)
    assert len(changed.data) < 4000
    tiles = noise(1, CARD)
    assert (run(changed, tiles)[0] == 2 * to_input(tiles, CARD)).all()


def test_names_that_are_taken_are_not_taken_again(tmp_path: Path) -> None:
    path = write_copy(tmp_path / "copy.onnx")
    once = with_image_input(path, CARD.model_copy(update={"channels": "bgr"}))
    model = onnx.load(path)
    model.graph.output[0].name = model.graph.node[0].output[0] = once.image_input
    onnx.save(model, path)
    twice = with_image_input(path, CARD)
    assert twice.image_input != once.image_input
    onnx.checker.check_model(onnx.load_from_string(twice.data))


@pytest.mark.parametrize(
    ("kind", "opset", "card", "wrong"),
    [
        (TensorProto.INT32, 13, CARD, "as int32; export it with a float32 or uint8 input"),
        (TensorProto.FLOAT, 6, CARD, "has opset 6; export it with opset 7"),
        (TensorProto.FLOAT, 13, InputCard(width=32, height=32), r"the card says \(N, 3, 32, 32\)"),
    ],
)
def test_models_that_cannot_be_fed_so_are_refused(
    tmp_path: Path, kind: int, opset: int, card: InputCard, wrong: str
) -> None:
    with pytest.raises(ModelLoadError, match=wrong):
        with_image_input(write_copy(tmp_path / "copy.onnx", kind, opset=opset), card)


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"\x08\x99")
    with pytest.raises(ModelLoadError, match="not an ONNX file"):
        with_image_input(tmp_path / "broken.onnx", CARD)
    with pytest.raises(ModelLoadError, match="cannot be read"):
        with_image_input(tmp_path / "missing.onnx", CARD)


def test_half_precision_keeps_boxes_to_a_fraction_of_a_pixel() -> None:
    path = default_card_path()
    card = read_card(path)
    tiles = np.full((1, card.input.height, card.input.width, 3), 90, np.uint8)
    tiles[0, 100:140, 500:560] = (30, 60, 200)
    exact = run(with_image_input(path.parent / card.file, card.input), tiles)
    half = convert_to_float16(path.parent / card.file)
    weights = {one.data_type for one in half.graph.initializer if len(one.dims) == 4}
    assert weights == {TensorProto.FLOAT16}
    found = run(with_image_input(path.parent / card.file, card.input, model=half), tiles)
    assert half.graph.output[0].type.tensor_type.elem_type == TensorProto.FLOAT
    seen = exact[0][0, 4:].max(axis=0) > 0.1
    assert seen.any()
    off = np.abs(exact[0] - found[0])[0]
    assert off[:4, seen].max() < 0.3
    assert off[4:].max() < 0.01
    assert (exact[0] != found[0]).any()
