"""Reads decoded boxes beside scores, in two outputs: YOLO-NAS, DAMO-YOLO, SSD with decoding, UltraFace, YOLOv4."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from detectors.card.card import BoxesCard
from detectors.geometry.arrays import FloatArray, Outputs, RawBoxes
from detectors.heads.checks import require_numbers
from detectors.heads.grids import boxes_from_centres
from detectors.heads.port import HeadRequest, Shape

# Names of outputs that belong to other layouts with boxes beside scores.
_FOREIGN = (frozenset({"dets", "labels"}), frozenset({"logits", "pred_boxes"}), frozenset({"logits", "boxes"}))
# Parts of names that an output of boxes has, where both outputs have four columns.
_BOX_NAMES = ("box", "loc", "coord", "reg")
# Shares of the input rarely reach beyond this, and boxes in pixels of a noise tile always do.
_LARGEST_SHARE = 2.0
_ALMOST_ALL = 0.99
_SOFTMAX_ERROR = 0.01


def find_outputs(names: Sequence[str], shapes: Sequence[Shape]) -> tuple[int, int] | None:
    """Return the indices of boxes (N, A, 4) or (N, A, 1, 4), and of scores (N, A, C); None for other outputs."""
    if len(shapes) != 2 or frozenset(names) in _FOREIGN:
        return None
    fitting = [
        (boxes, scores)
        for boxes, scores in ((0, 1), (1, 0))
        if shapes[boxes] in ((*shapes[scores][:2], 4), (*shapes[scores][:2], 1, 4)) and len(shapes[scores]) == 3
    ]
    if len(fitting) == 2:
        fitting = [each for each in fitting if any(part in names[each[0]].lower() for part in _BOX_NAMES)]
    return fitting[0] if len(fitting) == 1 else None


class BoxesScoresHead:
    """Reads boxes beside one score per class, in either order of the outputs. The card's ``boxes`` says how."""

    def __init__(self, request: HeadRequest) -> None:
        self._names = request.outputs
        self._how = request.boxes
        self._classes = request.classes
        self._columns = request.classes.numbers + (1 if self._how.background == "first" else 0)
        self._scale = np.array((request.width, request.height) * 2 if self._how.unit == "shares" else 1, np.float32)

    def mismatch(self, shapes: Sequence[Shape]) -> str | None:
        """See :class:`detectors.heads.port.Head`."""
        at = find_outputs(self._names, shapes)
        classes, behind = self._classes, 1 if self._how.background == "last" else 0
        least = int(self._columns.max()) + 1 + behind
        if at is not None:
            columns = shapes[at[1]][2]
            if columns >= least if classes.stated else columns == least:
                return None
        with_background = "" if self._how.background == "none" else f" and a background that is {self._how.background}"
        several = f"{least} or more" if classes.stated else str(least)
        hint = ""
        if at is not None and self._how.background == "none" and shapes[at[1]][2] == least + 1:
            hint = "; where one column more is the background write boxes: {background: first}, or last, into the card"
        return (
            f"boxes_scores with {classes.count} class{'' if classes.count == 1 else 'es'}{with_background} has outputs "
            f"(N, A, 4) and (N, A, {several}){hint}"
        )

    def decode(self, outputs: Outputs, confidence: float) -> RawBoxes:
        """See :class:`detectors.heads.port.Head`. One box per anchor: that of its best class."""
        at = find_outputs(self._names, [output.shape for output in outputs])
        assert at is not None, "decode follows a mismatch() that found none"
        boxes = outputs[at[0]].reshape(*outputs[at[0]].shape[:2], 4)
        scores = outputs[at[1]][:, :, self._columns]
        best = scores.max(axis=2)
        require_numbers(best, "scores")
        tiles, anchors = np.nonzero(best >= confidence)
        found = boxes[tiles, anchors] * self._scale
        require_numbers(found, "boxes")
        centres = self._how.form == "centre"
        return RawBoxes(
            boxes=boxes_from_centres(found[:, :2], found[:, 2:]) if centres else found,
            scores=best[tiles, anchors],
            classes=scores[tiles, anchors].argmax(axis=1).astype(np.int32),
            tiles=tiles.astype(np.int32),
        )


def guess_boxes(boxes: FloatArray, scores: FloatArray, classes: int | None) -> BoxesCard:
    """Return how ``boxes`` (float32 (N, A, 4)) and ``scores`` ((N, A, C)) of the first run are most likely meant.

    ``classes``: how many there are, where that is known. Where it is not, scores whose sum is 1 have a background.
    """
    values = boxes.reshape(-1, 4)
    table = scores.reshape(-1, scores.shape[2])
    filled = (values != 0).any(axis=1) & (table > 0).any(axis=1)
    values = values[filled] if filled.any() else values
    corners = bool((values[:, 2:] >= values[:, :2]).all(axis=1).mean() >= _ALMOST_ALL)
    positive = bool((values[:, 2:] >= 0).all(axis=1).mean() >= _ALMOST_ALL)
    if classes is None:
        sums = table.sum(axis=1)
        has_background = table.shape[1] > 1 and bool((np.abs(sums - 1) < _SOFTMAX_ERROR).mean() >= _ALMOST_ALL)
    else:
        has_background = table.shape[1] == classes + 1
    first = float(table[:, 0].mean()) >= float(table[:, -1].mean())
    return BoxesCard(
        unit="shares" if float(np.abs(values).max(initial=0)) <= _LARGEST_SHARE else "pixels",
        form="corners" if corners or not positive else "centre",
        background=("first" if first else "last") if has_background else "none",
    )
