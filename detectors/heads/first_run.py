"""Checks the outputs of the first run, on a blank and a noise tile, for signs that they are read the wrong way."""

from __future__ import annotations

import numpy as np

from detectors.errors import InferenceError
from detectors.geometry.arrays import FloatArray, ImageArray, Outputs, RawBoxes
from detectors.heads.layouts.boxes_scores import BoxesScoresHead
from detectors.heads.port import Head
from detectors.heads.rectangles import Rectangles, RotatedHead

# Rounding in float16 may give a little more than 1.
_HIGHEST_SCORE = 1.001
# Boxes that reach beyond the input are guesses about what is outside; ones of many times its size are misread.
_LARGEST_SIDE_OF_INPUT = 16.0
_FARTHEST_OF_INPUT = 8.0
# On a tile of noise some box in pixels exceeds this, and no box given as shares of the input does.
_LARGEST_SHARE = 2.0
# Many boxes that are all within this share of the input, at its top left, are offsets from grids read as pixels.
_CORNER_OF_INPUT = 0.05
_MANY_BOXES = 20
# The coarsest of three strides has 4.7 % of the anchors.
_ONE_STRIDE = 0.04
# So many boxes of a detector are all over the input, whatever it shows.
_MANY_PLACES, _ONE_PLACE = 100, 0.005
_SURE, _NEARLY_EVERYWHERE = 0.6, 0.95
# Angles are learnt modulo pi; ones beyond a full turn are degrees, or another number.
_LARGEST_ANGLE = 2 * np.pi
# The angles of an untrained place have any value; class scores are just above 0 where there is no object.
_NO_ANGLE = 0.01


def first_tiles(width: int, height: int, pad: int) -> ImageArray:
    """Return uint8 (2, height, width, 3): a tile all of ``pad``, and one of noise, the same in every process."""
    shape = (height, width, 3)
    noise = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    return np.stack((np.full(shape, pad, np.uint8), noise))


def why_implausible(head: Head, outputs: Outputs, size: tuple[int, int]) -> str | None:
    """Return why ``outputs`` (of :func:`first_tiles`) cannot be what ``head`` reads, or None without a reason.

    ``size``: width and height of the input in pixels. No boxes are no reason: a model with NMS inside may rightly find
    nothing on both tiles.
    """
    try:
        found = head.decode(outputs, -np.inf)
    except InferenceError as error:
        return str(error)
    if isinstance(head, RotatedHead):
        against = _of_rectangles(head.rectangles(outputs, -np.inf))
        if against is not None:
            return against
    if not len(found.scores):
        return None
    return _of_scores(found) or _of_sameness(outputs) or _of_boxes(found, size) or _of_background(head, outputs, found)


def _of_background(head: Head, outputs: Outputs, found: RawBoxes) -> str | None:
    """Return why a column of scores must be that of the background, which no detector finds nearly everywhere."""
    many = isinstance(head, BoxesScoresHead) and len(found.scores) >= _MANY_BOXES
    if not many or (found.scores > _SURE).mean() < _NEARLY_EVERYWHERE:
        return None
    return (
        "nearly every place has a sure object, also on the blank tile, so the background is read as a class: write "
        "boxes: {background: first}, or last, into the card"
    )


def _of_scores(found: RawBoxes) -> str | None:
    low, high = float(found.scores.min()), float(found.scores.max())
    if not (low >= 0.0 and high <= _HIGHEST_SCORE):
        return (
            f"scores are from {low:.3g} to {high:.3g}, not 0 to 1: "
            "it is not of the layout in its card, or was exported without the final sigmoid"
        )
    if high == 0.0:
        return "score 0 everywhere, a broken export (integer quantisation does this): export it again, at first in f32"
    return None


def _of_sameness(outputs: Outputs) -> str | None:
    if all(np.array_equal(output[0], output[1]) for output in outputs):
        return "a blank and a noise tile give the same outputs, a broken export: export it again"
    return None


def _in_one_place(boxes: FloatArray, scores: FloatArray, size: tuple[int, int]) -> bool:
    """Return whether many boxes with a score have their centres within a pixel or so, although the tiles differ."""
    centres = (boxes[scores > 0, :2] + boxes[scores > 0, 2:]) / 2
    if len(centres) < _MANY_PLACES:
        return False
    return bool((np.ptp(centres, axis=0) <= _ONE_PLACE * np.array(size)).all())


def _has_run_without_area(sides: FloatArray, scores: FloatArray) -> bool:
    """Return whether many boxes in a row have a score but no area, or most have: those of one stride, or of all."""
    empty = (sides <= 0).any(axis=1) & (scores > 0)
    if empty.sum() * 2 > (scores > 0).sum():
        return True
    edges = np.flatnonzero(np.diff(np.concatenate(([False], empty, [False])).astype(np.int8)))
    longest = int((edges[1::2] - edges[::2]).max(initial=0))
    return longest >= max(_MANY_BOXES, _ONE_STRIDE * len(scores) / 2)


def _of_rectangles(found: Rectangles) -> str | None:
    angles = found.angles
    if not len(angles):
        return None
    if (np.abs(angles) > _LARGEST_ANGLE).mean() > 0.5:
        return (
            f"angles are from {angles.min():.3g} to {angles.max():.3g}, not within a full turn in radians: "
            "the layout in its card reads other numbers as angles"
        )
    if (found.sizes < 0).any(axis=1).mean() > 0.5:
        return "most boxes have a negative width or height: the layout in its card reads other numbers as sizes"
    if len(angles) >= _MANY_BOXES and angles.min() >= 0.0 and angles.max() <= _NO_ANGLE:
        return (
            "every angle is 0 or slightly more, as class scores are: its boxes are not rotated; "
            "write the layout without _obb, and all its classes, into the card"
        )
    return None


def _of_boxes(found: RawBoxes, size: tuple[int, int]) -> str | None:
    boxes = found.boxes
    if not np.isfinite(boxes).all():
        return "boxes are infinite: its file is damaged, or the precision is too low for it"
    sides = boxes[:, 2:] - boxes[:, :2]
    if (sides < 0).any(axis=1).mean() > 0.5:
        return "most boxes end before they begin: the layout in its card reads other numbers as corners or sizes"
    if (sides > _LARGEST_SIDE_OF_INPUT * np.array(size)).any(axis=1).mean() > 0.5:
        return "most boxes are many times larger than the input: the layout in its card reads other numbers as sizes"
    if (np.abs(boxes[:, :2]) > _FARTHEST_OF_INPUT * np.array(size)).any(axis=1).mean() > 0.5:
        return (
            "most boxes are far outside the input: the layout in its card reads other numbers as places; where "
            "boxes and scores are two outputs write boxes: {unit: pixels}"
        )
    if _in_one_place(boxes, found.scores, size):
        return (
            "all boxes are in one place, a broken export (an older one loses its strides): export it again, with the "
            "exporter's newest version"
        )
    if _has_run_without_area(sides, found.scores):
        return (
            "many boxes in a row have no width or height although they have a score, a broken export (an older one "
            "loses its strides): export it again, with the exporter's newest version"
        )
    farthest = float(np.abs(boxes).max())
    if farthest <= _LARGEST_SHARE:
        return (
            "all boxes are within the first two pixels: they are shares of the input, the layout has pixels; "
            "where boxes and scores are two outputs write layout: boxes_scores and boxes: {unit: shares}"
        )
    if len(boxes) >= _MANY_BOXES and farthest <= _CORNER_OF_INPUT * min(size):
        return (
            "the numbers are grid offsets (layout yolox), not pixels, because all boxes would be in the top left corner"
        )
    return None
