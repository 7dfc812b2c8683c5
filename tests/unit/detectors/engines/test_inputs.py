"""Checks that pixels reach each kind of image input as its graph needs them, or that the model is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from detectors.card.card import InputCard
from detectors.engines.inputs import require_colour_image
from detectors.engines.port import image_axes
from detectors.errors import ModelLoadError
from detectors.model.inspect import inspect_model, write_card
from detectors.model.loading import LoadRequest, load_model
from detectors.model.predict import Predictor
from detectors.settings import EngineKind
from standgale.testing.graphs import CLASS_NAMES, COLOURS_BGR, GraphSpec, build, write_model

NAMES = {"names": '{"0": "red", "1": "green", "2": "blue"}', "task": "detect", "stride": "32"}
BYTES = GraphSpec(kind="uint8", scales_itself=True, metadata=NAMES)
PATH = Path("model.onnx")


def found_by(card: Path, engine: EngineKind) -> tuple[list[str], list[float]]:
    """The names and corners of what a model finds of one green rectangle in a tile of 128 pixels."""
    image = np.zeros((128, 128, 3), np.uint8)
    image[20:61, 30:77] = COLOURS_BGR[1]
    with Predictor(load_model(LoadRequest(card, engine, 1))) as predictor:
        result = predictor.predict(image)
        return [CLASS_NAMES[index] for index in result.classes], result.boxes.ravel().tolist()


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
@pytest.mark.parametrize(
    "spec",
    [
        BYTES,
        replace(BYTES, mean=0.4, std=0.3),
        replace(BYTES, channels_last=True),
        replace(BYTES, kind="float32", mean=0.45, std=0.22),
        GraphSpec(kind="float16", channels_last=True, mean=0.4, std=0.3),
        GraphSpec(kind="float64"),
    ],
    ids=["uint8", "uint8-mean", "uint8-nhwc", "scales-itself", "float16-nhwc", "float64"],
)
def test_image_inputs_of_every_kind_find_the_same_box(tmp_path: Path, engine: EngineKind, spec: GraphSpec) -> None:
    names, corners = found_by(write_model(tmp_path, spec), engine)
    assert names == ["green"]
    assert corners == pytest.approx([30, 20, 77, 61], abs=0.5)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (BYTES, "pixels 0 to 255, centred letterbox padded with 114"),
        (replace(BYTES, mean=0.4, std=0.3, channels_last=True), "the file takes pixels as uint8 and scales them by"),
        (replace(BYTES, kind="float32"), "the file takes pixels as float32 and scales them by 0.003922 itself"),
        (GraphSpec(channels_last=True, metadata=NAMES), "pixels 0 to 1"),
    ],
)
def test_inspect_model_states_the_scale_that_finds_boxes(tmp_path: Path, spec: GraphSpec, words: str) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(build(spec))
    found = inspect_model(path, engine="onnxruntime")
    assert any(words in each for each in found.assumed)
    assert found_by(write_card(found, tmp_path), "openvino")[0] == ["green"]


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
@pytest.mark.parametrize(
    ("spec", "fields", "words"),
    [
        (BYTES, {"scale": 1 / 255}, "as uint8, whole numbers from 0 to 255.*write scale: 1 under input"),
        (BYTES, {"scale": 1.0, "mean": [0.5] * 3}, "as uint8"),
        (replace(BYTES, kind="float32"), {}, "scales its pixels itself .* and the card does so before"),
        (
            GraphSpec(mean=0.4, scales_itself=True),
            {"scale": 1.0, "mean": [0.4] * 3},
            "subtracts a mean from its pixels",
        ),
        (GraphSpec(kind="int32"), {}, "as int32; export it with images as float32 or uint8"),
        (GraphSpec(input_channels=1), {}, r"one channel \(grey\).*Grey models"),
        (GraphSpec(input_channels=4), {}, "other than three channels"),
    ],
)
def test_load_model_refuses_pixels_that_are_scaled_otherwise(
    tmp_path: Path, engine: EngineKind, spec: GraphSpec, fields: dict[str, object], words: str
) -> None:
    card = write_model(tmp_path, spec, input={"width": 128, "height": 128, **fields})
    with pytest.raises(ModelLoadError, match=words):
        load_model(LoadRequest(card, engine, 1))


@pytest.mark.parametrize(
    ("shape", "last"),
    [
        ((1, 3, 64, 96), False),
        ((None, None, None, None), False),
        ((None, 64, 96, 3), True),
        ((None, None, None, 3), True),
        ((1, 3, 64, 3), False),
    ],
)
def test_require_colour_image_finds_the_axis_of_channels(shape: tuple[int | None, ...], last: bool) -> None:
    assert require_colour_image(shape, PATH) == last


@pytest.mark.parametrize("shape", [(1, 1, 64, 96), (1, 64, 96, 1), (None, None, None, 1), (1, 3, 64), (1, 6, 64, 96)])
def test_require_colour_image_refuses_other_images(shape: tuple[int | None, ...]) -> None:
    with pytest.raises(ModelLoadError, match=r"grey|expected|three channels"):
        require_colour_image(shape, PATH)


def test_image_axes_of_another_size_name_the_axes_of_the_card() -> None:
    card = InputCard(width=96, height=64)
    assert image_axes([4, 64, 96, 3], card, PATH) == image_axes([4, None, None, 3], card, PATH, 2)
    assert image_axes([None, 3, None, None], card, PATH, 2).batch == 2
    with pytest.raises(ModelLoadError, match=r"the card says \(N, 64, 96, 3\)"):
        image_axes([4, 96, 64, 3], card, PATH)
