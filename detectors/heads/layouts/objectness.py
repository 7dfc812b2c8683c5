"""Reads layouts with an objectness, one output (N, anchors, 5 + classes): YOLOv5, and YOLOX exported with decoding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from detectors.geometry.arrays import FloatArray, IndexArray, Outputs, RawBoxes
from detectors.heads.checks import require_numbers
from detectors.heads.grids import anchor_count, boxes_from_centres, pyramid_counts
from detectors.heads.port import Shape

# YOLOv5 has three anchors of different shapes in each cell of its grids.
_YOLOV5_ANCHORS_PER_CELL = 3


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Holds the anchors with a score above the confidence."""

    rows: FloatArray
    """float32 (K, 5 + classes)"""
    scores: FloatArray
    """Scores, classes and tiles are as in RawBoxes"""
    classes: IndexArray
    tiles: IndexArray
    anchors: IndexArray
    """int64 (K,)"""


def rows_above(output: FloatArray, confidence: float) -> Rows:
    """Return the anchors of ``output`` (float32 (N, A, 5 + classes)) with objectness × best class >= ``confidence``.

    Raises InferenceError when one of them is not numbers.
    """
    objectness = output[:, :, 4]
    require_numbers(objectness, "scores")
    # No class score is above 1, so objectness alone rules out nearly all anchors.
    tiles, anchors = np.nonzero(objectness >= confidence)
    rows = output[tiles, anchors]
    require_numbers(rows, "boxes or scores")
    classes = rows[:, 5:].argmax(axis=1)
    # What overflowed in float16 is infinite, and infinite times 0 is not a number.
    with np.errstate(invalid="ignore", over="ignore"):
        scores = rows[:, 4] * rows[np.arange(len(rows)), 5 + classes]
    require_numbers(scores, "scores")
    sure = scores >= confidence
    return Rows(rows[sure], scores[sure], classes[sure], tiles[sure], anchors[sure])


class ObjectnessHead:
    """Reads columns cx, cy, w, h in pixels of the input, then objectness and one score per class."""

    def __init__(self, layout: str, anchors: tuple[int, ...], classes: int) -> None:
        """``anchors``: how many the model may have, the usual number first; ``layout`` names it in errors."""
        self._layout = layout
        self._anchors = anchors
        self._columns = 5 + classes

    @classmethod
    def yolov5(cls, width: int, height: int, classes: int) -> ObjectnessHead:
        """Return the head for YOLOv5 with an input of ``width`` × ``height`` pixels."""
        anchors = tuple(_YOLOV5_ANCHORS_PER_CELL * count for count in pyramid_counts(width, height))
        return cls("yolov5", anchors, classes)

    @classmethod
    def yolox(cls, width: int, height: int, classes: int) -> ObjectnessHead:
        """Return the head for YOLOX exported with decoding, with an input of ``width`` × ``height`` pixels."""
        return cls("yolox_decoded", (anchor_count(width, height),), classes)

    def mismatch(self, shapes: Sequence[Shape]) -> str | None:
        """See :class:`detectors.heads.port.Head`."""
        if len(shapes) == 1 and len(shapes[0]) == 3:
            _, anchors, columns = shapes[0]
            if columns == self._columns and anchors in self._anchors:
                return None
        return (
            f"{self._layout} with {self._columns - 5} classes has one output (N, {self._anchors[0]}, {self._columns})"
        )

    def decode(self, outputs: Outputs, confidence: float) -> RawBoxes:
        """See :class:`detectors.heads.port.Head`. One box per anchor: that of its best class."""
        (output,) = outputs
        found = rows_above(output, confidence)
        return RawBoxes(
            boxes=boxes_from_centres(found.rows[:, :2], found.rows[:, 2:4]),
            scores=found.scores,
            classes=found.classes.astype(np.int32),
            tiles=found.tiles.astype(np.int32),
        )
