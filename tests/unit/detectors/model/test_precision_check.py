"""Checks which outputs count as different from those in f32."""

from __future__ import annotations

import numpy as np
import pytest

from detectors.geometry.arrays import Outputs
from detectors.heads.layouts.yolov8 import YoloV8Head
from detectors.model.precision_check import why_different


def yolov8(rows: list[tuple[float, float, float]]) -> Outputs:
    """One tile with boxes of 20 pixels at (x, y) with a score, of one class."""
    return (np.array([[[x, y, 20, 20, score] for x, y, score in rows]], np.float32).transpose(0, 2, 1),)


@pytest.mark.parametrize(
    ("other", "difference"),
    [
        ([(100, 100, 0.9), (300, 300, 0.4)], None),
        ([(100.2, 100, 0.91), (300, 300, 0.38)], None),
        ([(300, 300, 0.4), (100, 100, 0.9)], None),
        ([(100, 100, 0.85), (300, 300, 0.35)], "in the mean"),
        ([(100, 100, 0.9)], "in the mean"),
        ([(103, 100, 0.9), (300, 300, 0.4)], "boxes overlap"),
        ([(100, 100, 0.9), (300, 300, 0.4), (500, 500, 0.8)], "in the mean"),
        ([(100, 100, float("nan"))], "not numbers"),
    ],
)
def test_why_different_compares_detections_in_any_order(
    other: list[tuple[float, float, float]], difference: str | None
) -> None:
    head = YoloV8Head(640, 640, 1)
    found = why_different(head, yolov8([(100, 100, 0.9), (300, 300, 0.4)]), yolov8(other), 0.5)
    assert found is None if difference is None else difference in (found or "")


def test_why_different_reports_one_missing_detection_among_many() -> None:
    head = YoloV8Head(640, 640, 1)
    many = [(30.0 * n, 30.0 * m, 0.9) for n in range(1, 20) for m in range(1, 6)]
    assert why_different(head, yolov8(many), yolov8(many), 0.5) is None
    assert "a score differs from f32 by 0.90" in (why_different(head, yolov8(many), yolov8(many[1:]), 0.5) or "")
