"""Checks heads of rotated boxes on hand-made outputs: what is read, what is left out, and what is an error."""

from __future__ import annotations

import math

import numpy as np
import pytest

from detectors.errors import InferenceError
from detectors.geometry.arrays import FloatArray
from detectors.heads.classes import ClassNumbers
from detectors.heads.first_run import why_implausible
from detectors.heads.layouts.obb import NmsInsideObbHead, YoloV8ObbHead
from tests.pictures import quad_of

ANCHORS = 42
SIZE = (64, 32)


def raw(tiles: int = 1, classes: int = 2) -> FloatArray:
    """Zeros but for the angles: those of an untrained place."""
    output = np.zeros((tiles, 5 + classes, ANCHORS), np.float32)
    output[:, -1] = 0.8
    return output


def finished(tiles: int = 1) -> FloatArray:
    return np.zeros((tiles, 9, 7), np.float32)


def test_the_width_is_turned_clockwise_as_seen_from_the_x_axis() -> None:
    output = raw(2)
    output[1, :, 7] = [30, 16, 20, 6, 0.2, 0.9, math.pi / 6]
    output[0, :, 3] = [30, 16, 20, 6, 0.7, 0.1, 0.0]
    output[0, :, 9] = [30, 16, 20, 6, 0.3, 0.4, 0.0]
    found = YoloV8ObbHead(*SIZE, 2).decode((output,), 0.5)
    assert found.quads is not None
    assert found.quads[0].tolist() == [[20, 13], [40, 13], [40, 19], [20, 19]]
    # y points down: the right end of the width is lower.
    right_end = found.quads[1][1:3].mean(axis=0)
    assert right_end.tolist() == pytest.approx([30 + 10 * math.cos(math.pi / 6), 16 + 5], abs=1e-4)
    assert found.quads[1] == pytest.approx(quad_of((30, 16, 20, 6, 30)), abs=1e-4)
    assert found.boxes[0].tolist() == [20, 13, 40, 19]
    assert found.boxes[1] == pytest.approx([*found.quads[1].min(axis=0), *found.quads[1].max(axis=0)])
    assert found.scores.tolist() == pytest.approx([0.7, 0.9])
    assert (found.classes.tolist(), found.tiles.tolist()) == ([0, 1], [0, 1])
    assert (found.quads.dtype, found.boxes.dtype, found.classes.dtype) == (np.float32, np.float32, np.int32)


@pytest.mark.parametrize("degrees", [-45, -20, 0, 45, 90, 134.9])
def test_corners_are_clockwise_as_seen(degrees: float) -> None:
    output = finished()
    output[0, 0] = [30, 16, 20, 6, 0.9, 0, math.radians(degrees)]
    quads = NmsInsideObbHead(ClassNumbers(1)).decode((output,), 0.5).quads
    assert quads is not None
    one, two = quads[0, 1] - quads[0, 0], quads[0, 2] - quads[0, 1]
    assert one[0] * two[1] - one[1] * two[0] == pytest.approx(120, abs=1e-2)
    assert np.linalg.norm(one) == pytest.approx(20, abs=1e-4)


def test_final_boxes_are_read_without_filling_rows_and_only_of_named_classes() -> None:
    output = finished(2)
    output[0, 0] = [30, 16, 20, 6, 0.9, 2, 0.5]
    output[0, 1] = [30, 16, 20, 6, 0.3, 1, 0.5]
    output[1, 8] = [10, 10, 4, 4, 0.0, 0, 0.0]
    everything = NmsInsideObbHead(ClassNumbers(3)).decode((output,), 0.0)
    assert (everything.classes.tolist(), everything.tiles.tolist()) == ([2, 1, 0], [0, 0, 1])
    some = NmsInsideObbHead(ClassNumbers(2, (2, 7))).decode((output,), 0.0)
    assert (some.classes.tolist(), some.scores.tolist()) == ([0], pytest.approx([0.9]))
    assert NmsInsideObbHead(ClassNumbers(3)).decode((output,), 0.5).classes.tolist() == [2]
    with pytest.raises(InferenceError, match=r"found class 2, the card has 2 classes"):
        NmsInsideObbHead(ClassNumbers(2)).decode((output,), 0.5)


def test_boxes_without_area_are_left_out() -> None:
    output = finished()
    output[0, 0] = [30, 16, -2, 6, 0.9, 0, 0.5]
    output[0, 1] = [30, 16, 20, 0, 0.9, 0, 0.5]
    output[0, 2] = [30, 16, 20, 6, 0.9, 0, 0.5]
    assert len(NmsInsideObbHead(ClassNumbers(1)).decode((output,), 0.5).scores) == 1


@pytest.mark.parametrize("fill", [0.0, 0.1])
def test_nothing_above_the_threshold_is_empty_and_typed(fill: float) -> None:
    low = raw(2)
    low[:, 4:6] = fill
    for found in (
        YoloV8ObbHead(*SIZE, 2).decode((low,), 0.5),
        NmsInsideObbHead(ClassNumbers(2)).decode((finished(2),), 0.0),
        NmsInsideObbHead(ClassNumbers(2)).decode((finished(2)[:, :0],), 0.0),
    ):
        assert found.quads is not None
        assert (found.quads.shape, found.boxes.shape, found.scores.shape) == ((0, 4, 2), (0, 4), (0,))
        assert (found.quads.dtype, found.boxes.dtype) == (np.float32, np.float32)
        assert (found.classes.dtype, found.tiles.dtype) == (np.int32, np.int32)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", range(7))
def test_outputs_that_are_not_finite_raise_inference_error(place: int, value: float) -> None:
    first, second = raw(), finished()
    first[0, :, 3] = [30, 16, 20, 6, 0.9, 0.1, 0.5]
    second[0, 0] = [30, 16, 20, 6, 0.9, 0, 0.5]
    first[0, place, 3] = second[0, 0, place] = value
    sizes, scores, classes = place in (2, 3), place in (4, 5), place == 5
    if np.isnan(value) or not (scores or (sizes and value < 0)):
        with pytest.raises(InferenceError, match=r"not numbers|infinite"):
            YoloV8ObbHead(*SIZE, 2).decode((first,), 0.5)
    if np.isnan(value) or classes or not (scores or (sizes and value < 0)):
        with pytest.raises(InferenceError, match=r"not numbers|infinite|found class"):
            NmsInsideObbHead(ClassNumbers(1)).decode((second,), 0.5)


def test_shapes_of_other_layouts_are_named() -> None:
    head = YoloV8ObbHead(1024, 1024, 15)
    assert head.mismatch([(1, 20, 21504)]) is None
    assert head.mismatch([(1, 19, 21504)]) == "yolov8_obb with 15 classes has one output (N, 20, 21504)"
    assert head.mismatch([(1, 20, 21504)] * 2) is not None
    assert NmsInsideObbHead(ClassNumbers(15)).mismatch([(4, 300, 7)]) is None
    assert NmsInsideObbHead(ClassNumbers(15)).mismatch([(4, 300, 6)]) == "nms_inside_obb has one output (N, boxes, 7)"


def outputs_of(rows: list[list[float]]) -> FloatArray:
    """Finished boxes on the second of the first two tiles."""
    output = np.zeros((2, 30, 7), np.float32)
    for place, row in enumerate(rows):
        output[1, place] = row
    return output


def test_values_that_are_not_angles_are_noticed_at_the_first_run() -> None:
    head, size = NmsInsideObbHead(ClassNumbers(2)), (640, 640)
    good = [[300, 300, 40, 20, 0.9, 0, 0.001 * row - 0.01] for row in range(25)]
    assert why_implausible(head, (outputs_of(good),), size) is None
    degrees = [[300, 300, 40, 20, 0.9, 0, 30.0 + row] for row in range(25)]
    assert "angles are from 30 to 54, not within a full turn in radians" in str(
        why_implausible(head, (outputs_of(degrees),), size)
    )
    one_wild = [*good[:-1], [300, 300, 40, 20, 0.9, 0, 40.0]]
    assert why_implausible(head, (outputs_of(one_wild),), size) is None
    negative = [[300, 300, -40, 20, 0.9, 0, 0.5] for _ in range(25)]
    assert "negative width or height" in str(why_implausible(head, (outputs_of(negative),), size))
    flat = [[300, 300, 40, 20, 0.9, 0, 0.0001 * row] for row in range(25)]
    assert "write the layout without _obb" in str(why_implausible(head, (outputs_of(flat),), size))
    assert why_implausible(head, (outputs_of([]),), size) is None
    endless = [[300, 300, 40, 20, 0.9, 0, np.inf]]
    assert "infinite" in str(why_implausible(head, (outputs_of(endless),), size))
