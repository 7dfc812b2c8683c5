"""Checks overlaps of axis-aligned boxes with known values."""

from __future__ import annotations

import numpy as np
import pytest

from detectors.geometry.boxes import iou_matrix, overlaps

A, B, FAR = (0, 0, 10, 10), (20, 20, 30, 30), (50, 50, 60, 60)


def test_iou_of_half_shifted_box_is_a_third() -> None:
    overlap = iou_matrix(np.array([A, FAR], np.float32), np.array([(5, 0, 15, 10), A], np.float32))
    assert overlap == pytest.approx(np.array([[1 / 3, 1.0], [0.0, 0.0]]))


def test_iou_of_empty_boxes_is_zero_and_not_nan() -> None:
    point = np.array([(1, 1, 1, 1)], np.float32)
    assert iou_matrix(point, point).item() == 0.0


def test_matrices_of_known_boxes() -> None:
    one = np.array([[0, 0, 10, 10]], np.float32)
    two = np.array([[5, 0, 15, 10], [2, 2, 4, 4], [20, 20, 30, 30], [3, 3, 3, 8]], np.float32)
    assert iou_matrix(one, two)[0].tolist() == pytest.approx([50 / 150, 4 / 100, 0, 0])
    assert overlaps(one[:, None], two[None], "ios")[0].tolist() == pytest.approx([0.5, 1, 0, 0])
