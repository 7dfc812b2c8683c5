"""Checks that boxes, points and scores are rounded as events have them, and stay valid."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from detectors.geometry.normalised import normalise_boxes, normalise_points, round_scores
from schemas.geometry import Box

STEP = 1e-6
sides = st.integers(1, 200_000)
shares = st.floats(0, 1, width=32)


def written_decimals(value: float) -> int:
    """How many decimals JSON shows of ``value``."""
    digits, _, exponent = repr(value).partition("e-")
    return len(digits.removesuffix(".0").partition(".")[2]) + int(exponent or 0)


@settings(deadline=None)
@given(width=sides, height=sides, box=st.tuples(shares, shares, shares, shares))
@example(width=100, height=100, box=(0.0, 0.0, 1e-30, 1e-30))
@example(width=100, height=100, box=(float(np.float32(1) - np.float32(2**-24)),) * 2 + (1.0, 1.0))
@example(width=200_000, height=1, box=(0.25, 0.5, 0.2500001, 0.5))
def test_a_rounded_box_is_valid_and_keeps_its_area(width: int, height: int, box: tuple[float, ...]) -> None:
    left, right = sorted((box[0], box[2]))
    top, bottom = sorted((box[1], box[3]))
    pixels = np.array([[left * width, top * height, right * width, bottom * height]], np.float32)
    exact = np.clip(pixels / np.array([width, height] * 2, np.float64), 0, 1)[0].tolist()
    x1, y1, x2, y2 = normalise_boxes(pixels, width, height)[0].tolist()
    assert Box(x1=x1, y1=y1, x2=x2, y2=y2)
    assert (x1 < x2) == (exact[0] < exact[2])
    assert (y1 < y2) == (exact[1] < exact[3])
    for value, before in zip((x1, y1, x2, y2), exact, strict=True):
        assert abs(value - before) <= 1.5 * STEP
        assert written_decimals(value) <= 6


def test_a_box_wider_than_a_step_is_rounded_to_the_nearest() -> None:
    boxes = np.array([[333, 250, 667, 750], [-5, -5, 2_000, 2_000]], np.float32)
    assert normalise_boxes(boxes, 999, 1_000).tolist() == [[0.333333, 0.25, 0.667668, 0.75], [0, 0, 1, 1]]


def test_no_boxes_stay_none() -> None:
    assert normalise_boxes(np.empty((0, 4), np.float32), 10, 10).shape == (0, 4)


@settings(deadline=None)
@given(width=sides, x=st.floats(-3, 4, width=32))
def test_points_keep_their_side_of_the_frame(width: int, x: float) -> None:
    pixels = np.array([[[x * width, 0.0]]], np.float32)
    found, y = normalise_points(pixels, width, 7)[0, 0].tolist()
    assert y == 0
    assert abs(found - float(pixels[0, 0, 0]) / width) <= 0.5 * STEP + 1e-15
    assert written_decimals(found) <= 6
    assert str(found) != "-0.0"


@settings(deadline=None)
@given(st.lists(st.floats(0, 1 + 2**-10, width=32), max_size=20))
def test_scores_keep_their_order_and_four_decimals(scores: list[float]) -> None:
    best_first = sorted(scores, reverse=True)
    found = round_scores(np.array(best_first, np.float32)).tolist()
    assert found == sorted(found, reverse=True)
    for score, before in zip(found, best_first, strict=True):
        assert 0 <= score <= 1
        assert score == pytest.approx(min(before, 1.0), abs=0.5001e-4)
        assert written_decimals(score) <= 4
