"""Reads the YOLOv8 layout (YOLO11 too): one output (N, 4 + classes, anchors), without objectness."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from detectors.geometry.arrays import Outputs, RawBoxes
from detectors.heads.checks import require_numbers
from detectors.heads.grids import boxes_from_centres, pyramid_counts
from detectors.heads.port import Shape


class YoloV8Head:
    """Reads rows cx, cy, w, h in pixels of the input, then one score per class, after a sigmoid."""

    def __init__(self, width: int, height: int, classes: int) -> None:
        """``width`` and ``height`` of the input in pixels, and the number of ``classes``."""
        self._rows = 4 + classes
        self._anchors = pyramid_counts(width, height)

    def mismatch(self, shapes: Sequence[Shape]) -> str | None:
        """See :class:`detectors.heads.port.Head`."""
        rows, usual = self._rows, self._anchors[0]
        if len(shapes) == 1 and len(shapes[0]) == 3 and shapes[0][1] == rows and shapes[0][2] in self._anchors:
            return None
        return f"yolov8 with {rows - 4} classes has one output (N, {rows}, {usual})"

    def decode(self, outputs: Outputs, confidence: float) -> RawBoxes:
        """See :class:`detectors.heads.port.Head`. One box per anchor: that of its best class."""
        (output,) = outputs
        scores = output[:, 4:]
        best = scores.max(axis=1)
        require_numbers(best, "scores")
        tiles, anchors = np.nonzero(best >= confidence)
        found = output[tiles, :4, anchors]
        require_numbers(found, "boxes")
        return RawBoxes(
            boxes=boxes_from_centres(found[:, :2], found[:, 2:]),
            scores=best[tiles, anchors],
            classes=scores[tiles, :, anchors].argmax(axis=1).astype(np.int32),
            tiles=tiles.astype(np.int32),
        )
