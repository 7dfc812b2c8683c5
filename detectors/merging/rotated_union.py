"""Joins the pieces of an object that several tiles saw into one rotated box that fits their union best."""

from __future__ import annotations

import numpy as np

from detectors.geometry.arrays import DoubleArray, FloatArray
from detectors.geometry.rotated_boxes import corners_of, pointing_like, smallest_around

# Directions tried around a first guess, in degrees: parts give the direction of an object to a few degrees.
_AROUND_DEGREES = np.arange(-6.0, 6.5, 1.0)
# How many lines across the parts are looked at; their ends are known to a fraction of the distance of two lines.
_LINES = 96


def box_around(parts: DoubleArray, quads: FloatArray, like: FloatArray, end_share: float) -> tuple[FloatArray, float]:
    """Return the rotated box of ``parts`` (float64 (P, M, 2), convex), and how well it fits.

    quads: float32 (P, 4, 2), the boxes of the parts, whose directions are tried; like: (4, 2), the box whose first side
    gives the direction of the result's; end_share: the box ends where the union has this share (0..1) of its greatest
    length or width. A box around a corner of the object, which may be all that a tile sees of it, sticks out at its
    side, but not along all of it: the larger the share, the less it counts.

    Returns float32 (4, 2), clockwise as seen, and its IoU with the union of the parts.
    """
    # Near the origin, where no digits are lost.
    origin = parts.mean(axis=(0, 1))
    near = parts - origin
    directions = _directions(near, quads, smallest_around(near.reshape(-1, 2), like))
    fits = [_fitted(near, direction, end_share, fine=False)[1] for direction in directions]
    box, fit = _fitted(near, directions[int(np.argmax(fits))], end_share, fine=True)
    return pointing_like((box + origin).astype(np.float32), like), fit


def _directions(near: DoubleArray, quads: FloatArray, smallest: FloatArray) -> DoubleArray:
    """Return radians: those of the largest part and of the smallest box around all, and some around them."""
    sides = (near.max(axis=1) - near.min(axis=1)).prod(axis=1)
    firsts = np.stack([quad[1] - quad[0] for quad in (quads[int(np.argmax(sides))], smallest)])
    angles = np.arctan2(firsts[:, 1], firsts[:, 0]).astype(np.float64)
    around: DoubleArray = (angles[:, None] + np.radians(_AROUND_DEGREES)).ravel()
    return around


def _fitted(near: DoubleArray, direction: float, end_share: float, *, fine: bool) -> tuple[FloatArray, float]:
    """Return the rectangle of ``direction`` that fits the union of ``near`` (float64 (P, M, 2)), and its IoU with it.

    With ``fine`` its ends are where ``end_share`` puts them, to a fraction of a pixel.
    """
    cos, sin = np.cos(direction), np.sin(direction)
    lengthwise = near @ np.array([[cos, -sin], [sin, cos]])
    across = _ends(lengthwise[..., ::-1], (-np.inf, np.inf), end_share, fine=fine)
    along = _ends(lengthwise, across, end_share, fine=fine)
    area, inside = _area(lengthwise, (-np.inf, np.inf), (-np.inf, np.inf)), _area(lengthwise, along, across)
    size = (along[1] - along[0], across[1] - across[0])
    middle = np.array([sum(along) / 2, sum(across) / 2]) @ np.array([[cos, sin], [-sin, cos]])
    box = corners_of(*(np.array([value], np.float32) for value in (middle, size, direction)))[0]
    return box, inside / max(area + size[0] * size[1] - inside, 1e-9)


def _ends(polygons: DoubleArray, band: tuple[float, float], end_share: float, *, fine: bool) -> tuple[float, float]:
    """Return where along x the union of ``polygons`` (float64 (P, M, 2)) within ``band`` of y begins and ends."""
    low, high = float(polygons[..., 0].min()), float(polygons[..., 0].max())
    step = (high - low) / _LINES
    places = np.linspace(low + step / 2, high - step / 2, _LINES)
    lengths = _lengths(polygons, places, band)
    enough = end_share * float(lengths.max())
    reached = np.flatnonzero(lengths >= enough)
    first, last = float(places[reached[0]]), float(places[reached[-1]])
    if not fine:
        return first - step / 2, last + step / 2
    within = np.linspace(0.0, 1.0, _LINES) * step
    before, after = first - within[::-1], last + within
    return (
        float(before[np.argmax(_lengths(polygons, before, band) >= enough)]),
        float(after[::-1][np.argmax(_lengths(polygons, after[::-1], band) >= enough)]),
    )


def _area(polygons: DoubleArray, across: tuple[float, float], band: tuple[float, float]) -> float:
    """Return the area of the union of ``polygons`` (float64 (P, M, 2)), between ``across`` in x and ``band`` in y."""
    low = max(across[0], float(polygons[..., 0].min()))
    high = min(across[1], float(polygons[..., 0].max()))
    half = (high - low) / _LINES / 2
    places = np.linspace(low + half, high - half, _LINES)
    return float(_lengths(polygons, places, band).mean()) * (high - low)


def _lengths(polygons: DoubleArray, places: DoubleArray, band: tuple[float, float]) -> DoubleArray:
    """Return float64 (J,): how much of each line x = ``places`` (float64 (J,)) in ``band`` of y ``polygons`` cover."""
    starts, ends = polygons[:, :, None], np.roll(polygons, -1, axis=1)[:, :, None]
    crossing = (starts[..., 0] <= places) != (ends[..., 0] <= places)
    run = np.where(crossing, ends[..., 0] - starts[..., 0], 1.0)
    y = starts[..., 1] + (places - starts[..., 0]) / run * (ends[..., 1] - starts[..., 1])
    low = np.where(crossing, y, np.inf).min(axis=1).clip(*band)
    high = np.where(crossing, y, -np.inf).max(axis=1).clip(*band)
    order = np.argsort(low, axis=0)
    low, high = np.take_along_axis(low, order, axis=0), np.take_along_axis(high, order, axis=0)
    reached = np.maximum.accumulate(high, axis=0)
    before = np.concatenate((np.full((1, len(places)), -np.inf), reached[:-1]))
    covered: DoubleArray = np.maximum(high - np.maximum(low, before), 0.0).sum(axis=0)
    return covered
