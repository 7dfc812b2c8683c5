"""Checks which boxes count as different from those in f32, and when there are too few to compare."""

from __future__ import annotations

import numpy as np
import pytest

from detectors.geometry.arrays import Outputs
from detectors.heads.layouts.yolov8 import YoloV8Head
from detectors.model.precision_check import why_different, why_unmeasured

HEAD = YoloV8Head(640, 640, 1)
Rows = list[tuple[float, float, float]]
MANY: Rows = [(30.0 * n, 60.0 * m, 0.9 - 0.01 * n) for n in range(1, 20) for m in range(1, 6)]


def yolov8(rows: Rows) -> Outputs:
    """One tile with boxes of 20 pixels at (x, y) with a score, of one class."""
    return (np.array([[[x, y, 20, 20, score] for x, y, score in rows]], np.float32).transpose(0, 2, 1),)


@pytest.mark.parametrize(
    ("other", "difference"),
    [
        (MANY, None),
        (MANY[::-1], None),
        ([(x, y, score - 0.04) for x, y, score in MANY], None),
        ([(x + 0.3, y, score) for x, y, score in MANY], None),
        (MANY[1:], "a box that f32 finds with 0.89 has 0.00, so that boxes are lost at a confidence of 0.84"),
        ([(30, 60, 0.8), *MANY[1:]], "a box that f32 finds with 0.89 has 0.80"),
        ([(30, 60, 0.99), *MANY[1:]], "a box that has 0.89 in f32 is found with 0.99, so that boxes are gained"),
        ([*MANY, (600, 600, 0.6)], "a box that has 0.00 in f32 is found with 0.60"),
        # Neither box reaches the confidence by the margin.
        ([*MANY, (600, 600, 0.5)], None),
        ([(x + 1.5, y, score) for x, y, score in MANY], "boxes overlap those of f32 by 0.86"),
        ([(30, 60, float("nan")), *MANY[1:]], "not numbers"),
    ],
)
def test_why_different_compares_boxes_from_the_confidence_up(other: Rows, difference: str | None) -> None:
    found = why_different(HEAD, yolov8(MANY), yolov8(other), 0.5)
    assert found is None if difference is None else difference in (found or "")


def test_why_different_compares_lower_scores_where_there_are_few_boxes() -> None:
    few: Rows = [(30.0 * n, 60.0, 0.3) for n in range(1, 15)]
    changed = [(30.0, 60.0, 0.2), *few[1:]]
    assert "lost at a confidence of 0.25" in str(why_different(HEAD, yolov8(few), yolov8(changed), 0.6))
    assert why_different(HEAD, yolov8([*MANY, *few]), yolov8([*MANY, *few]), 0.6) is None


@pytest.mark.parametrize(("rows", "measured"), [(MANY, True), (MANY[:9], False), ([(30, 60, 0.05)], False)])
def test_why_unmeasured_needs_ten_boxes(rows: Rows, measured: bool) -> None:
    found = why_unmeasured(HEAD, yolov8(rows), 0.5)
    assert (found is None) == measured
    assert measured or "could not be compared" in str(found)


def test_why_different_of_outputs_without_boxes_is_none() -> None:
    nothing = yolov8([(30, 60, 0.01)])
    assert why_different(HEAD, nothing, nothing, 0.5) is None
