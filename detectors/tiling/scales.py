"""Chooses the scales at which a frame is cut: by the ground sampling distance, or by what a quick pass finds."""

from __future__ import annotations

import math

import numpy as np

from detectors.geometry.arrays import BoolArray, Candidates, DoubleArray, FloatArray, IndexArray, IntArray
from detectors.geometry.boxes import areas, shared_areas
from detectors.geometry.pairs import overlapping_pairs
from detectors.tiling.tiles import TilePlan

FINE, COARSE = 1.0, 0.5
COMPARED = (FINE, COARSE)
"""The scales that a quick pass compares."""
# What is chosen by the ground sampling distance. Magnifying more than twice adds no information.
_BY_GROUND = (1.0, 0.5, 2.0, 0.25, 0.125)
# The most tiles of the coarse scale that a quick pass processes, and at how many of them it compares both scales.
MOST_COARSE, MOST_COMPARED = 64, 6
# A scale is left out when the other one finds at least so many times more.
CLEARLY_MORE = 2.0
# A box at the fine scale is a part of a larger one at the coarse scale, not an object of its own, when this share of it
# is inside and it has at most this share of the area.
_INSIDE, _PART_OF = 0.8, 0.5


def scale_for_ground(gsd_m: float, known: tuple[float, float]) -> float:
    """Return the scale at which a frame of ``gsd_m`` metres per pixel shows objects as the model knows them.

    ``known``: from and to how many metres per pixel. At scale 0.5 a pixel shows twice as much ground. The scale is 1
    where that is within ``known``, else the one nearest to 1 of 2, 0.5, 0.25 and 0.125 that is; else the one that comes
    nearest.
    """

    def outside(scale: float) -> float:
        shown = math.log(gsd_m / scale)
        return max(0.0, math.log(known[0]) - shown, shown - math.log(known[1]))

    return min(_BY_GROUND, key=lambda scale: (round(outside(scale), 9), abs(math.log(scale))))


def coarse_tiles(plan: TilePlan) -> IndexArray:
    """Return the tiles that a quick pass begins with: all of the coarse scale, or MOST_COARSE evenly spread ones."""
    numbers = _of_scale(plan, COARSE)
    if len(numbers) <= MOST_COARSE:
        return numbers
    return numbers[np.linspace(0, len(numbers) - 1, MOST_COARSE).round().astype(np.int64)]


def compared_tiles(plan: TilePlan, processed: IndexArray, found: Candidates) -> IndexArray:
    """Return the tiles of the coarse scale at which both scales are compared: those of ``processed`` that show most.

    ``found``: the candidates of ``processed``. Where nothing is found, they are evenly spread.
    """
    sums = np.bincount(found.tiles, weights=found.scores, minlength=len(plan))[processed]
    if not sums.any():
        places = np.linspace(0, len(processed) - 1, min(MOST_COMPARED, len(processed))).round()
        return processed[places.astype(np.int64)]
    best: IndexArray = processed[np.argsort(-sums, kind="stable")[:MOST_COMPARED]]
    return np.sort(best)


def fine_tiles(plan: TilePlan, compared: IndexArray) -> IndexArray:
    """Return the tiles of the fine scale whose middle is in one of the tiles ``compared``."""
    numbers = _of_scale(plan, FINE)
    inside: IndexArray = numbers[_within(_middles(plan.boxes[numbers]), plan.boxes[compared])]
    return inside


def choose_scales(plan: TilePlan, compared: IndexArray, coarse: Candidates, fine: Candidates) -> tuple[float, ...]:
    """Return the scales that are worth processing: both, unless one finds clearly more where both were ``compared``.

    coarse, fine: the merged boxes of each scale. What counts is the sum of the scores of boxes whose middle is in the
    compared tiles; boxes of the fine scale that are parts of a larger box of the coarse one do not count.
    """
    ours, theirs = (each.take(_within(_middles(each.boxes), plan.boxes[compared])) for each in (coarse, fine))
    theirs = theirs.take(~_parts(theirs, ours))
    at_coarse, at_fine = float(ours.scores.sum()), float(theirs.scores.sum())
    if at_coarse >= CLEARLY_MORE * at_fine and at_coarse > 0:
        return (COARSE,)
    if at_fine >= CLEARLY_MORE * at_coarse and at_fine > 0:
        return (FINE,)
    return COMPARED


def _of_scale(plan: TilePlan, scale: float) -> IndexArray:
    return np.flatnonzero(plan.grids == np.float32(scale))


def _middles(boxes: FloatArray | IntArray) -> DoubleArray:
    corners = boxes.astype(np.float64)
    middles: DoubleArray = (corners[:, :2] + corners[:, 2:]) / 2
    return middles


def _within(points: DoubleArray, boxes: IntArray) -> BoolArray:
    """Return bool (K,): which ``points`` (float64 (K, 2)) are in one of ``boxes`` (int32 (N, 4), few)."""
    found = np.zeros(len(points), np.bool_)
    for box in boxes:
        found |= (points >= box[:2]).all(axis=1) & (points < box[2:]).all(axis=1)
    return found


def _parts(fine: Candidates, coarse: Candidates) -> BoolArray:
    found = np.zeros(len(fine), np.bool_)
    ours, theirs = fine.boxes.astype(np.float64), coarse.boxes.astype(np.float64)
    sizes, larger = areas(ours), areas(theirs)
    for one, two in overlapping_pairs(ours, theirs, *(np.zeros(len(each), np.int64) for each in (fine, coarse))):
        shared = shared_areas(ours[one], theirs[two])
        found[one[(shared > _INSIDE * sizes[one]) & (sizes[one] <= _PART_OF * larger[two])]] = True
    return found
