"""Computes areas of convex quadrilaterals, such as rotated boxes, and how much two of them overlap."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from detectors.geometry.arrays import DoubleArray
from detectors.geometry.boxes import Metric

# Pairs measured at a time: few enough that the arrays between the steps stay in the processor's cache.
CHUNK_PAIRS = 4096
# A common area up to this share of the box around both is rounding, where sides only touch.
NOTHING = 1e-12

_Quads = npt.NDArray[np.float32] | npt.NDArray[np.float64]


def quad_areas(quads: _Quads) -> DoubleArray:
    """Return float64 (K,): the areas of ``quads`` (float (K, 4, 2), corners in order, clockwise or not)."""
    # Half the cross product of the diagonals, which is what the shoelace formula comes to with four corners.
    corners = quads.astype(np.float64)
    one, two = corners[:, 2] - corners[:, 0], corners[:, 3] - corners[:, 1]
    area: DoubleArray = np.abs(one[:, 0] * two[:, 1] - one[:, 1] * two[:, 0]) / 2
    return area


def quad_overlaps(first: _Quads, second: _Quads, metric: Metric) -> DoubleArray:
    """Return how much each of ``first`` overlaps its partner of ``second`` (float (K, 4, 2), convex, corners in order).

    The corners may be clockwise or not. Returns float64 (K,) in 0..1; 0 where a quadrilateral has no area. Exact except
    for rounding of float64: common sides, corners that touch, and a figure inside the other are not special cases.
    """
    shares = np.empty(len(first))
    for begin in range(0, len(first), CHUNK_PAIRS):
        part = slice(begin, begin + CHUNK_PAIRS)
        shares[part] = _overlaps(first[part], second[part], metric)
    return shares


def _overlaps(first: _Quads, second: _Quads, metric: Metric) -> DoubleArray:
    area_one, area_two = quad_areas(first), quad_areas(second)
    smaller = np.minimum(area_one, area_two)
    inside = np.minimum(common_areas(first, second), smaller)
    whole = area_one + area_two - inside if metric == "iou" else smaller
    shares: DoubleArray = np.divide(inside, whole, out=np.zeros_like(inside), where=smaller > 0)
    return shares


def common_areas(first: _Quads, second: _Quads) -> DoubleArray:
    """Return float64 (K,): the areas that ``first`` (float (K, M, 2)) and ``second`` (float (K, L, 2)) share.

    Both are convex, their corners in order, clockwise or not; a corner may repeat. All pairs are computed together.

    The area of a figure is the sum over its sides of the area between the side and the x axis, negative where the side
    runs in the other direction. So the area that two figures share is the sum over all pairs of their sides of the area
    below both: the integral of the lower of two straight lines over the range of x that both sides cover. It has a
    closed form and, unlike the points where lines cross, changes only a little when a corner moves a little.
    """
    # Around a corner of the first, or large coordinates would cost digits. Pairs run fastest: (x or y, corner, pair).
    origin = first[:, :1].astype(np.float64)
    one = np.ascontiguousarray((first - origin).transpose(2, 1, 0))
    two = np.ascontiguousarray((second - origin).transpose(2, 1, 0))
    ours, theirs = _Sides.of(one), _Sides.of(two)
    total = np.zeros(len(first))
    for side in range(first.shape[1]):
        total += _below_both(ours.only(side), theirs).sum(axis=0)
    area: DoubleArray = np.abs(total)
    width = one[0].max(axis=0) - one[0].min(axis=0)
    height = np.maximum(np.abs(one[1]).max(axis=0), np.abs(two[1]).max(axis=0))
    area[area <= NOTHING * width * height] = 0.0
    return area


@dataclass(frozen=True, slots=True, eq=False)
class _Sides:
    """Holds the sides of figures with M corners, each array float64 (M, K) or, of one side only, (K,)."""

    x: DoubleArray
    """Where a side begins"""
    y: DoubleArray
    low: DoubleArray
    """The range of x that a side covers, ``low`` to ``high``"""
    high: DoubleArray
    slope: DoubleArray
    """Of y along x; 0 for an upright side, which covers no range"""
    sign: DoubleArray
    """1 where the side goes to the right, -1 to the left"""

    @classmethod
    def of(cls, corners: DoubleArray) -> _Sides:
        """Return the sides between ``corners`` (float64 (2, M, K))."""
        x, y = corners
        end_x, end_y = np.roll(corners, -1, axis=1)
        run = end_x - x
        slope = np.divide(end_y - y, run, out=np.zeros_like(run), where=run != 0)
        return cls(x, y, np.minimum(x, end_x), np.maximum(x, end_x), slope, np.sign(run))

    def only(self, side: int) -> _Sides:
        """Return one of the sides."""
        parts = (self.x, self.y, self.low, self.high, self.slope, self.sign)
        return _Sides(*(part[side] for part in parts))

    def height_at(self, x: DoubleArray) -> DoubleArray:
        """Return y at ``x`` on the sides, or on their lines."""
        height: DoubleArray = self.y + self.slope * (x - self.x)
        return height


def _below_both(one: _Sides, two: _Sides) -> DoubleArray:
    """Return float64 (L, K): the signed area from the x axis to the lower of side ``one`` ((K,)) and sides ``two``."""
    left, right = np.maximum(one.low, two.low), np.minimum(one.high, two.high)
    at_left, at_right = one.height_at(left), one.height_at(right)
    gap_left, gap_right = two.height_at(left) - at_left, two.height_at(right) - at_right
    # What two cuts off below one: a triangle where they cross, a trapezoid where two is lower all along; with the gaps
    # at both ends, only the negative ones above the line, both are (a + b)² / (|a| + |b|), and 0 where two is higher.
    lower = np.minimum(gap_left, 0) + np.minimum(gap_right, 0)
    gaps = np.abs(gap_left) + np.abs(gap_right)
    less = np.divide(lower * lower, gaps, out=np.zeros_like(gaps), where=gaps > 0)
    stretch = np.maximum(right - left, 0.0)
    area: DoubleArray = one.sign * two.sign * stretch * (at_left + at_right - less) / 2
    return area
