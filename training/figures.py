"""Computes what a model finds on pictures, by class and size of object, from its predictions and the labels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detectors.geometry.boxes import iou_matrix, longer_sides
from training.metrics import IOU_THRESHOLDS, Floats, Predictions, Truth, average_precision, judge

SIZES_PX: tuple[tuple[str, float, float], ...] = (
    ("<16", 0, 16),
    ("16-32", 16, 32),
    ("32-64", 32, 64),
    ("64-128", 64, 128),
    (">=128", 128, float("inf")),
)
"""The ranges of the longer side of a box, in pixels of the picture: name, from, below."""

_ALL_SIZES = (0.0, float("inf"))
# A box belongs to an ignored region when more than this share of it is inside.
_INSIDE = 0.5
# A box this near to the picture's edge, in pixels, may show an object that the edge cuts.
_EDGE_PX = 2.0


@dataclass(frozen=True, eq=False)
class Outcome:
    """Holds what a model found on one picture, and what there is to find."""

    width: int
    height: int
    known: NDArray[np.bool_]
    """(C,): the classes that are judged."""
    truth: Truth
    ignored: Floats
    """Regions in which nothing is judged, (K, 4) xyxy."""
    found: Predictions
    """With the settings of the card: precision, recall and false boxes are read from these."""
    ranked: Predictions
    """With scores down to a low one: average precision is read from these."""

    @property
    def megapixels(self) -> float:
        """Return the size of the picture in millions of pixels."""
        return self.width * self.height / 1e6


@dataclass(frozen=True)
class SizeFigures:
    """Holds the figures of the objects of one size; NaN where there is nothing to measure."""

    things: int
    precision: float
    recall: float
    ap50: float
    ap50_95: float


@dataclass(frozen=True)
class ClassFigures:
    """Holds the figures of one class on the pictures that label it throughout; NaN where nothing can be measured."""

    pictures: int
    things: int
    right: int
    false: int
    false_at_edge: int
    """Those of the false boxes that touch the picture's edge: labellers leave out what the edge cuts."""
    false_per_megapixel: float
    precision: float
    recall: float
    ap50: float
    ap50_95: float
    sizes: dict[str, SizeFigures]


@dataclass(frozen=True)
class _Judged:
    right: NDArray[np.bool_]
    """(T, N) in falling order of score, at each IoU threshold."""
    void: NDArray[np.bool_]
    """Neither right nor wrong, (T, N)."""
    at_edge: NDArray[np.bool_]
    scores: Floats
    things: int

    def average_precisions(self) -> list[float]:
        return [average_precision(right[~void], self.things) for right, void in zip(self.right, self.void, strict=True)]


def _outside(boxes: Floats, sizes: tuple[float, float]) -> NDArray[np.bool_]:
    longer = longer_sides(boxes)
    return (longer < sizes[0]) | (longer >= sizes[1])


def _inside_regions(boxes: Floats, regions: Floats) -> NDArray[np.bool_]:
    """Return which of ``boxes`` (N, 4) are for the most part in one of ``regions`` (K, 4)."""
    corner = np.maximum(boxes[:, None, :2], regions[None, :, :2])
    opposite = np.minimum(boxes[:, None, 2:], regions[None, :, 2:])
    common = np.maximum(opposite - corner, 0).prod(axis=2)
    area = np.maximum(boxes[:, 2:] - boxes[:, :2], 0).prod(axis=1)
    inside: NDArray[np.bool_] = (common > _INSIDE * area[:, None]).any(axis=1)
    return inside


def _at_edge(boxes: Floats, width: int, height: int) -> NDArray[np.bool_]:
    left_or_top = boxes[:, :2].min(axis=1, initial=np.inf) <= _EDGE_PX
    extent = np.array((width, height), np.float32)
    room: Floats = (extent - boxes[:, 2:]).min(axis=1, initial=np.inf)
    near: NDArray[np.bool_] = left_or_top | (room <= _EDGE_PX)
    return near


def _judged_picture(outcome: Outcome, predictions: Predictions, label: int, sizes: tuple[float, float]) -> _Judged:
    chosen = predictions.classes == label
    boxes, scores = predictions.boxes[chosen], predictions.scores[chosen]
    objects = outcome.truth.boxes[outcome.truth.classes == label]
    left_out = _outside(objects, sizes) | _inside_regions(objects, outcome.ignored)
    right, void = judge(iou_matrix(boxes, objects), scores, IOU_THRESHOLDS, left_out)
    # What matches nothing and is of another size, or in a region that is not judged, is not wrong either.
    void = void | ~right & (_outside(boxes, sizes) | _inside_regions(boxes, outcome.ignored))
    edge = _at_edge(boxes, outcome.width, outcome.height)
    return _Judged(right, void, edge, scores, int((~left_out).sum()))


def _judged(outcomes: Sequence[Outcome], label: int, sizes: tuple[float, float], *, ranked: bool) -> _Judged:
    parts = [_judged_picture(one, one.ranked if ranked else one.found, label, sizes) for one in outcomes]
    scores = np.concatenate([one.scores for one in parts])
    order = np.argsort(-scores, kind="stable")
    return _Judged(
        np.concatenate([one.right for one in parts], axis=1)[:, order],
        np.concatenate([one.void for one in parts], axis=1)[:, order],
        np.concatenate([one.at_edge for one in parts])[order],
        scores[order],
        sum(one.things for one in parts),
    )


def _share(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")


def _size_figures(outcomes: Sequence[Outcome], label: int, sizes: tuple[float, float]) -> SizeFigures:
    found = _judged(outcomes, label, sizes, ranked=False)
    aps = _judged(outcomes, label, sizes, ranked=True).average_precisions()
    right = int(found.right[0].sum())
    return SizeFigures(
        things=found.things,
        precision=_share(right, int((~found.void[0]).sum())),
        recall=_share(right, found.things),
        ap50=aps[0],
        ap50_95=float(np.mean(aps)),
    )


def class_figures(outcomes: Iterable[Outcome], label: int) -> ClassFigures | None:
    """Return the figures of a class over the pictures on which it is known; None when it is known on none."""
    judged = [one for one in outcomes if one.known[label]]
    if not judged:
        return None
    found = _judged(judged, label, _ALL_SIZES, ranked=False)
    aps = _judged(judged, label, _ALL_SIZES, ranked=True).average_precisions()
    false = ~found.right[0] & ~found.void[0]
    right = int(found.right[0].sum())
    return ClassFigures(
        pictures=len(judged),
        things=found.things,
        right=right,
        false=int(false.sum()),
        false_at_edge=int((false & found.at_edge).sum()),
        false_per_megapixel=int(false.sum()) / sum(one.megapixels for one in judged),
        precision=_share(right, right + int(false.sum())),
        recall=_share(right, found.things),
        ap50=aps[0],
        ap50_95=float(np.mean(aps)),
        sizes={name: _size_figures(judged, label, (low, high)) for name, low, high in SIZES_PX},
    )


def judged_scores(outcomes: Sequence[Outcome], label: int) -> tuple[NDArray[np.bool_], Floats, int]:
    """Return which of the predictions down to a low score are right, their scores, and the number of objects.

    Predictions that are neither right nor wrong are left out.
    """
    if not outcomes:
        return np.zeros(0, np.bool_), np.zeros(0, np.float32), 0
    judged = _judged(outcomes, label, _ALL_SIZES, ranked=True)
    kept = ~judged.void[0]
    return judged.right[0][kept], judged.scores[kept], judged.things


def boxes_of(outcomes: Iterable[Outcome], label: int) -> int:
    """Return how many boxes of a class were found with the settings of the card."""
    return sum(int((one.found.classes == label).sum()) for one in outcomes)
