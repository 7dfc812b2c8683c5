"""Layouts that answer with finished boxes: one output (N, K, 6); YOLO26, and YOLO exports with NMS inside."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from detectors.arrays import Outputs, RawBoxes
from detectors.heads.checks import require_numbers
from detectors.heads.classes import ClassNumbers
from detectors.heads.port import Shape


class NmsInsideHead:
    """Rows x1, y1, x2, y2 in pixels of the input, score, class number. Rows of zeros fill what NMS left empty."""

    def __init__(self, classes: ClassNumbers) -> None:
        self._classes = classes

    def mismatch(self, shapes: Sequence[Shape]) -> str | None:
        """See :class:`detectors.heads.port.Head`. The number of classes cannot be told from the shape."""
        if len(shapes) == 1 and len(shapes[0]) == 3 and shapes[0][2] == 6:
            return None
        return "nms_inside has one output (N, boxes, 6)"

    def decode(self, outputs: Outputs, confidence: float) -> RawBoxes:
        """See :class:`detectors.heads.port.Head`."""
        (output,) = outputs
        scores = output[:, :, 4]
        require_numbers(scores, "scores")
        filled = (scores != 0) | output[:, :, :4].any(axis=2)
        tiles, rows = np.nonzero((scores >= confidence) & filled)
        found = output[tiles, rows]
        require_numbers(found, "boxes or classes")
        classes = self._classes.places(found[:, 5])
        meant = classes >= 0
        return RawBoxes(
            boxes=found[meant, :4],
            scores=found[meant, 4],
            classes=classes[meant],
            tiles=tiles[meant].astype(np.int32),
        )
