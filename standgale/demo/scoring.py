"""Computes recall and precision of detections against the ground truth, at IoU 0.5."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from schemas.events import Detection
from schemas.geometry import Box
from standgale.demo.frames import TruthBox

_MATCH_IOU = 0.5


@dataclass(slots=True)
class Score:
    """Counts found, right and true boxes over many frames."""

    found: int = 0
    right: int = 0
    true: int = 0

    @property
    def recall(self) -> float | None:
        """The share of the true objects that were found; None if there are none."""
        return self.right / self.true if self.true else None

    @property
    def precision(self) -> float | None:
        """The share of the detections that are right; None if there are none."""
        return self.right / self.found if self.found else None

    def add(self, detections: Sequence[Detection], truth: Sequence[TruthBox]) -> None:
        """Count one frame; each true box is matched at most once, by the most confident detection first."""
        open_truth = list(truth)
        self.found += len(detections)
        self.true += len(truth)
        for detection in sorted(detections, key=lambda each: -each.confidence):
            best = max(_same_label(detection, open_truth), key=lambda each: iou(detection.box, each.box), default=None)
            if best is not None and iou(detection.box, best.box) >= _MATCH_IOU:
                open_truth.remove(best)
                self.right += 1


def _same_label(detection: Detection, truth: Iterable[TruthBox]) -> list[TruthBox]:
    return [each for each in truth if each.label == detection.label]


def iou(one: Box, other: Box) -> float:
    """Return the intersection over union of two boxes; 0 if both are empty."""
    width = min(one.x2, other.x2) - max(one.x1, other.x1)
    height = min(one.y2, other.y2) - max(one.y1, other.y1)
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return shared / (_area(one) + _area(other) - shared)


def _area(box: Box) -> float:
    return (box.x2 - box.x1) * (box.y2 - box.y1)
