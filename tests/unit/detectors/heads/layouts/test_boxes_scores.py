"""Checks layouts whose boxes and scores are separate outputs: known boxes are found, and the card is written so."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from detectors.card.card import BoxesCard
from detectors.errors import ModelLoadError
from detectors.heads.classes import ClassNumbers
from detectors.heads.first_run import why_implausible
from detectors.heads.layouts.boxes_scores import BoxesScoresHead, guess_boxes
from detectors.heads.layouts.finished_parts import FinishedPartsHead, MmdetHead
from detectors.heads.layouts.objectness import ObjectnessHead
from detectors.heads.port import HeadRequest
from detectors.model.inspect import inspect_model, write_card
from detectors.model.loading import LoadRequest, load_model
from detectors.model.predict import Predictor
from standgale.testing.graphs import CLASS_NAMES, COLOURS_BGR, GraphSpec, build, write_model

NAMES = {"names": '["red", "green", "blue"]'}
WAYS = [
    BoxesCard(unit=unit, form=form, background=background)  # type: ignore[arg-type]  # product knows no literals
    for unit, form, background in product(("pixels", "shares"), ("corners", "centre"), ("none", "first", "last"))
]


def assert_finds_green(card: Path) -> None:
    image = np.zeros((128, 128, 3), np.uint8)
    image[20:61, 30:77] = COLOURS_BGR[1]
    with Predictor(load_model(LoadRequest(card, "onnxruntime", 1))) as predictor:
        result = predictor.predict(image)
    assert [CLASS_NAMES[index] for index in result.classes] == ["green"]
    assert np.abs(result.boxes[0] - [30, 20, 77, 61]).max() <= 1


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("boxes", WAYS, ids=lambda each: f"{each.unit}-{each.form}-{each.background}")
def test_inspect_model_finds_how_boxes_beside_scores_are_meant(tmp_path: Path, boxes: BoxesCard, turned: bool) -> None:
    path = tmp_path / "model.onnx"
    spec = GraphSpec("boxes_scores", boxes=boxes, turned=turned, metadata=NAMES)
    if boxes.background != "none":
        spec = replace(spec, scale=1.0, mean=127.0, std=128.0)
    path.write_bytes(build(spec))
    found = inspect_model(path, engine="onnxruntime")
    assert (found.card.layout, found.card.boxes) == ("boxes_scores", boxes)
    assert_finds_green(write_card(found, tmp_path))


@pytest.mark.parametrize("layout", ["tf_nms", "nms_parts", "mmdet"])
def test_inspect_model_finds_final_boxes_in_several_outputs(tmp_path: Path, layout: str) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(build(GraphSpec(layout, turned=True)))
    found = inspect_model(path, names=CLASS_NAMES, engine="onnxruntime")
    assert found.card.layout == layout
    assert_finds_green(write_card(found, tmp_path))


@pytest.mark.parametrize(
    ("spec", "boxes", "words"),
    [
        (BoxesCard(unit="shares"), {}, "write layout: boxes_scores and boxes: {unit: shares}"),
        (BoxesCard(), {"unit": "shares"}, "write boxes: {unit: pixels}"),
        (BoxesCard(form="centre"), {}, "end before they begin"),
        (BoxesCard(background="first"), {}, "write boxes: {background: first}, or last"),
        (BoxesCard(background="first"), {"background": "last"}, "the background is read as a class"),
    ],
)
def test_load_model_refuses_boxes_read_otherwise(
    tmp_path: Path, spec: BoxesCard, boxes: dict[str, str], words: str
) -> None:
    card = write_model(tmp_path, GraphSpec("boxes_scores", boxes=spec), boxes=boxes)
    with pytest.raises(ModelLoadError) as caught:
        load_model(LoadRequest(card, "onnxruntime", 1))
    assert words in str(caught.value)


def test_load_model_refuses_boxes_without_area(tmp_path: Path) -> None:
    card = write_model(tmp_path, GraphSpec("yolov5", fault="no_area"))
    with pytest.raises(ModelLoadError, match="no width or height although they have a score"):
        load_model(LoadRequest(card, "onnxruntime", 1))


def test_why_implausible_refuses_boxes_in_one_place_or_without_area_at_one_stride() -> None:
    head, size = ObjectnessHead.yolov5(640, 640, 1), (640, 640)
    random = np.random.default_rng(1)
    output = random.uniform(0.1, 0.9, (2, 25200, 6)).astype(np.float32)
    output[..., :2] *= 640
    output[..., 2:4] *= 90
    assert why_implausible(head, (output,), size) is None
    coarse = output.copy()
    coarse[:, 24000:, 2:4] = 0
    assert "no width or height" in str(why_implausible(head, (coarse,), size))
    one_place = output.copy()
    one_place[..., :2] = 0
    assert "in one place" in str(why_implausible(head, (one_place,), size))


def test_guess_boxes_without_names_takes_scores_with_sum_one_for_a_background() -> None:
    random = np.random.default_rng(1)
    scores = random.dirichlet((9, 1), (2, 400)).astype(np.float32)
    low = random.uniform(0, 0.5, (2, 400, 2))
    corners = np.concatenate((low, low + 0.2), axis=2).astype(np.float32)
    assert guess_boxes(corners, scores, None) == BoxesCard(unit="shares", background="first")
    assert guess_boxes(corners * 300, scores[:, :, ::-1], None) == BoxesCard(background="last")
    assert guess_boxes(corners, scores * 0.5, None) == BoxesCard(unit="shares")


def test_boxes_scores_head_finds_boxes_of_equal_shape_by_name() -> None:
    four = ClassNumbers(4)
    shapes = [(1, 9, 4), (1, 9, 4)]
    assert BoxesScoresHead(HeadRequest(64, 64, four, ("scores", "bboxes"))).mismatch(shapes) is None
    assert BoxesScoresHead(HeadRequest(64, 64, four, ("a", "b"))).mismatch(shapes) is not None
    assert BoxesScoresHead(HeadRequest(64, 64, four, ("a", "b"))).mismatch([(1, 9, 1, 4), (1, 9, 4)]) is None
    ids = ClassNumbers(2, (0, 7))
    assert BoxesScoresHead(HeadRequest(64, 64, ids, ("a", "b"))).mismatch([(1, 9, 8), (1, 9, 4)]) is None


def test_tf_nms_head_leaves_out_rows_beyond_the_number_and_other_outputs() -> None:
    names = ("raw_detection_boxes", "num_detections:0", "detection_classes", "detection_boxes", "x/detection_scores")
    head = FinishedPartsHead("tf_nms", HeadRequest(100, 200, ClassNumbers(1, (3,)), names))
    boxes = np.tile(np.array([0.1, 0.2, 0.3, 0.4], np.float32), (1, 3, 1))
    classes = np.array([[3, 1, 3]], np.float32)
    scores = np.array([[0.9, 0.8, 0.7]], np.float32)
    outputs = (boxes, np.array([2.0], np.float32), classes, boxes, scores)
    assert head.mismatch([each.shape for each in outputs]) is None
    found = head.decode(outputs, 0.5)
    assert found.boxes.ravel().tolist() == pytest.approx([20, 20, 40, 60])
    assert found.classes.tolist() == [0]


def test_mmdet_head_leaves_out_padding() -> None:
    head = MmdetHead(HeadRequest(64, 64, ClassNumbers(2), ("dets", "labels")))
    dets = np.array([[[1, 2, 3, 4, 0.9], [0, 0, 0, 0, 0], [5, 5, 9, 9, 0.8]]], np.float32)
    found = head.decode((dets, np.array([[1, 0, -1]], np.float32)), 0.0)
    assert (found.boxes.tolist(), found.classes.tolist()) == ([[1, 2, 3, 4]], [1])
