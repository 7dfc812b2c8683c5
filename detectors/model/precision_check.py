"""Compares the boxes that a model finds in a lower precision, or on another engine, with those in f32."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from detectors.errors import InferenceError
from detectors.geometry.arrays import Candidates, FloatArray, Outputs
from detectors.geometry.boxes import iou_matrix
from detectors.heads.port import Head
from detectors.merging.merge import suppress_within_tiles

MARGIN = 0.05
"""A box may be gained or lost only where its score is within this much of the confidence: rounding moves it there."""
MEAN_IOU = 0.93
"""The least mean overlap of the boxes that both find. Bf16 leaves 0.98 to 0.997; half a pixel on a box of 16 leaves
0.88."""
FEWEST_BOXES = 10
"""With fewer boxes on the sample tiles a comparison shows nothing."""

# Where a model finds few boxes at its confidence, those below count too, down to this score.
_LOWEST_CONFIDENCE = 0.1
_ENOUGH_BOXES = 40
# Boxes of one class with at least this overlap are the same.
_SAME_IOU = 0.5
_SAME_TILE_IOU = 0.5


def why_different(head: Head, exact: Outputs, other: Outputs, confidence: float) -> str | None:
    """Return why ``other`` is too far from ``exact`` (outputs for the same tiles, the latter in f32), or None.

    Boxes are compared after suppression, at every confidence from ``confidence`` up: at none of them may either one
    have a box, with a score of MARGIN more, that the other one lacks. Where there are few boxes, lower confidences
    count too. Two outputs without boxes are equal; see :func:`why_unmeasured`.
    """
    try:
        one, two = _boxes(head, exact), _boxes(head, other)
    except InferenceError as error:
        return str(error)
    least = _least(one, confidence)
    ious: list[float] = []
    for ours, theirs, verb in ((one, two, "lost"), (two, one, "gained")):
        for score, found, iou in _partners(ours, theirs, least + MARGIN):
            if found < score - MARGIN:
                return (
                    f"a box that f32 finds with {score:.2f} has {found:.2f}"
                    if verb == "lost"
                    else f"a box that has {found:.2f} in f32 is found with {score:.2f}"
                ) + f", so that boxes are {verb} at a confidence of {score - MARGIN:.2f}"
            ious.append(iou)
    if ious and not float(np.mean(ious)) >= MEAN_IOU:
        return f"boxes overlap those of f32 by {np.mean(ious):.2f} in the mean, the limit is {MEAN_IOU}"
    return None


def why_unmeasured(head: Head, exact: Outputs, confidence: float) -> str | None:
    """Return why ``exact`` (outputs in f32 for the sample tiles) has too little to compare with, or None."""
    try:
        found = _boxes(head, exact)
    except InferenceError as error:
        return str(error)
    count = int((found.scores >= _least(found, confidence) + MARGIN).sum())
    if count >= FEWEST_BOXES:
        return None
    return (
        f"its boxes could not be compared with those of f32: the model finds {count} on the drawn tiles, "
        f"{FEWEST_BOXES} are needed; name the precision in the card to use it anyway"
    )


def _boxes(head: Head, outputs: Outputs) -> Candidates:
    """Return the boxes in ``outputs`` after suppression within each tile. Raises InferenceError for no numbers."""
    raw = head.decode(outputs, _LOWEST_CONFIDENCE / 2)
    cut = np.zeros(len(raw.scores), np.bool_)
    return suppress_within_tiles(
        Candidates(raw.boxes, raw.scores, raw.classes, raw.tiles, cut, raw.quads), _SAME_TILE_IOU, class_aware=True
    )


def _least(found: Candidates, confidence: float) -> float:
    """Return the confidence from which boxes are compared: lower than ``confidence`` where it leaves too few."""
    scores = np.sort(found.scores)[::-1]
    if len(scores) == 0:
        return confidence
    enough = float(scores[min(_ENOUGH_BOXES, len(scores)) - 1]) - MARGIN
    return max(_LOWEST_CONFIDENCE, min(confidence, enough))


def _partners(ours: Candidates, theirs: Candidates, least: float) -> Iterator[tuple[float, float, float]]:
    """Yield for each of ``ours`` with a score of at least ``least``: its score, the other's, and their overlap.

    The other one is the box of its class and tile with the best score of those that overlap it; 0 without one.
    """
    for row in np.flatnonzero(ours.scores >= least):
        rivals = np.flatnonzero((theirs.tiles == ours.tiles[row]) & (theirs.classes == ours.classes[row]))
        overlaps: FloatArray = iou_matrix(ours.boxes[row : row + 1], theirs.boxes[rivals])[0].astype(np.float32)
        same = np.flatnonzero(overlaps >= _SAME_IOU)
        if not len(same):
            yield float(ours.scores[row]), 0.0, 0.0
            continue
        best = same[theirs.scores[rivals[same]].argmax()]
        yield float(ours.scores[row]), float(theirs.scores[rivals[best]]), float(overlaps[same].max())
