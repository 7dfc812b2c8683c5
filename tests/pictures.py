"""Makes rotated rectangles for tests, draws them pixel by pixel and compares them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from detectors.geometry.arrays import FloatArray
from detectors.geometry.rotated_boxes import corners_of

Rectangle = tuple[float, float, float, float, float]
"""Centre x and y, width, height, and degrees clockwise as seen."""


def quad_of(rectangle: Rectangle) -> FloatArray:
    """Return the corners, float32 (4, 2)."""
    x, y, width, height, degrees = rectangle
    centre, size = np.array([[x, y]], np.float32), np.array([[width, height]], np.float32)
    return corners_of(centre, size, np.radians(np.array([degrees], np.float32)))[0]


def paint(image: NDArray[np.uint8], quad: FloatArray, colour: tuple[int, int, int]) -> None:
    """Fill the pixels of ``image`` (uint8 (h, w, 3)) whose centres are inside ``quad`` ((4, 2), clockwise as seen)."""
    y, x = np.mgrid[: image.shape[0], : image.shape[1]] + 0.5
    inside = np.ones(image.shape[:2], np.bool_)
    for (x0, y0), (x1, y1) in zip(quad.tolist(), np.roll(quad, -1, axis=0).tolist(), strict=True):
        inside &= (x1 - x0) * (y - y0) - (y1 - y0) * (x - x0) >= 0
    image[inside] = colour


def corner_distance(one: FloatArray, two: FloatArray, turns: tuple[int, ...] = (0, 2)) -> float:
    """Return the largest difference of a corner's x or y in pixels, over the allowed quarter ``turns``.

    After half a turn a rectangle is the same again.
    """
    return min(float(np.abs(np.roll(one, turn, axis=0) - two).max()) for turn in turns)
