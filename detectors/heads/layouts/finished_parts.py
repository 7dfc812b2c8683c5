"""Reads final boxes whose parts are separate outputs, found by name: those of TensorFlow, and of NMS inside."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from detectors.geometry.arrays import Outputs, RawBoxes
from detectors.heads.checks import require_numbers
from detectors.heads.layouts.detr import output_indices
from detectors.heads.port import HeadRequest, Shape

_TENSORFLOW = {"boxes": "detection_boxes", "scores": "detection_scores", "classes": "detection_classes"}
_PARTS = {"boxes": ("box",), "scores": ("score", "conf"), "classes": ("class", "label", "cls")}


def _plain(name: str) -> str:
    """Return the name of an output without TensorFlow's folder and number."""
    return name.rpartition("/")[2].partition(":")[0].lower()


def _tensorflow(names: Sequence[str]) -> dict[str, int] | None:
    """Return the index of each part of a TensorFlow detector; all other outputs are left out."""
    plain = [_plain(name) for name in names]
    if not all(plain.count(name) == 1 for name in _TENSORFLOW.values()):
        return None
    found = {part: plain.index(name) for part, name in _TENSORFLOW.items()}
    return {**found, "count": plain.index("num_detections")} if plain.count("num_detections") == 1 else found


def _by_parts(names: Sequence[str]) -> dict[str, int] | None:
    """Return the index of each of four parts by what their names contain; None when one is missing or there twice."""
    plain = [_plain(name) for name in names]
    counts = [at for at, name in enumerate(plain) if name.startswith("num")]
    if len(names) != 4 or len(counts) != 1 or _tensorflow(names) is not None:
        return None
    found = {"count": counts[0]}
    for part, words in _PARTS.items():
        fitting = [at for at, name in enumerate(plain) if at not in counts and any(word in name for word in words)]
        if len(fitting) != 1:
            return None
        found[part] = fitting[0]
    return found if len(set(found.values())) == len(found) else None


class FinishedPartsHead:
    """Reads boxes (N, K, 4), scores (N, K) and class numbers (N, K), and how many of the K rows are filled (N, 1).

    Of TensorFlow the boxes are y1, x1, y2, x2 as shares of the input; of the others x1, y1, x2, y2 in pixels.
    """

    def __init__(self, layout: str, request: HeadRequest) -> None:
        """``layout``: ``tf_nms`` or ``nms_parts``."""
        self._tensorflow = layout == "tf_nms"
        self._at = (_tensorflow if self._tensorflow else _by_parts)(request.outputs)
        self._classes = request.classes
        self._size = np.array((request.width, request.height) * 2, np.float32)

    def mismatch(self, shapes: Sequence[Shape]) -> str | None:
        """See :class:`detectors.heads.port.Head`. The number of classes does not follow from the shapes."""
        if self._at is not None and len(shapes) > max(self._at.values()):
            boxes, scores, classes = (shapes[self._at[part]] for part in ("boxes", "scores", "classes"))
            if len(scores) == 2 and scores == classes and boxes == (*scores, 4):
                return None
        if self._tensorflow:
            return (
                "tf_nms has outputs detection_boxes (N, K, 4), detection_scores (N, K), detection_classes (N, K) "
                "and num_detections"
            )
        return "nms_parts has four outputs: num_dets (N, 1), det_boxes (N, K, 4), det_scores (N, K), det_classes (N, K)"

    def decode(self, outputs: Outputs, confidence: float) -> RawBoxes:
        """See :class:`detectors.heads.port.Head`."""
        assert self._at is not None, "decode follows a mismatch() that found none"
        scores = outputs[self._at["scores"]]
        require_numbers(scores, "scores")
        boxes = outputs[self._at["boxes"]]
        filled = (scores != 0) | boxes.any(axis=2)
        if "count" in self._at:
            counts = outputs[self._at["count"]].reshape(len(scores), -1)
            require_numbers(counts, "numbers of boxes")
            filled &= np.arange(scores.shape[1]) < counts[:, :1]
        tiles, rows = np.nonzero((scores >= confidence) & filled)
        found, numbers = boxes[tiles, rows], outputs[self._at["classes"]][tiles, rows]
        require_numbers(found, "boxes")
        require_numbers(numbers, "classes")
        if self._tensorflow:
            found = found[:, [1, 0, 3, 2]] * self._size
        places = self._classes.places(numbers)
        meant = places >= 0
        return RawBoxes(found[meant], scores[tiles, rows][meant], places[meant], tiles[meant].astype(np.int32))


class MmdetHead:
    """Reads ``dets`` (N, K, 5), x1, y1, x2, y2 in pixels of the input and score, and ``labels`` (N, K), by name."""

    def __init__(self, request: HeadRequest) -> None:
        self._classes = request.classes
        self._at = output_indices(request.outputs, ("dets", "labels"))

    def mismatch(self, shapes: Sequence[Shape]) -> str | None:
        """See :class:`detectors.heads.port.Head`. The number of classes does not follow from the shapes."""
        if self._at is not None:
            dets, labels = (shapes[self._at[name]] for name in ("dets", "labels"))
            if len(labels) == 2 and dets == (*labels, 5):
                return None
        return "mmdet has outputs dets (N, K, 5) and labels (N, K)"

    def decode(self, outputs: Outputs, confidence: float) -> RawBoxes:
        """See :class:`detectors.heads.port.Head`. Rows of zeros, or with a label below 0, fill what NMS left empty."""
        assert self._at is not None, "decode follows a mismatch() that found none"
        dets, labels = (outputs[self._at[name]] for name in ("dets", "labels"))
        scores = dets[:, :, 4]
        require_numbers(scores, "scores")
        filled = (labels >= 0) & dets.any(axis=2)
        tiles, rows = np.nonzero((scores >= confidence) & filled)
        found = dets[tiles, rows]
        require_numbers(found, "boxes")
        places = self._classes.places(labels[tiles, rows])
        meant = places >= 0
        return RawBoxes(found[meant, :4], found[meant, 4], places[meant], tiles[meant].astype(np.int32))
