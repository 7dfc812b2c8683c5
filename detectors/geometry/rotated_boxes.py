"""Computes the corners of rotated boxes, the box that encloses them, and the smallest one around points."""

from __future__ import annotations

import cv2
import numpy as np

from detectors.geometry.arrays import DoubleArray, FloatArray

# Corners of a box of size 1 around the origin, clockwise as seen (y points down), from the upper left one on.
_UNIT = np.array([(-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)], np.float32)


def corners_of(centres: FloatArray, sizes: FloatArray, angles: FloatArray) -> FloatArray:
    """Return float32 (K, 4, 2): the corners of boxes of ``centres``, ``sizes`` (both (K, 2)) and ``angles`` ((K,)).

    An angle is in radians, from the x axis to the axis along the box's width; as y points down, a positive angle turns
    clockwise as seen. Ultralytics' models give -pi/4 to 3/4 pi, YOLO26 what it learnt; any angle works. The corners are
    clockwise as seen and begin with the one that is upper left before the box is turned. Input that is not finite gives
    corners that are not finite.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        cos, sin = np.cos(angles), np.sin(angles)
        turn = np.stack((np.stack((cos, sin), axis=1), np.stack((-sin, cos), axis=1)), axis=1)
        quads: FloatArray = ((_UNIT * sizes[:, None]) @ turn + centres[:, None]).astype(np.float32)
    return quads


def enclosing(quads: FloatArray) -> FloatArray:
    """Return float32 (K, 4) xyxy: the upright boxes that enclose ``quads`` (float32 (K, 4, 2))."""
    boxes: FloatArray = np.concatenate((quads.min(axis=1), quads.max(axis=1)), axis=1)
    return boxes


def smallest_around(points: DoubleArray, like: FloatArray) -> FloatArray:
    """Return float32 (4, 2): the rotated box of least area around ``points`` (float64 (P, 2), P >= 3).

    Its corners are clockwise as seen. Its first side is the one whose direction is nearest to that of the first side of
    ``like`` ((4, 2)), so that an object keeps its front when its box grows.
    """
    # Far from the origin single precision, all that OpenCV takes, would lose fractions of a pixel.
    origin = points.mean(axis=0)
    centre, size, degrees = cv2.minAreaRect((points - origin).astype(np.float32))
    quad = corners_of(
        np.array([centre], np.float32), np.array([size], np.float32), np.array([np.radians(degrees)], np.float32)
    )[0]
    return pointing_like((quad + origin).astype(np.float32), like)


def pointing_like(quad: FloatArray, like: FloatArray) -> FloatArray:
    """Return ``quad`` (float32 (4, 2)) from the corner whose side points most like the first side of ``like``.

    ``like`` is (4, 2) too.
    """
    front = like[1] - like[0]
    sides = np.roll(quad, -1, axis=0) - quad
    # A side without length has no direction.
    lengths = np.maximum(np.linalg.norm(sides, axis=1), 1e-6)
    placed: FloatArray = np.roll(quad, -int(np.argmax((sides @ front) / lengths)), axis=0)
    return placed
