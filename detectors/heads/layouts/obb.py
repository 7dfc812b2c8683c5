"""Reads rotated boxes: YOLOv8-OBB and YOLO11-OBB (raw), YOLO26-OBB and OBB exports with NMS inside (final boxes).

Both give centre, size and an angle in radians; what the angle means is said at
:func:`detectors.geometry.rotated_boxes.corners_of`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from detectors.geometry.arrays import Outputs, RawBoxes
from detectors.heads.checks import require_numbers
from detectors.heads.classes import ClassNumbers
from detectors.heads.grids import pyramid_counts
from detectors.heads.layouts.nms_inside import finished_rows
from detectors.heads.port import Shape
from detectors.heads.rectangles import Rectangles, raw_boxes


class YoloV8ObbHead:
    """Reads one output (N, 4 + classes + 1, anchors): cx, cy, w, h, one score per class, and last the angle.

    Centre and size are in pixels of the input; scores have gone through a sigmoid.
    """

    def __init__(self, width: int, height: int, classes: int) -> None:
        """``width`` and ``height`` of the input in pixels, and the number of ``classes``."""
        self._rows = 5 + classes
        self._anchors = pyramid_counts(width, height)

    def mismatch(self, shapes: Sequence[Shape]) -> str | None:
        """See :class:`detectors.heads.port.Head`."""
        rows, usual = self._rows, self._anchors[0]
        if len(shapes) == 1 and len(shapes[0]) == 3 and shapes[0][1] == rows and shapes[0][2] in self._anchors:
            return None
        return f"yolov8_obb with {rows - 5} classes has one output (N, {rows}, {usual})"

    def rectangles(self, outputs: Outputs, confidence: float) -> Rectangles:
        """See :class:`detectors.heads.rectangles.RotatedHead`. One per anchor: that of its best class."""
        (output,) = outputs
        scores = output[:, 4:-1]
        best = scores.max(axis=1)
        require_numbers(best, "scores")
        tiles, anchors = np.nonzero(best >= confidence)
        found = output[tiles, :, anchors]
        require_numbers(found, "boxes or angles")
        return Rectangles(
            centres=found[:, :2],
            sizes=found[:, 2:4],
            angles=found[:, -1],
            scores=best[tiles, anchors],
            classes=found[:, 4:-1].argmax(axis=1).astype(np.int32),
            tiles=tiles.astype(np.int32),
        )

    def decode(self, outputs: Outputs, confidence: float) -> RawBoxes:
        """See :class:`detectors.heads.port.Head`."""
        return raw_boxes(self.rectangles(outputs, confidence))


class NmsInsideObbHead:
    """Reads one output (N, boxes, 7): cx, cy, w, h in pixels of the input, score, class number, angle.

    Rows of zeros fill what NMS left empty. A card with class ids leaves out the classes that it does not name.
    """

    def __init__(self, classes: ClassNumbers) -> None:
        self._classes = classes

    def mismatch(self, shapes: Sequence[Shape]) -> str | None:
        """See :class:`detectors.heads.port.Head`. The number of classes does not follow from the shape."""
        if len(shapes) == 1 and len(shapes[0]) == 3 and shapes[0][2] == 7:
            return None
        return "nms_inside_obb has one output (N, boxes, 7)"

    def rectangles(self, outputs: Outputs, confidence: float) -> Rectangles:
        """See :class:`detectors.heads.rectangles.RotatedHead`."""
        found = finished_rows(outputs, confidence, self._classes, "boxes, classes or angles")
        rows = found.rows
        return Rectangles(rows[:, :2], rows[:, 2:4], rows[:, 6], rows[:, 4], found.classes, found.tiles)

    def decode(self, outputs: Outputs, confidence: float) -> RawBoxes:
        """See :class:`detectors.heads.port.Head`."""
        return raw_boxes(self.rectangles(outputs, confidence))
