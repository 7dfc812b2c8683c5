"""Reads transformers with named outputs: RT-DETRv2 and D-FINE (final boxes), RF-DETR (queries with logits)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from detectors.geometry.arrays import Outputs, RawBoxes
from detectors.heads.checks import require_numbers
from detectors.heads.grids import boxes_from_centres
from detectors.heads.logits import sigmoid
from detectors.heads.port import HeadRequest, Shape

_Indices = dict[str, int]


def output_indices(outputs: tuple[str, ...], wanted: tuple[str, ...]) -> _Indices | None:
    """Return the index of each ``wanted`` output in ``outputs``, or None when the two do not have the same names."""
    return {name: outputs.index(name) for name in wanted} if sorted(outputs) == sorted(wanted) else None


class RtDetrHead:
    """Reads ``labels`` (N, K), ``boxes`` (N, K, 4) xyxy and ``scores`` (N, K), found by name.

    The engine gives the input's size as ``orig_target_sizes``, so boxes are in pixels of the input.
    """

    def __init__(self, request: HeadRequest) -> None:
        self._classes = request.classes
        self._at = output_indices(request.outputs, ("labels", "boxes", "scores"))

    def mismatch(self, shapes: Sequence[Shape]) -> str | None:
        """See :class:`detectors.heads.port.Head`. The number of classes does not follow from the shapes."""
        if self._at is not None:
            labels, boxes, scores = (shapes[self._at[name]] for name in ("labels", "boxes", "scores"))
            if len(labels) == 2 and labels == scores and boxes == (*labels, 4):
                return None
        return "rtdetr has outputs labels (N, K), boxes (N, K, 4) and scores (N, K)"

    def decode(self, outputs: Outputs, confidence: float) -> RawBoxes:
        """See :class:`detectors.heads.port.Head`."""
        assert self._at is not None, "decode follows a mismatch() that found none"
        scores = outputs[self._at["scores"]]
        require_numbers(scores, "scores")
        tiles, rows = np.nonzero(scores >= confidence)
        boxes, labels = outputs[self._at["boxes"]][tiles, rows], outputs[self._at["labels"]][tiles, rows]
        require_numbers(boxes, "boxes")
        require_numbers(labels, "labels")
        classes = self._classes.places(labels)
        meant = classes >= 0
        return RawBoxes(
            boxes=boxes[meant],
            scores=scores[tiles, rows][meant],
            classes=classes[meant],
            tiles=tiles[meant].astype(np.int32),
        )


class RfDetrHead:
    """Reads ``dets`` (N, Q, 4), centre and size as shares of the input, and ``labels`` (N, Q, C), logits, by name.

    The column of a class is its number. Weights trained on COCO have 91 columns, by category id: then the card's
    classes have ids, and columns that no class names are left out.
    """

    def __init__(self, request: HeadRequest) -> None:
        self._classes = request.classes
        self._at = output_indices(request.outputs, ("dets", "labels"))
        self._size = np.array((request.width, request.height) * 2, np.float32)

    def mismatch(self, shapes: Sequence[Shape]) -> str | None:
        """See :class:`detectors.heads.port.Head`."""
        classes = self._classes
        least = int(classes.numbers.max()) + 1
        if self._at is not None:
            dets, labels = shapes[self._at["dets"]], shapes[self._at["labels"]]
            columns = labels[-1]
            enough = columns >= least if classes.stated else columns == classes.count
            if len(labels) == 3 and dets == (*labels[:2], 4) and enough:
                return None
        if classes.stated:
            return f"rfdetr with ids up to {least - 1} has outputs dets (N, Q, 4) and labels (N, Q, {least} or more)"
        return (
            f"rfdetr with {classes.count} classes without ids has outputs dets (N, Q, 4) and labels "
            f"(N, Q, {classes.count}); where labels has more columns, give each class in the card its column as id"
        )

    def decode(self, outputs: Outputs, confidence: float) -> RawBoxes:
        """See :class:`detectors.heads.port.Head`. One box per query: that of its best class."""
        assert self._at is not None, "decode follows a mismatch() that found none"
        logits = outputs[self._at["labels"]][:, :, self._classes.numbers]
        best = logits.max(axis=2)
        require_numbers(best, "scores")
        scores = sigmoid(best)
        tiles, queries = np.nonzero(scores >= confidence)
        dets = outputs[self._at["dets"]][tiles, queries] * self._size
        require_numbers(dets, "boxes")
        return RawBoxes(
            boxes=boxes_from_centres(dets[:, :2], dets[:, 2:]),
            scores=scores[tiles, queries],
            classes=logits[tiles, queries].argmax(axis=1).astype(np.int32),
            tiles=tiles.astype(np.int32),
        )
