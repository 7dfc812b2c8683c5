"""Checks the YOLOv8 and YOLOX heads on hand-made outputs: what is read, left out, and an error."""

from __future__ import annotations

import numpy as np
import pytest

from detectors.errors import InferenceError
from detectors.geometry.arrays import Candidates, FloatArray
from detectors.heads.grids import anchor_count, grid
from detectors.heads.layouts.yolov8 import YoloV8Head
from detectors.heads.layouts.yolox import YoloXHead
from detectors.model.predict import MAX_CANDIDATES_PER_TILE, _best_per_tile


def yolov8(tiles: int) -> FloatArray:
    return np.zeros((tiles, 4 + 3, anchor_count(64, 32)), np.float32)


def yolox(tiles: int) -> FloatArray:
    return np.zeros((tiles, anchor_count(64, 32), 5 + 3), np.float32)


def test_grids_have_the_anchors_the_layouts_document() -> None:
    assert (anchor_count(640, 640), anchor_count(416, 416), anchor_count(512, 320)) == (8400, 3549, 3360)
    cells = grid(64, 32)
    assert len(cells) == anchor_count(64, 32) == 42
    assert cells[[0, 1, 8, 32, 41]].tolist() == [[0, 0, 8], [1, 0, 8], [0, 1, 8], [0, 0, 16], [1, 0, 32]]


def test_yolov8_reads_the_best_class_of_each_anchor_in_order() -> None:
    output = yolov8(3)
    output[2, :, 5] = [20, 10, 8, 4, 0.1, 0.6, 0.2]
    output[0, :, 40] = [30, 16, 10, 10, 0.5, 0.1, 0.1]
    output[0, :, 3] = [30, 16, 10, 10, 0.2, 0.2, 0.49]
    found = YoloV8Head(64, 32, 3).decode((output,), 0.5)
    assert found.boxes.tolist() == [[25, 11, 35, 21], [16, 8, 24, 12]]
    assert found.scores.tolist() == pytest.approx([0.5, 0.6])
    assert (found.classes.tolist(), found.tiles.tolist()) == ([0, 1], [0, 2])
    assert (found.boxes.dtype, found.scores.dtype, found.classes.dtype) == (np.float32, np.float32, np.int32)


def test_yolox_multiplies_scores_and_undoes_the_grid() -> None:
    output = yolox(2)
    # Anchor 34 is column 2, row 0 of stride 16.
    output[1, 34] = [0.5, 0.25, np.log(2), np.log(3), 0.8, 0.1, 0.2, 0.9]
    output[1, 35] = [0.5, 0.25, 0, 0, 0.8, 0.1, 0.2, 0.5]
    found = YoloXHead(64, 32, 3).decode((output,), 0.5)
    assert found.boxes[0].tolist() == pytest.approx([40 - 16, 4 - 24, 40 + 16, 4 + 24], abs=1e-4)
    assert found.scores.tolist() == pytest.approx([0.72])
    assert (found.classes.tolist(), found.tiles.tolist()) == ([2], [1])


def test_a_very_large_size_stays_finite() -> None:
    output = yolox(1)
    output[0, 0] = [0, 0, 500, 500, 1, 1, 0, 0]
    assert np.isfinite(YoloXHead(64, 32, 3).decode((output,), 0.5).boxes).all()


def test_nothing_above_the_threshold_is_empty_and_typed() -> None:
    for found in (
        YoloV8Head(64, 32, 3).decode((yolov8(2),), 0.1),
        YoloXHead(64, 32, 3).decode((yolox(2),), 0.1),
    ):
        assert (found.boxes.shape, found.scores.shape, found.classes.shape) == ((0, 4), (0,), (0,))


@pytest.mark.parametrize("place", [0, 4])
def test_outputs_with_nan_raise_inference_error(place: int) -> None:
    first, second = yolov8(1), yolox(1)
    first[0, 4:, 7] = second[0, 7, 4:] = 0.9
    first[0, place, 7] = second[0, 7, place] = np.nan
    with pytest.raises(InferenceError, match="not numbers"):
        YoloV8Head(64, 32, 3).decode((first,), 0.5)
    with pytest.raises(InferenceError, match="not numbers"):
        YoloXHead(64, 32, 3).decode((second,), 0.5)


def test_only_the_best_candidates_of_a_tile_are_kept() -> None:
    count = MAX_CANDIDATES_PER_TILE + 50
    scores = np.random.default_rng(0).permutation(count).astype(np.float32)
    found = Candidates(
        np.zeros((2 * count, 4), np.float32),
        np.concatenate((scores, scores)),
        np.zeros(2 * count, np.int32),
        np.repeat(np.array([3, 4], np.int32), count),
        np.zeros(2 * count, np.bool_),
    )
    kept = _best_per_tile(found)
    assert np.bincount(kept.tiles).tolist() == [0, 0, 0, MAX_CANDIDATES_PER_TILE, MAX_CANDIDATES_PER_TILE]
    assert kept.scores.min() == 50
