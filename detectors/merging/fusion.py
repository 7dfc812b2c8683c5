"""Fuses boxes that show the same object into their mean, weighted by score, in near linear time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import floor, frexp
from typing import Protocol

import numpy as np

from detectors.geometry.arrays import Candidates, DoubleArray, FloatArray, IndexArray
from detectors.geometry.boxes import Metric
from detectors.merging.matching import Shapes
from detectors.merging.rotated_fusion import TurnedMembers

# Lower scores weigh as much as this, so that boxes without a score have a mean, too.
LEAST_WEIGHT = 1e-6

_Box = tuple[float, float, float, float]
_Cell = tuple[int, int]


def fuse_boxes(ranked: Candidates, shapes: Shapes) -> Candidates:
    """Return the fused boxes of ``ranked`` (best first, all with area; ``shapes`` are theirs), oldest cluster first.

    Each box, best first, joins the cluster whose fused box it overlaps most, if by more than the threshold (of equals
    the oldest), or begins a cluster. A fused box is the mean of its cluster's boxes weighted by their scores, so it
    moves with each box that joins, and later boxes are compared with its new place. After Solovyev, Wang and Gabruseva,
    "Weighted boxes fusion", 2019; but the score is the plain mean of the cluster's scores. The paper lowers it where
    few of several models agree; here all boxes are from one model, and most places are seen by one tile only.

    The fused box of rotated boxes has the means of centre, width, height and direction, after the corners of each box
    were numbered so that they are nearest to those of the cluster's best; ``boxes`` are the mean of the boxes. A
    cluster of one keeps its box as it is. Class and tile are those of the cluster's best box.
    """
    weights = np.maximum(ranked.scores.astype(np.float64), LEAST_WEIGHT)
    numbers, clusters = _clustered(shapes, weights)
    best = ranked.take(np.unique(numbers, return_index=True)[1])
    members = np.bincount(numbers, minlength=len(clusters))
    scores = np.bincount(numbers, ranked.scores, len(clusters)) / members
    total = np.bincount(numbers, weights, len(clusters))
    sums = [np.bincount(numbers, weights * side, len(clusters)) for side in ranked.boxes.T.astype(np.float64)]
    boxes = np.where((members > 1)[:, None], np.stack(sums, axis=1) / total[:, None], best.boxes)
    return Candidates(
        boxes.astype(np.float32),
        scores.astype(np.float32),
        best.classes,
        best.tiles,
        best.cut,
        _fused_quads(best.quads, clusters),
    )


class BoxCluster(Protocol):
    """Holds boxes that show one object, and the box that they are fused into."""

    number: int
    """0, 1, 2, … in the order in which clusters began"""
    box: _Box
    """xyxy, what encloses the fused box"""
    quad: list[tuple[float, float]]
    """the corners of the fused box where boxes are rotated; else none"""

    def overlap(self, place: int) -> float:
        """Return how much the fused box overlaps the box at ``place``, 0..1; may be 0 below the threshold."""

    def add(self, place: int) -> None:
        """Add the box at ``place``."""


class _Members(Protocol):
    """Holds all boxes by their place, and begins clusters of them."""

    @property
    def boxes(self) -> Sequence[_Box]:
        """Return the enclosing box of each."""

    def begin(self, number: int, place: int) -> BoxCluster:
        """Return a new cluster with the box at ``place``."""


def _clustered(shapes: Shapes, weights: DoubleArray) -> tuple[IndexArray, list[BoxCluster]]:
    """Return the number of the cluster of each box (int64 (N,)), and all clusters."""
    members: _Members = UprightMembers(shapes, weights) if shapes.quads is None else TurnedMembers(shapes, weights)
    least = _least_ratio(shapes)
    near: dict[int, _Near] = {}
    clusters: list[BoxCluster] = []
    numbers = np.empty(len(shapes), np.int64)
    for place, (number, box) in enumerate(zip(shapes.bins.tolist(), members.boxes, strict=True)):
        index = near.setdefault(number, _Near(least))
        best, most = None, shapes.threshold
        for cluster in index.around(box):
            share = cluster.overlap(place)
            if share > most or (best is not None and share == most and cluster.number < best.number):
                best, most = cluster, share
        if best is None:
            best = members.begin(len(clusters), place)
            clusters.append(best)
        else:
            best.add(place)
        index.put(best)
        numbers[place] = best.number
    return numbers, clusters


def _least_ratio(shapes: Shapes) -> float:
    """Return a lower bound of the ratio of the longer sides of two enclosing boxes that match.

    An IoU of t needs more than the share t of each side of upright boxes. Of a convex figure a strip of the share s of
    its width has at most 2 s of its area, so quads need t / 2. With IoS a box inside a different one may have any size.
    """
    if shapes.metric == "ios":
        return 0.0
    return shapes.threshold * (1.0 if shapes.quads is None else 0.5) * (1 - 1e-9)


def _fused_quads(best: FloatArray | None, clusters: list[BoxCluster]) -> FloatArray | None:
    if best is None:
        return None
    return np.array([cluster.quad for cluster in clusters], np.float32).reshape(-1, 4, 2)


class UprightMembers:
    """Holds boxes that are not rotated, by their place."""

    def __init__(self, shapes: Shapes, weights: DoubleArray) -> None:
        self.boxes: list[_Box] = [tuple(box) for box in shapes.boxes.tolist()]
        self.sizes: list[float] = shapes.sizes.tolist()
        self.weights: list[float] = weights.tolist()
        self.metric: Metric = shapes.metric

    def begin(self, number: int, place: int) -> BoxCluster:
        """Return a new cluster with the box at ``place``."""
        return UprightCluster(self, number, place)


class UprightCluster:
    """Implements :class:`BoxCluster` for upright boxes. Keeps the weighted sums of the sides, and their mean."""

    __slots__ = ("_members", "_size", "_sums", "_weight", "box", "number", "quad")

    def __init__(self, members: UprightMembers, number: int, place: int) -> None:
        self.number = number
        self.box = members.boxes[place]
        self.quad: list[tuple[float, float]] = []
        self._members = members
        self._size = members.sizes[place]
        self._weight = weight = members.weights[place]
        self._sums = [weight * side for side in self.box]

    def overlap(self, place: int) -> float:
        """See :class:`BoxCluster`."""
        left, top, right, bottom = self.box
        other_left, other_top, other_right, other_bottom = self._members.boxes[place]
        width = (right if right < other_right else other_right) - (left if left > other_left else other_left)
        if width <= 0:
            return 0.0
        height = (bottom if bottom < other_bottom else other_bottom) - (top if top > other_top else other_top)
        if height <= 0:
            return 0.0
        inside, size = width * height, self._members.sizes[place]
        return inside / (self._size + size - inside if self._members.metric == "iou" else min(self._size, size))

    def add(self, place: int) -> None:
        """See :class:`BoxCluster`."""
        weight = self._members.weights[place]
        self._weight = total = self._weight + weight
        self._sums = [
            before + weight * side for before, side in zip(self._sums, self._members.boxes[place], strict=True)
        ]
        left, top, right, bottom = self._sums
        self.box = (left / total, top / total, right / total, bottom / total)
        self._size = (self.box[2] - self.box[0]) * (self.box[3] - self.box[1])


class _Near:
    """Finds clusters near a box, by size (powers of two) and by the cell of that size that has their centre."""

    def __init__(self, least_ratio: float) -> None:
        self._least_ratio = least_ratio
        self._levels: dict[int, dict[_Cell, list[BoxCluster]]] = {}
        self._places: dict[int, tuple[int, _Cell]] = {}

    def put(self, cluster: BoxCluster) -> None:
        """Record where ``cluster`` is; it may be new, or have moved."""
        left, top, right, bottom = cluster.box
        level = frexp(max(right - left, bottom - top))[1]
        reach = 2.0 ** (level + 1)
        place = level, (floor((left + right) / reach), floor((top + bottom) / reach))
        before = self._places.get(cluster.number)
        if before == place:
            return
        if before is not None:
            self._levels[before[0]][before[1]].remove(cluster)
        self._places[cluster.number] = place
        self._levels.setdefault(level, {}).setdefault(place[1], []).append(cluster)

    def around(self, box: _Box) -> Iterator[BoxCluster]:
        """Yield all clusters that may match ``box``, and some that do not."""
        left, top, right, bottom = box
        side = max(right - left, bottom - top)
        for level, cells in self._levels.items():
            # Clusters of this level have a longer side of at least half and less than this.
            reach = 2.0**level
            if reach <= side * self._least_ratio or side <= reach / 2 * self._least_ratio:
                continue
            half = reach / 2
            columns = range(floor((left - half) / reach), floor((right + half) / reach) + 1)
            rows = range(floor((top - half) / reach), floor((bottom + half) / reach) + 1)
            if len(columns) * len(rows) > len(cells):
                for (column, row), clusters in cells.items():
                    if column in columns and row in rows:
                        yield from clusters
                continue
            for column in columns:
                for row in rows:
                    yield from cells.get((column, row), ())
