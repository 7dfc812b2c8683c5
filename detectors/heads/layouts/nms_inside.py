"""Reads layouts with final boxes, one output (N, K, 6): YOLO26, and YOLO exports with NMS inside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from detectors.geometry.arrays import FloatArray, IntArray, Outputs, RawBoxes
from detectors.heads.checks import require_numbers
from detectors.heads.classes import ClassNumbers
from detectors.heads.port import Shape


@dataclass(frozen=True, slots=True, eq=False)
class FinishedRows:
    """Holds the rows that are boxes of a class of the card."""

    rows: FloatArray
    """float32 (K, C)"""
    classes: IntArray
    """As in RawBoxes"""
    tiles: IntArray
    """As in RawBoxes"""


def finished_rows(outputs: Outputs, confidence: float, classes: ClassNumbers, what: str) -> FinishedRows:
    """Return the rows of one output (N, K, C) that are boxes of a class; columns 4 and 5 are score and class number.

    Rows of zeros fill what NMS left empty. Raises InferenceError when other columns, called ``what``, are not numbers.
    """
    (output,) = outputs
    scores = output[:, :, 4]
    require_numbers(scores, "scores")
    filled = (scores != 0) | output[:, :, :4].any(axis=2)
    tiles, rows = np.nonzero((scores >= confidence) & filled)
    found = output[tiles, rows]
    require_numbers(found, what)
    places = classes.places(found[:, 5])
    meant = places >= 0
    return FinishedRows(found[meant], places[meant], tiles[meant].astype(np.int32))


class NmsInsideHead:
    """Reads rows x1, y1, x2, y2 in pixels of the input, score, class number. Rows of zeros are empty."""

    def __init__(self, classes: ClassNumbers) -> None:
        self._classes = classes

    def mismatch(self, shapes: Sequence[Shape]) -> str | None:
        """See :class:`detectors.heads.port.Head`. The number of classes does not follow from the shape."""
        if len(shapes) == 1 and len(shapes[0]) == 3 and shapes[0][2] == 6:
            return None
        return "nms_inside has one output (N, boxes, 6)"

    def decode(self, outputs: Outputs, confidence: float) -> RawBoxes:
        """See :class:`detectors.heads.port.Head`."""
        found = finished_rows(outputs, confidence, self._classes, "boxes or classes")
        return RawBoxes(boxes=found.rows[:, :4], scores=found.rows[:, 4], classes=found.classes, tiles=found.tiles)
