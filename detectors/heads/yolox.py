"""The YOLOX layout, raw: one output (N, anchors, 5 + classes), boxes relative to the grid, objectness and classes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from detectors.arrays import Outputs, RawBoxes
from detectors.heads.checks import require_numbers
from detectors.heads.grids import anchor_count, corners, grid
from detectors.heads.port import Shape

# exp() of more than this is wider than any input; the cap keeps a wild answer a number.
_LARGEST_LOG_SIZE = 20.0


class YoloXHead:
    """Columns cx, cy, w, h as (xy + grid) * stride and exp(wh) * stride, then objectness and one score per class."""

    def __init__(self, width: int, height: int, classes: int) -> None:
        """``width`` and ``height`` of the input in pixels, and the number of ``classes``."""
        self._shape = (anchor_count(width, height), 5 + classes)
        self._grid = grid(width, height)

    def mismatch(self, shapes: Sequence[Shape]) -> str | None:
        """See :class:`detectors.heads.port.Head`."""
        if len(shapes) == 1 and shapes[0][1:] == self._shape:
            return None
        anchors, columns = self._shape
        return (
            f"yolox with {columns - 5} classes has one output (N, {anchors}, {columns}), this model has {list(shapes)}"
        )

    def decode(self, outputs: Outputs, confidence: float) -> RawBoxes:
        """See :class:`detectors.heads.port.Head`. One box per anchor: that of its best class."""
        (output,) = outputs
        objectness = output[:, :, 4]
        require_numbers(objectness, "scores")
        # No class score is above 1, so objectness alone rules out nearly all anchors.
        tiles, anchors = np.nonzero(objectness >= confidence)
        rows = output[tiles, anchors]
        require_numbers(rows, "boxes or scores")
        classes = rows[:, 5:].argmax(axis=1)
        scores = rows[:, 4] * rows[np.arange(len(rows)), 5 + classes]
        sure = scores >= confidence
        rows, cells = rows[sure], self._grid[anchors[sure]]
        strides = cells[:, 2:]
        centres = (rows[:, :2] + cells[:, :2]) * strides
        sizes = np.exp(np.minimum(rows[:, 2:4], _LARGEST_LOG_SIZE)) * strides
        return RawBoxes(
            boxes=corners(centres, sizes),
            scores=scores[sure],
            classes=classes[sure].astype(np.int32),
            tiles=tiles[sure].astype(np.int32),
        )
