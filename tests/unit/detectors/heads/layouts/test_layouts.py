"""Checks each further layout on hand-made outputs: what is read, what is left out, and what is an error."""

from __future__ import annotations

import numpy as np
import pytest

from detectors.errors import InferenceError
from detectors.geometry.arrays import FloatArray
from detectors.heads.classes import ClassNumbers
from detectors.heads.layouts.detr import RfDetrHead, RtDetrHead
from detectors.heads.layouts.nms_inside import NmsInsideHead
from detectors.heads.layouts.objectness import ObjectnessHead
from detectors.heads.port import HeadRequest


def rtdetr(classes: ClassNumbers, names: tuple[str, ...] = ("labels", "boxes", "scores")) -> RtDetrHead:
    return RtDetrHead(HeadRequest(64, 32, classes, names))


def rfdetr(classes: ClassNumbers, names: tuple[str, ...] = ("dets", "labels")) -> RfDetrHead:
    return RfDetrHead(HeadRequest(64, 32, classes, names))


def test_yolov5_has_three_anchors_per_cell_and_multiplies_scores() -> None:
    head = ObjectnessHead.yolov5(640, 640, 80)
    assert head.mismatch([(1, 25200, 85)]) is None
    assert "yolov5 with 80 classes has one output (N, 25200, 85)" in str(head.mismatch([(1, 8400, 85)]))
    small = ObjectnessHead.yolov5(64, 32, 2)
    output = np.zeros((2, 3 * 42, 7), np.float32)
    output[1, 100] = [20, 10, 8, 4, 0.5, 0.3, 0.9]
    output[0, 7] = [20, 10, 8, 4, 0.9, 0.4, 0.3]
    found = small.decode((output,), 0.4)
    assert found.boxes.tolist() == [[16, 8, 24, 12]]
    assert found.scores.tolist() == pytest.approx([0.45])
    assert (found.classes.tolist(), found.tiles.tolist()) == ([1], [1])


def test_decoded_yolox_has_one_anchor_per_cell_in_pixels() -> None:
    head = ObjectnessHead.yolox(64, 32, 1)
    assert head.mismatch([(4, 42, 6)]) is None
    assert head.mismatch([(4, 42, 6), (4, 42, 6)]) is not None
    output = np.zeros((1, 42, 6), np.float32)
    output[0, 41] = [20, 10, 8, 4, 0.8, 0.9]
    assert head.decode((output,), 0.5).boxes.tolist() == [[16, 8, 24, 12]]


def test_final_boxes_are_read_without_filling_rows() -> None:
    output = np.zeros((2, 5, 6), np.float32)
    output[0, 0] = [1, 2, 30, 20, 0.9, 2]
    output[0, 1] = [1, 2, 30, 20, 0.3, 1]
    output[1, 3] = [5, 6, 7, 8, 0.0, 0]
    head = NmsInsideHead(ClassNumbers(3))
    everything = head.decode((output,), 0.0)
    assert everything.boxes.tolist() == [[1, 2, 30, 20], [1, 2, 30, 20], [5, 6, 7, 8]]
    assert (everything.classes.tolist(), everything.tiles.tolist()) == ([2, 1, 0], [0, 0, 1])
    assert head.decode((output,), 0.5).scores.tolist() == pytest.approx([0.9])


def test_rtdetr_finds_its_outputs_by_name() -> None:
    labels = np.array([[1, 0], [0, 1]], np.float32)
    boxes = np.arange(16, dtype=np.float32).reshape(2, 2, 4)
    scores = np.array([[0.9, 0.1], [0.2, 0.8]], np.float32)
    straight = rtdetr(ClassNumbers(2)).decode((labels, boxes, scores), 0.5)
    turned = rtdetr(ClassNumbers(2), ("scores", "labels", "boxes")).decode((scores, labels, boxes), 0.5)
    for found in (straight, turned):
        assert found.boxes.tolist() == [[0, 1, 2, 3], [12, 13, 14, 15]]
        assert found.scores.tolist() == pytest.approx([0.9, 0.8])
        assert (found.classes.tolist(), found.tiles.tolist()) == ([1, 1], [0, 1])


def test_transformers_need_their_names_and_shapes() -> None:
    right = [(2, 9), (2, 9, 4), (2, 9)]
    assert rtdetr(ClassNumbers(2)).mismatch(right) is None
    assert "outputs labels (N, K)" in str(rtdetr(ClassNumbers(2), ("a", "b", "c")).mismatch(right))
    assert rtdetr(ClassNumbers(2)).mismatch([(2, 9), (2, 9, 5), (2, 9)]) is not None
    assert rfdetr(ClassNumbers(5)).mismatch([(2, 9, 4), (2, 9, 5)]) is None
    assert rfdetr(ClassNumbers(5), ("labels", "dets")).mismatch([(2, 9, 4), (2, 9, 5)]) is not None
    assert "its column as id" in str(rfdetr(ClassNumbers(5)).mismatch([(2, 9, 4), (2, 9, 91)]))
    assert rfdetr(ClassNumbers(2, (17, 90))).mismatch([(2, 9, 4), (2, 9, 91)]) is None
    assert "91 or more" in str(rfdetr(ClassNumbers(2, (17, 90))).mismatch([(2, 9, 4), (2, 9, 90)]))


def test_rfdetr_scales_shares_reads_logits_and_only_the_stated_columns() -> None:
    dets = np.zeros((1, 2, 4), np.float32)
    dets[0, 1] = [0.5, 0.5, 0.25, 0.5]
    labels = np.full((1, 2, 91), -9, np.float32)
    labels[0, 1, [2, 17, 90]] = [8.0, 1.0, 0.5]
    found = rfdetr(ClassNumbers(2, (90, 17))).decode((dets, labels), 0.5)
    assert found.boxes.tolist() == [[24, 8, 40, 24]]
    assert found.scores.tolist() == pytest.approx([1 / (1 + np.exp(-1))])
    assert found.classes.tolist() == [1]
    labels[0, 0, 17] = 1e30
    labels[0, 1, 17] = -1e30
    labels[0, 1, 90] = -1e30
    assert rfdetr(ClassNumbers(2, (90, 17))).decode((dets, labels), -1).scores.tolist() == pytest.approx([1, 0])


def test_a_class_the_card_lacks_is_an_error_unless_the_card_states_ids() -> None:
    values = np.array([0, 7, 2], np.float32)
    with pytest.raises(InferenceError, match=r"found class 7, the card has 3 classes \(0 to 2\)"):
        ClassNumbers(3).places(values)
    assert ClassNumbers(2, (7, 0)).places(values).tolist() == [1, 0, -1]
    assert ClassNumbers(3).places(np.empty(0, np.float32)).shape == (0,)
    with pytest.raises(InferenceError, match=r"found class 0\.5"):
        ClassNumbers(3).places(np.array([0.5], np.float32))


def test_boxes_of_classes_the_card_leaves_out_are_left_out() -> None:
    output = np.array([[[1, 2, 30, 20, 0.9, 2], [1, 2, 30, 20, 0.8, 5]]], np.float32)
    found = NmsInsideHead(ClassNumbers(1, (5,))).decode((output,), 0.5)
    assert (found.classes.tolist(), found.scores.tolist()) == ([0], pytest.approx([0.8]))
    labels, boxes, scores = output[:, :, 5], output[:, :, :4], output[:, :, 4]
    found = rtdetr(ClassNumbers(1, (5,))).decode((labels, boxes, scores), 0.5)
    assert (found.classes.tolist(), found.scores.tolist()) == ([0], pytest.approx([0.8]))


def numbers(*shape: int) -> FloatArray:
    return np.full(shape, 0.9, np.float32)


@pytest.mark.parametrize("place", range(6))
def test_final_boxes_with_nan_raise_inference_error(place: int) -> None:
    output = numbers(1, 3, 6)
    output[0, :, 5] = 0
    output[0, 1, place] = np.nan
    with pytest.raises(InferenceError, match="not numbers"):
        NmsInsideHead(ClassNumbers(1)).decode((output,), 0.5)


@pytest.mark.parametrize("broken", range(3))
def test_transformer_outputs_with_nan_raise_inference_error(broken: int) -> None:
    outputs = [np.zeros((1, 3), np.float32), numbers(1, 3, 4), numbers(1, 3)]
    outputs[broken][0, 1] = np.nan
    with pytest.raises(InferenceError, match="not numbers"):
        rtdetr(ClassNumbers(1)).decode(tuple(outputs), 0.5)
    queries = [numbers(1, 3, 4), numbers(1, 3, 2)]
    queries[broken % 2][0, 1, 1] = np.nan
    with pytest.raises(InferenceError, match="not numbers"):
        rfdetr(ClassNumbers(2)).decode(tuple(queries), 0.5)


def test_nothing_above_the_threshold_is_empty_and_typed() -> None:
    low = np.zeros((2, 3), np.float32)
    for found in (
        ObjectnessHead.yolov5(64, 32, 2).decode((np.zeros((2, 126, 7), np.float32),), 0.1),
        NmsInsideHead(ClassNumbers(2)).decode((np.zeros((2, 9, 6), np.float32),), 0.0),
        rtdetr(ClassNumbers(2)).decode((low, np.zeros((2, 3, 4), np.float32), low), 0.1),
        rfdetr(ClassNumbers(2)).decode((np.zeros((2, 3, 4), np.float32), np.full((2, 3, 2), -9, np.float32)), 0.1),
    ):
        assert (found.boxes.shape, found.scores.shape, found.classes.shape) == ((0, 4), (0,), (0,))
        assert (found.boxes.dtype, found.scores.dtype) == (np.float32, np.float32)
        assert (found.classes.dtype, found.tiles.dtype) == (np.int32, np.int32)


def test_a_score_that_overflowed_raises_inference_error() -> None:
    head = ObjectnessHead.yolov5(64, 64, 2)
    output = np.zeros((1, 3 * (64 + 16 + 4), 7), np.float32)
    output[0, 5] = (30, 30, 10, 10, np.inf, 0, 0)
    with pytest.raises(InferenceError, match="scores are not numbers"):
        head.decode((output,), 0.25)
