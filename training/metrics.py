"""Computes average precision, precision and recall of detections against ground truth."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detectors.geometry.boxes import iou_matrix

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

IOU_THRESHOLDS: tuple[float, ...] = tuple(round(0.5 + 0.05 * index, 2) for index in range(10))
_RECALL_POINTS = np.linspace(0.0, 1.0, 101)


@dataclass(frozen=True, eq=False)
class Predictions:
    """Holds the predictions for one image: boxes (N, 4) xyxy pixels, scores (N,), classes (N,)."""

    boxes: Floats
    scores: Floats
    classes: Ints


@dataclass(frozen=True, eq=False)
class Truth:
    """Holds the objects of one image: boxes (M, 4) xyxy pixels, classes (M,)."""

    boxes: Floats
    classes: Ints


@dataclass(frozen=True)
class ClassMetrics:
    """Holds the figures of one class: AP at IoU 0.5, mean AP of 0.5 to 0.95, precision, recall, number of objects."""

    name: str
    ap50: float
    ap50_95: float
    precision: float
    recall: float
    objects: int


@dataclass(frozen=True)
class Metrics:
    """Holds the figures of all classes and their means over those that occur; precision and recall at `confidence`."""

    classes: tuple[ClassMetrics, ...]
    map50: float
    map50_95: float
    precision: float
    recall: float
    confidence: float | tuple[float, ...]
    """Of all classes, or per class"""


def match(iou: NDArray[np.floating], scores: Floats, thresholds: tuple[float, ...]) -> NDArray[np.bool_]:
    """Return which predictions are right at each threshold, (T, N), from the (N, M) overlaps of one image and class.

    In order of score, each prediction takes the free object it overlaps most; equal scores keep their order.
    """
    return judge(iou, scores, thresholds, np.zeros(iou.shape[1], np.bool_))[0]


def judge(
    iou: NDArray[np.floating], scores: Floats, thresholds: tuple[float, ...], ignored: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which predictions are right, and which are neither right nor wrong, both (T, N); see ``match``.

    A prediction that overlaps none of the free objects enough, and one that is ``ignored`` (M,), takes that one, and is
    neither right nor wrong.
    """
    right = np.zeros((len(thresholds), iou.shape[0]), np.bool_)
    void = np.zeros_like(right)
    order = np.argsort(-scores, kind="stable")
    reach = iou.max(axis=1, initial=0.0)
    for row, threshold in enumerate(thresholds):
        free, spare = np.where(ignored, -1.0, iou), np.where(ignored, iou, -1.0)
        # Most predictions of a low score overlap nothing: they are not right, and take no object from others.
        for index in order[reach[order] >= threshold]:
            for overlap, marks in ((free, right), (spare, void)):
                best = int(overlap[index].argmax())
                if overlap[index, best] >= threshold:
                    marks[row, index] = True
                    overlap[:, best] = -1.0
                    break
    return right, void


def average_precision(right: NDArray[np.bool_], objects: int) -> float:
    """Return the AP of predictions in falling order of score: monotone precision at 101 recalls from 0 to 1."""
    if objects == 0:
        return float("nan")
    if len(right) == 0:
        return 0.0
    hits = np.cumsum(right)
    recall = hits / objects
    precision = hits / np.arange(1, len(right) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    at = np.searchsorted(recall, _RECALL_POINTS - 1e-9, side="left")
    return float(np.where(at < len(envelope), envelope[np.minimum(at, len(envelope) - 1)], 0.0).mean())


@dataclass(frozen=True, eq=False)
class _Ranked:
    """Holds one class over all images in falling order of score: right (T, N), scores (N,), number of objects."""

    right: NDArray[np.bool_]
    scores: Floats
    objects: int


def _rank(images: list[tuple[Predictions, Truth]], label: int) -> _Ranked:
    parts, scores, objects = [], [], 0
    for predictions, truth in images:
        predicted, present = predictions.classes == label, truth.classes == label
        objects += int(present.sum())
        overlap = iou_matrix(predictions.boxes[predicted], truth.boxes[present])
        parts.append(match(overlap, predictions.scores[predicted], IOU_THRESHOLDS))
        scores.append(predictions.scores[predicted])
    if not parts:
        return _Ranked(np.zeros((len(IOU_THRESHOLDS), 0), np.bool_), np.zeros(0, np.float32), objects)
    right, ranked = np.concatenate(parts, axis=1), np.concatenate(scores)
    order = np.argsort(-ranked, kind="stable")
    return _Ranked(right[:, order], ranked[order], objects)


def precision_recall(right: NDArray[np.bool_], scores: Floats, objects: int, confidence: float) -> tuple[float, float]:
    """Return precision and recall of scores of at least `confidence`."""
    kept = scores >= confidence
    hits = int(right[kept].sum())
    return hits / max(1, int(kept.sum())), hits / max(1, objects)


def best_confidence(images: list[tuple[Predictions, Truth]], classes: int) -> float:
    """Return the lowest score, in steps of 0.01, with the highest mean F1 at IoU 0.5 over classes that occur."""
    ranked = [_rank(images, label) for label in range(classes)]
    grid = [round(0.01 * step, 2) for step in range(1, 100)]
    totals = []
    for confidence in grid:
        pairs = [precision_recall(r.right[0], r.scores, r.objects, confidence) for r in ranked if r.objects]
        totals.append(sum(2 * p * r / max(p + r, 1e-9) for p, r in pairs))
    return grid[int(np.argmax(totals))]


def measure(
    images: list[tuple[Predictions, Truth]],
    names: tuple[str, ...],
    confidence: float | tuple[float, ...],
    found: list[tuple[Predictions, Truth]] | None = None,
) -> Metrics:
    """Compute the metrics over images; precision and recall at IoU 0.5 and `confidence`, of all or per class.

    `found`: what the detector itself gives at `confidence`, from which precision and recall are read; None: those of
    `images` whose score is enough. They differ where boxes of a lower score hide others.
    """
    confidences = confidence if isinstance(confidence, tuple) else (confidence,) * len(names)
    rows = []
    for label, (name, least) in enumerate(zip(names, confidences, strict=True)):
        ranked = _rank(images, label)
        per_iou = [average_precision(row, ranked.objects) for row in ranked.right]
        sure = ranked if found is None else _rank(found, label)
        precision, recall = precision_recall(sure.right[0], sure.scores, sure.objects, least)
        rows.append(ClassMetrics(name, per_iou[0], float(np.mean(per_iou)), precision, recall, ranked.objects))
    present = [row for row in rows if row.objects]

    def mean(values: list[float]) -> float:
        return float(np.mean(values)) if values else float("nan")

    return Metrics(
        classes=tuple(rows),
        map50=mean([row.ap50 for row in present]),
        map50_95=mean([row.ap50_95 for row in present]),
        precision=mean([row.precision for row in present]),
        recall=mean([row.recall for row in present]),
        confidence=confidence,
    )
