"""Compares overlaps of quadrilaterals with exact arithmetic in fractions."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.geometry import quads
from detectors.geometry.arrays import FloatArray
from detectors.geometry.boxes import Metric, overlaps
from detectors.geometry.rotated_boxes import corners_of
from tests.harnesses.reference_merging import clipped, polygon_area

# Of shares from 0 to 1; float64 has some 1e-16 to lose with each of a hundred steps.
EXACT = 1e-9
METRICS: tuple[Metric, ...] = ("iou", "ios")


def exact(one: FloatArray, two: FloatArray) -> dict[Metric, float]:
    """The shares that two quadrilaterals overlap, without any rounding before the end."""
    first, second = (fractions(quad) for quad in (one, two))
    sizes = [polygon_area(first), polygon_area(second)]
    if min(sizes) == 0:
        return {"iou": 0.0, "ios": 0.0}
    inside = polygon_area(clipped(first, second))
    return {"iou": float(inside / (sum(sizes) - inside)), "ios": float(inside / min(sizes))}


def fractions(quad: FloatArray) -> list[tuple[Fraction, Fraction]]:
    """The corners, clockwise as seen."""
    corners = [(Fraction(float(x)), Fraction(float(y))) for x, y in quad]
    return corners if polygon_area(corners) >= 0 else corners[::-1]


def assert_exact(one: FloatArray, two: FloatArray) -> None:
    shares = [exact(a, b) for a, b in zip(one, two, strict=True)]
    for metric in METRICS:
        found = quads.quad_overlaps(one, two, metric)
        wanted = np.array([share[metric] for share in shares])
        assert np.abs(found - wanted).max() <= EXACT
        assert ((found == 0) == (wanted == 0)).all()
        assert (found <= 1).all()


def rectangles(seed: int, count: int, spread: float = 30.0, thinnest: float = 1.0) -> FloatArray:
    rng = np.random.default_rng(seed)
    return corners_of(
        rng.uniform(0, spread, (count, 2)).astype(np.float32),
        rng.uniform(thinnest, 40, (count, 2)).astype(np.float32),
        rng.uniform(-4, 4, count).astype(np.float32),
    )


def test_rotated_boxes() -> None:
    assert_exact(rectangles(1, 1000), rectangles(2, 1000))


def test_rotated_boxes_far_from_the_origin() -> None:
    far = np.float32(20_000)
    assert_exact(rectangles(1, 300) + far, rectangles(2, 300) + far)


def test_thin_rotated_boxes() -> None:
    one, two = rectangles(3, 500), rectangles(4, 500)
    for thin in (one[:250], two[100:350]):
        thin[:, 2:] = thin[:, 1::-1] + (thin[:, 2:] - thin[:, 1::-1]) * np.float32(0.01)
    assert_exact(one, two)


def test_quad_overlaps_of_equal_quads_is_one_for_every_corner_order() -> None:
    one = rectangles(5, 300)
    for shift in range(4):
        for step in (1, -1):
            again = np.roll(one, shift, axis=1)[:, ::step]
            for metric in ("iou", "ios"):
                assert quads.quad_overlaps(one, again, metric) == pytest.approx(np.ones(300), abs=EXACT)


def test_boxes_turned_by_next_to_nothing() -> None:
    rng = np.random.default_rng(6)
    centres, sizes = (rng.uniform(5, 40, (500, 2)).astype(np.float32) for _ in range(2))
    angles = rng.uniform(-4, 4, 500)
    nearly = angles + 10.0 ** rng.uniform(-9, -2, 500)
    assert_exact(*(corners_of(centres, sizes, angle.astype(np.float32)) for angle in (angles, nearly)))


def test_a_box_within_the_other() -> None:
    outer = rectangles(8, 300, thinnest=10)
    middle = outer.mean(axis=1, keepdims=True)
    inner = (middle + (rectangles(9, 300, spread=0.1) * np.float32(0.02))).astype(np.float32)
    assert quads.quad_overlaps(outer, inner, "ios") == pytest.approx(np.ones(300), abs=EXACT)
    shares = quads.quad_areas(inner) / quads.quad_areas(outer)
    assert quads.quad_overlaps(outer, inner, "iou") == pytest.approx(shares, abs=EXACT)


def test_sides_and_corners_that_only_touch_share_nothing() -> None:
    for angle in np.linspace(0, 6, 40):
        square = corners_of(np.zeros((1, 2), np.float32), np.full((1, 2), 8, np.float32), np.array([angle], np.float32))
        for corner in range(4):
            along = square[:, (corner + 1) % 4] - square[:, corner]
            # Exact steps, so that a neighbour begins where this one ends.
            along = np.round(along * 16) / np.float32(16)
            first = np.stack((square[:, 0], square[:, 0] + along), axis=1)
            across = np.stack((-along[..., 1], along[..., 0]), axis=-1)
            one = np.concatenate((first, (first + across[:, None])[:, ::-1]), axis=1)
            assert_exact(one, one + along[:, None])
            assert_exact(one, one + along[:, None] + across[:, None])


def test_convex_quadrilaterals_that_are_not_rectangles() -> None:
    rng = np.random.default_rng(10)
    turns = np.sort(rng.uniform(0, 2 * np.pi, (2, 1500, 4)), axis=2)
    # Corners on an ellipse are convex.
    around = np.stack((np.cos(turns) * 9, np.sin(turns) * 17), axis=3) + rng.uniform(0, 9, (2, 1500, 1, 2))
    one, two = around.astype(np.float32)
    assert_exact(one[:700], two[:700])


@given(
    seed=st.integers(0, 2**32 - 1),
    step=st.sampled_from([1.0, 0.5, 2.0]),
)
@settings(max_examples=150)
def test_corners_on_a_grid_share_sides_lines_and_corners(seed: int, step: float) -> None:
    rng = np.random.default_rng(seed)
    start = rng.integers(0, 6, (2, 8, 1, 2))
    side = rng.integers(-4, 5, (2, 8, 2))
    across = np.stack((-side[..., 1], side[..., 0]), axis=-1)
    ends = np.stack((np.zeros_like(side), side, side + across, across), axis=2)
    one, two = ((start + ends) * step).astype(np.float32)
    assert_exact(one, two)


def test_upright_quads_overlap_as_boxes_do() -> None:
    rng = np.random.default_rng(11)
    corner = rng.uniform(0, 20, (2, 400, 2))
    boxes = np.concatenate((corner, corner + rng.uniform(1, 20, (2, 400, 2))), axis=2).astype(np.float32)
    one, two = boxes[..., [[0, 1], [2, 1], [2, 3], [0, 3]]]
    for metric in ("iou", "ios"):
        assert quads.quad_overlaps(one, two, metric) == pytest.approx(overlaps(*boxes, metric), abs=EXACT)


def test_quads_without_area_overlap_nothing() -> None:
    line = np.array([[[0, 0], [8, 8], [8, 8], [0, 0]]], np.float32)
    point = np.full((1, 4, 2), 4, np.float32)
    square = np.array([[[0, 0], [8, 0], [8, 8], [0, 8]]], np.float32)
    for one in (line, point):
        for metric in ("iou", "ios"):
            assert quads.quad_overlaps(one, square, metric).tolist() == [0.0]
            assert quads.quad_overlaps(square, one, metric).tolist() == [0.0]
            assert quads.quad_overlaps(one, one, metric).tolist() == [0.0]
    assert quads.quad_areas(np.concatenate((line, point, square))).tolist() == [0, 0, 64]


def test_more_pairs_than_one_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = rectangles(12, 100), rectangles(13, 100)
    whole = quads.quad_overlaps(one, two, "iou")
    monkeypatch.setattr(quads, "CHUNK_PAIRS", 7)
    assert quads.quad_overlaps(one, two, "iou").tolist() == whole.tolist()
    assert quads.quad_overlaps(one[:0], two[:0], "iou").shape == (0,)
