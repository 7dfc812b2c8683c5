"""Normalises boxes and points to the frame, and rounds them and scores to the digits that events are written with."""

from __future__ import annotations

import numpy as np

from detectors.geometry.arrays import DoubleArray, FloatArray
from schemas.geometry import CONFIDENCE_DECIMALS, COORDINATE_DECIMALS

_STEPS = 10.0**COORDINATE_DECIMALS


def normalise_boxes(boxes: FloatArray, width: int, height: int) -> DoubleArray:
    """Return ``boxes`` (float32 (N, 4) xyxy, frame pixels) as float64 (N, 4) in 0..1 with COORDINATE_DECIMALS decimals.

    Sides are rounded to the nearest step. A box so narrow that both its sides are on one step becomes one step wide,
    so every box that has an area in the frame keeps one.
    """
    exact = np.clip(boxes / np.array((width, height) * 2, np.float64), 0.0, 1.0)
    steps = np.rint(exact * _STEPS)
    low, high = steps[:, :2], steps[:, 2:]
    high += (low == high) & (exact[:, :2] < exact[:, 2:])
    # At the right and lower edge there is no further step: there the other side moves.
    low -= high > _STEPS
    rounded: DoubleArray = np.minimum(steps, _STEPS) / _STEPS
    return rounded


def normalise_points(points: FloatArray, width: int, height: int) -> DoubleArray:
    """Return ``points`` (float32 (..., 2) x, y, frame pixels) as shares of the frame, float64, rounded as boxes are.

    Points outside the frame stay outside: they are below 0 or above 1.
    """
    shares: DoubleArray = np.round(points / np.array((width, height), np.float64), COORDINATE_DECIMALS)
    # Adding 0 turns the -0.0 of a point just outside the frame into 0.0.
    return shares + 0.0


def round_scores(scores: FloatArray) -> DoubleArray:
    """Return ``scores`` (float32 (N,)) as float64 (N,) in 0..1 with CONFIDENCE_DECIMALS decimals."""
    rounded: DoubleArray = np.clip(scores.astype(np.float64), 0.0, 1.0).round(CONFIDENCE_DECIMALS)
    return rounded
