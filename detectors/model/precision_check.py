"""Compares a model's scores and boxes in a lower precision with those in f32, against limits."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from detectors.errors import InferenceError
from detectors.geometry.arrays import Outputs, RawBoxes
from detectors.geometry.boxes import iou_matrix
from detectors.heads.port import Head

# Bf16 changed the scores of a YOLOv8n by 0.008 in the mean and 0.15 at most and cost no measurable precision; integer
# models that are broken change them by tenths in the mean. The limits are between.
MEAN_SCORE_CHANGE = 0.02
LARGEST_SCORE_CHANGE = 0.25
# Mean overlap of the boxes of confident candidates. Bf16 leaves 0.98 to 0.997; half a pixel on a box of 16 leaves 0.88.
MEAN_IOU = 0.93

# Candidates below this score become detections at no sensible threshold, and are not compared.
_FLOOR = 0.05
# The best candidates of a tile; most others overlap these.
_BEST_PER_TILE = 100
# Boxes of one class with at least this overlap are the same candidate.
_SAME_IOU = 0.5


def why_different(head: Head, exact: Outputs, other: Outputs, confidence: float) -> str | None:
    """Return why ``other`` is too far from ``exact`` (outputs for the same tiles, the latter in f32), or None.

    Each candidate of either one is compared with the candidate of the other that has its class and overlaps it most;
    without one its score counts as lost. Boxes are compared where the score is at least ``confidence``. Two outputs
    without candidates are equal.
    """
    try:
        one, two = head.decode(exact, _FLOOR / 2), head.decode(other, _FLOOR / 2)
    except InferenceError as error:
        return str(error)
    changes, ious = [], []
    for tile in range(len(exact[0])):
        for ours, theirs in ((one, two), (two, one)):
            change, iou, scores = _compared(ours, theirs, tile)
            changes.append(change)
            ious.append(iou[(scores >= confidence) & (iou > 0)])
    return _why_over_limits(np.concatenate(changes), np.concatenate(ious))


def _compared(
    ours: RawBoxes, theirs: RawBoxes, tile: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float32]]:
    """Return for the best of ``ours`` on ``tile``: change of the score, overlap of the boxes (0: lost), score."""
    rows = np.flatnonzero((ours.tiles == tile) & (ours.scores >= _FLOOR))
    rows = rows[np.argsort(-ours.scores[rows], kind="stable")[:_BEST_PER_TILE]]
    partners = np.flatnonzero(theirs.tiles == tile)
    scores = ours.scores[rows]
    if not len(rows) or not len(partners):
        return scores.astype(np.float64), np.zeros(len(rows)), scores
    same_class = ours.classes[rows][:, None] == theirs.classes[partners][None]
    overlap = iou_matrix(ours.boxes[rows], theirs.boxes[partners]) * same_class
    best = overlap.argmax(axis=1)
    iou = overlap[np.arange(len(rows)), best]
    found = iou >= _SAME_IOU
    change = np.abs(scores - np.where(found, theirs.scores[partners[best]], 0.0)).astype(np.float64)
    return change, np.where(found, iou, 0.0), scores


def _why_over_limits(changes: npt.NDArray[np.float64], ious: npt.NDArray[np.float64]) -> str | None:
    if not len(changes):
        return None
    mean, largest = float(changes.mean()), float(changes.max())
    if not mean <= MEAN_SCORE_CHANGE:
        return f"scores differ from f32 by {mean:.3f} in the mean, the limit is {MEAN_SCORE_CHANGE}"
    if not largest <= LARGEST_SCORE_CHANGE:
        return f"a score differs from f32 by {largest:.2f}, the limit is {LARGEST_SCORE_CHANGE}"
    if len(ious) and not float(ious.mean()) >= MEAN_IOU:
        return f"boxes overlap those of f32 by {ious.mean():.2f} in the mean, the limit is {MEAN_IOU}"
    return None
