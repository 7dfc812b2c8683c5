"""Computes areas of convex polygons, and cuts them along lines, many at once."""

from __future__ import annotations

import numpy as np

from detectors.geometry.arrays import DoubleArray

# Polygons are float64 (K, M, 2), corners x, y in order, clockwise as seen (y points down). One with fewer than M
# corners repeats its first; one without any is M times the same point, and has no area.


def polygon_areas(polygons: DoubleArray) -> DoubleArray:
    """Return float64 (K,): the areas of ``polygons`` (float64 (K, M, 2))."""
    x, y = polygons[..., 0], polygons[..., 1]
    # Around a corner of the polygon itself, or large coordinates would cost digits.
    x, y = x - x[:, :1], y - y[:, :1]
    turned = x * np.roll(y, -1, axis=1) - np.roll(x, -1, axis=1) * y
    area: DoubleArray = np.abs(turned.sum(axis=1)) / 2
    return area


def cut_along(polygons: DoubleArray, through: DoubleArray, along: DoubleArray) -> DoubleArray:
    """Return the parts of ``polygons`` (float64 (K, M, 2)) to the right of lines.

    A line goes ``through`` a point, ``along`` a direction (both float64 (K, 2)); right is meant as seen in that
    direction. Returns float64 (K, M + 1, 2). After Sutherland and Hodgman, "Reentrant polygon clipping", 1974.
    """
    ends = np.roll(polygons, -1, axis=1)
    side = _cross(along[:, None], polygons - through[:, None])
    end_side = np.roll(side, -1, axis=1)
    crossing = (side < 0) != (end_side < 0)
    share = np.divide(side, side - end_side, out=np.zeros_like(side), where=crossing)
    crossed = polygons + share[..., None] * (ends - polygons)
    # From each corner: the corner itself where it stays, then the point where its side crosses the line.
    count, corners = side.shape
    points = np.stack((polygons, crossed), axis=2).reshape(count, 2 * corners, 2)
    stays = np.stack((side >= 0, crossing), axis=2).reshape(count, 2 * corners)
    order = np.argsort(~stays, axis=1, kind="stable")[:, : corners + 1]
    kept = np.take_along_axis(points, order[..., None], axis=1)
    valid = np.take_along_axis(stays, order, axis=1)
    result: DoubleArray = np.where(valid[..., None], kept, kept[:, :1])
    return result


def within_boxes(polygons: DoubleArray, boxes: DoubleArray) -> DoubleArray:
    """Return the part of each of ``polygons`` (float64 (K, M, 2)) in its box of ``boxes`` (float64 (K, 4) xyxy).

    The result is float64 (K, M + 4, 2).
    """
    corners = boxes[:, [[0, 1], [2, 1], [2, 3], [0, 3]]]
    for start, end in zip(corners.swapaxes(0, 1), np.roll(corners, -1, axis=1).swapaxes(0, 1), strict=True):
        polygons = cut_along(polygons, start, end - start)
    return polygons


def _cross(one: DoubleArray, two: DoubleArray) -> DoubleArray:
    """Return the cross product of vectors (float64 (..., 2)); positive where ``two`` points to the right of ``one``."""
    product: DoubleArray = one[..., 0] * two[..., 1] - one[..., 1] * two[..., 0]
    return product
