"""Checks corners of rotated boxes, the smallest box around points, and areas that polygons share."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.geometry.arrays import DoubleArray
from detectors.geometry.polygons import cut_along, polygon_areas, within_boxes
from detectors.geometry.quads import common_areas
from detectors.geometry.rotated_boxes import enclosing, smallest_around
from detectors.merging.rotated_union import box_around
from detectors.tiling.tiles import TileSpec, plan_tiles, quads_to_frame
from tests.pictures import Rectangle, corner_distance, quad_of

FAR = 20_000.0
rectangles = st.tuples(st.floats(38, 62), st.floats(38, 62), st.floats(10, 60), st.floats(4, 30), st.floats(-45, 134.9))


def polygon(rectangle: Rectangle) -> DoubleArray:
    return quad_of(rectangle)[None].astype(np.float64)


def sampled(*shapes: DoubleArray) -> float:
    """The area that convex, clockwise ``shapes`` ((1, M, 2)) share, counted on a grid of points from 0 to 100."""
    y, x = np.mgrid[0:100:0.25, 0:100:0.25] + 0.125
    inside = np.ones(x.shape, np.bool_)
    for shape in shapes:
        for (x0, y0), (x1, y1) in zip(shape[0].tolist(), np.roll(shape[0], -1, axis=0).tolist(), strict=True):
            inside &= (x1 - x0) * (y - y0) - (y1 - y0) * (x - x0) >= 0
    return float(inside.sum()) / 16


@given(one=rectangles, two=rectangles)
def test_common_area_equals_counted_points(one: Rectangle, two: Rectangle) -> None:
    first, second = polygon(one), polygon(two)
    shared = common_areas(first, second)[0]
    assert shared == pytest.approx(common_areas(second, first)[0], abs=1e-3)
    assert shared == pytest.approx(sampled(first, second), abs=8 + 0.02 * one[2] * one[3])


@given(one=rectangles, box=st.tuples(st.integers(0, 50), st.integers(0, 50), st.integers(5, 50), st.integers(5, 50)))
def test_the_part_in_a_tile_is_convex_and_has_the_right_area(one: Rectangle, box: tuple[int, int, int, int]) -> None:
    left, top, width, height = box
    tile = np.array([[left, top, left + width, top + height]], np.float64)
    part = within_boxes(polygon(one), tile)
    area = polygon_areas(part)[0]
    upright = tile[:, [[0, 1], [2, 1], [2, 3], [0, 3]]]
    assert area == pytest.approx(sampled(polygon(one), upright), abs=8 + 0.02 * one[2] * one[3])
    if area > 0:
        assert (part[0] >= tile[0, :2] - 1e-6).all()
        assert (part[0] <= tile[0, 2:] + 1e-6).all()


def test_polygons_that_touch_or_miss_share_nothing_and_inner_ones_all() -> None:
    one = polygon((50, 50, 40, 20, 30))
    assert common_areas(one, one)[0] == pytest.approx(800, abs=1e-3)
    assert common_areas(one, polygon((50, 50, 10, 6, 70)))[0] == pytest.approx(60, abs=1e-3)
    assert common_areas(one, polygon((150, 50, 10, 6, 70)))[0] == 0
    beside = one + np.array([-np.sin(np.pi / 6), np.cos(np.pi / 6)]) * 20
    assert common_areas(one, beside)[0] == pytest.approx(0, abs=1e-3)
    repeated = np.repeat(one, 2, axis=1)
    assert common_areas(repeated, one)[0] == common_areas(one, repeated[:, ::-1])[0] == pytest.approx(800, abs=1e-3)
    cut = within_boxes(one, np.array([[0.0, 0, 50, 100]]))
    assert common_areas(cut, one)[0] == pytest.approx(400, abs=1e-3)
    nothing = np.full((1, 5, 2), 50.0)
    assert (common_areas(one, nothing)[0], common_areas(nothing, one)[0]) == (0, 0)
    assert cut_along(np.empty((0, 4, 2)), np.empty((0, 2)), np.empty((0, 2))).shape == (0, 5, 2)
    assert common_areas(np.empty((0, 4, 2)), np.empty((0, 4, 2))).shape == (0,)


@given(one=rectangles)
def test_smallest_around_corners_returns_the_same_box_far_from_origin(one: Rectangle) -> None:
    quad = quad_of(one).astype(np.float64)
    inner = quad.mean(axis=0) + 0.3 * (quad - quad.mean(axis=0))
    points = np.concatenate((quad, inner)) + FAR
    found = smallest_around(points[::-1], quad_of(one))
    assert corner_distance(found, (quad + FAR).astype(np.float32), turns=(0,)) < 0.05


@pytest.mark.parametrize("degrees", [-45, -10, 0, 30, 80, 120])
def test_a_grown_box_keeps_its_front_and_its_corners_are_clockwise(degrees: float) -> None:
    # Longer across than along: the first side is the short one, and stays that.
    quad = quad_of((50, 50, 10, 40, degrees))
    grown = smallest_around((1.5 * (quad - 50) + 50).astype(np.float64), quad)
    assert corner_distance(grown, quad_of((50, 50, 15, 60, degrees)), turns=(0,)) < 0.01


def test_enclosing_boxes() -> None:
    quads = np.stack((quad_of((50, 50, 20, 10, 0)), quad_of((50, 50, 20, 10, 90))))
    assert enclosing(quads) == pytest.approx(np.array([[40, 45, 60, 55], [45, 40, 55, 60]]), abs=1e-4)
    assert enclosing(np.empty((0, 4, 2), np.float32)).shape == (0, 4)


@pytest.mark.parametrize("degrees", [-40, 0, 27, 45, 90, 130])
def test_parts_become_the_object_although_one_is_a_poor_box(degrees: float) -> None:
    whole = (300.0, 200.0, 160.0, 24.0, degrees)
    along = np.array([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))])
    near = quad_of((*(np.array(whole[:2]) - 30 * along), 100, 24, degrees))
    far = quad_of((*(np.array(whole[:2]) + 35 * along), 90, 24, degrees + 0.5))
    corner = quad_of(whole)[1]
    poor = quad_of((float(corner[0]), float(corner[1]), 12, 8, degrees + 45))
    quads = np.stack((near, far, poor))
    found, fit = box_around(quads.astype(np.float64), quads, near, 0.7)
    assert corner_distance(found, quad_of(whole), turns=(0,)) < 2
    assert fit > 0.9


@pytest.mark.parametrize("anchor", ["center", "top_left", "stretch"])
def test_corners_map_into_the_tile_and_back_exactly_and_are_not_clipped(anchor: str) -> None:
    spec = TileSpec(96, 64, 70, 50, 0.3, True, anchor)  # type: ignore[arg-type]  # a test's parameter
    plan = plan_tiles(131, 90, spec)
    index = np.arange(len(plan), dtype=np.int32)
    quads = np.stack([quad_of((60.0, 40.0, 90.0, 30.0, 10.0 * tile)) for tile in range(len(plan))])
    scales, origins = plan.scales()[:, None], plan.boxes[:, None, :2]
    inside = ((quads - origins) * scales + plan.placed[:, None, :2]).astype(np.float32)
    assert np.abs(quads_to_frame(plan, inside, index) - quads).max() < 1e-3
    assert quads_to_frame(plan, inside[:0], index[:0]).shape == (0, 4, 2)
