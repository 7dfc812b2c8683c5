"""Separates boxes that are larger than their class's largest size on the ground, or smaller than any may be."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from detectors.card.card import ClassCard
from detectors.geometry.arrays import BoolArray, Candidates, DoubleArray
from detectors.geometry.boxes import areas, longer_sides
from detectors.geometry.quads import quad_areas

# Boxes are not exact, ground is not flat, and a box around a turned object is longer than the object.
TOLERANCE = 1.25
TOLERANCE_PX = 2.0


def largest_px(classes: Sequence[ClassCard], gsd_m: float | None) -> DoubleArray | None:
    """Return float64 (classes,): the longest side of each class in pixels of a frame with ``gsd_m`` metres per pixel.

    A tolerance of a quarter and two pixels is included; infinite for a class without ``max_size_m``. None where the
    ground sampling distance is unknown, or no class has a largest size: then no box is too large.
    """
    if gsd_m is None or all(one.max_size_m is None for one in classes):
        return None
    metres = np.array([np.inf if one.max_size_m is None else one.max_size_m for one in classes], np.float64)
    limits: DoubleArray = metres / gsd_m * TOLERANCE + TOLERANCE_PX
    return limits


def _longer_sides(candidates: Candidates) -> DoubleArray:
    """Return float64 (K,): the longer side of each of ``candidates`` in frame pixels; of rotated boxes their own."""
    if candidates.quads is None:
        return longer_sides(candidates.boxes)
    corners = candidates.quads.astype(np.float64)
    longest: DoubleArray = np.linalg.norm(corners[:, 1:3] - corners[:, 0:2], axis=2).max(axis=1, initial=0.0)
    return longest


def fits_size(candidates: Candidates, limits: DoubleArray) -> BoolArray:
    """Return bool (K,): whose longer side is at most their class's in ``limits`` (from ``largest_px``)."""
    fits: BoolArray = _longer_sides(candidates) <= limits[candidates.classes]
    return fits


def sorted_by_size(candidates: Candidates, limits: DoubleArray | None) -> tuple[Candidates, Candidates | None]:
    """Return those of ``candidates`` that fit ``limits`` (see ``fits_size``), and the others, None when all fit."""
    if limits is None:
        return candidates, None
    fits = fits_size(candidates, limits)
    return (candidates, None) if fits.all() else (candidates.take(fits), candidates.take(~fits))


def with_area(candidates: Candidates, least_px: float) -> Candidates:
    """Return those of ``candidates`` with at least ``least_px`` square pixels; of rotated boxes their own area."""
    if least_px <= 0:
        return candidates
    found = areas(candidates.boxes) if candidates.quads is None else quad_areas(candidates.quads)
    kept: BoolArray = found >= least_px
    return candidates if kept.all() else candidates.take(kept)
