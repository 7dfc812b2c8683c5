"""Computes areas of axis-aligned boxes, and how much two of them overlap (IoU, IoS)."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from detectors.geometry.arrays import DoubleArray

Metric = Literal["iou", "ios"]
"""iou: intersection over union; ios: intersection over the smaller of the two boxes."""

_Boxes = npt.NDArray[np.float32] | npt.NDArray[np.float64]


def areas(boxes: _Boxes) -> DoubleArray:
    """Return float64 (...,): the areas of ``boxes`` (float (..., 4) xyxy); 0 for a box whose corners are swapped."""
    sides = np.maximum(boxes[..., 2:].astype(np.float64) - boxes[..., :2], 0.0)
    area: DoubleArray = sides[..., 0] * sides[..., 1]
    return area


def longer_sides(boxes: _Boxes) -> DoubleArray:
    """Return float64 (N,): the longer side of each of ``boxes`` (float (N, 4) xyxy)."""
    sides: DoubleArray = (boxes[:, 2:].astype(np.float64) - boxes[:, :2]).max(axis=1, initial=0.0)
    return sides


def shared_areas(first: DoubleArray, second: DoubleArray) -> DoubleArray:
    """Return float64 (...,): the area that ``first`` and ``second`` share, per element; 0 where none.

    Both are float64 (..., 4) xyxy, of shapes that broadcast.
    """
    width = np.minimum(first[..., 2], second[..., 2]) - np.maximum(first[..., 0], second[..., 0])
    height = np.minimum(first[..., 3], second[..., 3]) - np.maximum(first[..., 1], second[..., 1])
    shared: DoubleArray = np.maximum(width, 0.0) * np.maximum(height, 0.0)
    return shared


def overlaps(first: _Boxes, second: _Boxes, metric: Metric) -> DoubleArray:
    """Return how much ``first`` and ``second`` (float (..., 4) xyxy, shapes that broadcast) overlap, per element.

    The result is float64 (...,) in 0..1; 0 where a box has no area.
    """
    one, two = first.astype(np.float64), second.astype(np.float64)
    inside = shared_areas(one, two)
    area_one, area_two = areas(one), areas(two)
    whole = area_one + area_two - inside if metric == "iou" else np.minimum(area_one, area_two)
    shares: DoubleArray = np.divide(inside, whole, out=np.zeros_like(inside), where=whole > 0)
    return shares


def iou_matrix(first: _Boxes, second: _Boxes) -> DoubleArray:
    """Return float64 (N, M): the IoU of each of ``first`` (N, 4) with each of ``second`` (M, 4), all xyxy."""
    return overlaps(first[:, None], second[None], "iou")
