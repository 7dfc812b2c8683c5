"""Reads the raw YOLOX layout: one output (N, anchors, 5 + classes), with boxes relative to the grid."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from detectors.geometry.arrays import Outputs, RawBoxes
from detectors.heads.grids import anchor_count, boxes_from_centres, grid
from detectors.heads.layouts.objectness import rows_above
from detectors.heads.port import Shape

# exp() of more than this is wider than any input; the limit keeps wrong outputs finite.
_LARGEST_LOG_SIZE = 20.0


class YoloXHead:
    """Reads columns cx, cy, w, h as (xy + grid) * stride and exp(wh) * stride, then objectness and class scores."""

    def __init__(self, width: int, height: int, classes: int) -> None:
        """``width`` and ``height`` of the input in pixels, and the number of ``classes``."""
        self._shape = (anchor_count(width, height), 5 + classes)
        self._grid = grid(width, height)

    def mismatch(self, shapes: Sequence[Shape]) -> str | None:
        """See :class:`detectors.heads.port.Head`."""
        if len(shapes) == 1 and shapes[0][1:] == self._shape:
            return None
        anchors, columns = self._shape
        return f"yolox with {columns - 5} classes has one output (N, {anchors}, {columns})"

    def decode(self, outputs: Outputs, confidence: float) -> RawBoxes:
        """See :class:`detectors.heads.port.Head`. One box per anchor: that of its best class."""
        (output,) = outputs
        found = rows_above(output, confidence)
        cells = self._grid[found.anchors]
        strides = cells[:, 2:]
        centres = (found.rows[:, :2] + cells[:, :2]) * strides
        sizes = np.exp(np.minimum(found.rows[:, 2:4], _LARGEST_LOG_SIZE)) * strides
        return RawBoxes(
            boxes=boxes_from_centres(centres, sizes),
            scores=found.scores,
            classes=found.classes.astype(np.int32),
            tiles=found.tiles.astype(np.int32),
        )
