"""Merges boxes one pair at a time in plain Python, as a reference for the tests of merging."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from math import atan2, cos, hypot, pi, sin

import numpy as np

from detectors.geometry.arrays import Candidates
from detectors.geometry.boxes import Metric
from schemas.events import MergeMethod

Box = tuple[float, ...]
Point = tuple[float, float]
Shape = tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class Case:
    """Holds the arguments of ``merge``."""

    found: Candidates
    method: MergeMethod
    metric: Metric
    threshold: float
    class_aware: bool


@dataclass(frozen=True, slots=True)
class Cluster:
    """Holds the rows of boxes that became one, best first, with the score, box and corners of the result."""

    rows: list[int]
    score: float
    box: Box
    quad: Shape | None


def expected(case: Case, meets: Callable[[int, int], bool] | None = None) -> list[Cluster]:
    """Return the clusters that ``case`` must end with, best first; ``meets`` replaces the rule about classes."""
    found = case.found
    rows = [row for row in range(len(found)) if _has_area(found, row)]
    rows.sort(key=lambda row: _order(found, row))

    def same_class(one: int, two: int) -> bool:
        return not case.class_aware or bool(found.classes[one] == found.classes[two])

    may = meets or same_class
    if case.method == "wbf":
        return _fused(case, rows, may)

    shapes = {row: shape(found, row) for row in rows}

    def matches(one: int, two: int) -> bool:
        return may(one, two) and share(shapes[one], shapes[two], case.metric) > case.threshold

    clusters = _chains(rows, matches) if case.method == "nmm" else _greedy(rows, matches)
    return [_united(case, cluster) for cluster in clusters]


def _greedy(rows: list[int], matches: Callable[[int, int], bool]) -> list[list[int]]:
    clusters = []
    while rows:
        leader, *others = rows
        taken = [row for row in others if matches(leader, row)]
        clusters.append([leader, *taken])
        rows = [row for row in others if row not in taken]
    return clusters


def _chains(rows: list[int], matches: Callable[[int, int], bool]) -> list[list[int]]:
    clusters: list[list[int]] = []
    for place, row in enumerate(rows):
        first = next((better for better in rows[:place] if matches(better, row)), None)
        if first is None:
            clusters.append([row])
        else:
            next(cluster for cluster in clusters if first in cluster).append(row)
    return clusters


def _united(case: Case, rows: list[int]) -> Cluster:
    found = case.found
    quad = None if found.quads is None else shape(found, rows[0])
    if case.method == "nms":
        return Cluster(rows, float(found.scores[rows[0]]), tuple(found.boxes[rows[0]].tolist()), quad)
    boxes = [found.boxes[row].tolist() for row in rows]
    box = (min(b[0] for b in boxes), min(b[1] for b in boxes), max(b[2] for b in boxes), max(b[3] for b in boxes))
    return Cluster(rows, float(found.scores[rows[0]]), box, quad if len(rows) == 1 else None)


def _fused(case: Case, rows: list[int], may: Callable[[int, int], bool]) -> list[Cluster]:
    found = case.found
    clusters: list[list[int]] = []
    means: list[Shape] = []
    for row in rows:
        best, most, own = None, case.threshold, shape(found, row)
        for place, cluster in enumerate(clusters):
            if may(cluster[0], row):
                overlap = share(means[place], own, case.metric)
                if overlap > most:
                    best, most = place, overlap
        if best is None:
            clusters.append([row])
            means.append(mean_shape(found, [row]))
        else:
            clusters[best].append(row)
            means[best] = mean_shape(found, clusters[best])
    fused = []
    for cluster in clusters:
        score = sum(float(found.scores[row]) for row in cluster) / len(cluster)
        quad = None if found.quads is None else mean_shape(found, cluster)
        fused.append(Cluster(cluster, score, tuple(_mean_box(found, cluster)), quad))
    return sorted(fused, key=lambda one: _fused_order(found, one))


def _fused_order(found: Candidates, cluster: Cluster) -> tuple[object, ...]:
    left, top, right, bottom = np.float32(cluster.box).tolist()
    leader = cluster.rows[0]
    score = -float(np.float32(cluster.score))
    return (score, int(found.tiles[leader]), top, left, bottom, right, int(found.classes[leader]))


def mean_shape(found: Candidates, rows: list[int]) -> Shape:
    """Return the corners of the fused box of ``rows``."""
    if found.quads is None:
        return _corners_of_box(_mean_box(found, rows))
    if len(rows) == 1:
        return shape(found, rows[0])
    first = shape(found, rows[0])
    total = x = y = width = height = along = across = 0.0
    for row in rows:
        weight = _weight(found, row)
        own = shape(found, row)
        own = min(
            (own[shift:] + own[:shift] for shift in range(4)),
            key=lambda quad: sum((a - c) ** 2 + (b - d) ** 2 for (a, b), (c, d) in zip(quad, first, strict=True)),
        )
        angle = atan2(own[1][1] - own[0][1], own[1][0] - own[0][0])
        total += weight
        x += weight * sum(point[0] for point in own) / 4
        y += weight * sum(point[1] for point in own) / 4
        width += weight * hypot(own[1][0] - own[0][0], own[1][1] - own[0][1])
        height += weight * hypot(own[2][0] - own[1][0], own[2][1] - own[1][1])
        along += weight * cos(angle)
        across += weight * sin(angle)
    angle = atan2(across, along)
    return tuple(rectangle(x / total, y / total, width / total, height / total, angle))


def rectangle(x: float, y: float, width: float, height: float, angle: float) -> list[Point]:
    """Return the corners, clockwise as seen, of a box around x, y whose width runs along ``angle``."""
    corners = []
    for right, down in ((-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)):
        to_right, to_below = right * width, down * height
        corners.append(
            (
                x + to_right * cos(angle) + to_below * cos(angle + pi / 2),
                y + to_right * sin(angle) + to_below * sin(angle + pi / 2),
            )
        )
    return corners


def share(one: Shape, two: Shape, metric: Metric) -> float:
    """Return IoU or IoS of two convex polygons, both clockwise as seen."""
    of_extents = _share_of_boxes(_extent(one), _extent(two), metric)
    if not of_extents:
        return 0.0  # nothing in common, without clipping
    if all(a[0] == b[0] or a[1] == b[1] for shape in (one, two) for a, b in pairwise(shape)):
        return of_extents  # axis-aligned: as exact as the sides are
    return _ratio(_area_inside(one, two), polygon_area(one), polygon_area(two), metric)


@lru_cache(maxsize=50_000)
def _area_inside(one: Shape, two: Shape) -> float:
    """Return the area that two polygons share: the same pairs come again with each method and metric."""
    return polygon_area(clipped(one, two))


def _share_of_boxes(one: Box, two: Box, metric: Metric) -> float:
    width = min(one[2], two[2]) - max(one[0], two[0])
    height = min(one[3], two[3]) - max(one[1], two[1])
    if width <= 0 or height <= 0:
        return 0.0
    sizes = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, two)]
    return _ratio(width * height, *sizes, metric)


def _ratio(inside: float, one: float, two: float, metric: Metric) -> float:
    if min(one, two) <= 0:
        return 0.0
    return inside / (one + two - inside if metric == "iou" else min(one, two))


def polygon_area(polygon: Sequence[Point]) -> float:
    """Return the area by the shoelace formula; exact where the corners are fractions."""
    ends = [*polygon[1:], *polygon[:1]]
    return sum((a[0] * b[1] - b[0] * a[1] for a, b in zip(polygon, ends, strict=True)), start=0) / 2


def clipped(polygon: Sequence[Point], by: Sequence[Point]) -> list[Point]:
    """Cut ``polygon`` to the convex ``by``, both clockwise as seen; exact where the corners are fractions."""
    left = list(polygon)
    for start, end in zip(by, [*by[1:], by[0]], strict=True):
        run = (end[0] - start[0], end[1] - start[1])
        corners, left = left, []
        for a, b in zip(corners, [*corners[1:], *corners[:1]], strict=True):
            side_a = run[0] * (a[1] - start[1]) - run[1] * (a[0] - start[0])
            side_b = run[0] * (b[1] - start[1]) - run[1] * (b[0] - start[0])
            if side_a >= 0:
                left.append(a)
            if side_a * side_b < 0:
                part = side_a / (side_a - side_b)
                left.append((a[0] + part * (b[0] - a[0]), a[1] + part * (b[1] - a[1])))
    return left


def shape(found: Candidates, row: int) -> Shape:
    """Return the corners of the box at ``row``, clockwise as seen."""
    if found.quads is None:
        return _corners_of_box(found.boxes[row].tolist())
    return tuple((x, y) for x, y in found.quads[row].tolist())


def _corners_of_box(box: Sequence[float]) -> Shape:
    left, top, right, bottom = box
    return (left, top), (right, top), (right, bottom), (left, bottom)


@lru_cache(maxsize=10_000)
def _extent(polygon: Shape) -> Box:
    xs, ys = [x for x, _ in polygon], [y for _, y in polygon]
    return min(xs), min(ys), max(xs), max(ys)


def _mean_box(found: Candidates, rows: list[int]) -> list[float]:
    if len(rows) == 1:
        return [float(side) for side in found.boxes[rows[0]]]
    sides = []
    for side in range(4):
        total = weighted = 0.0
        for row in rows:
            weighted += _weight(found, row) * float(found.boxes[row, side])
            total += _weight(found, row)
        sides.append(weighted / total)
    return sides


def _weight(found: Candidates, row: int) -> float:
    return max(float(found.scores[row]), 1e-6)


def _has_area(found: Candidates, row: int) -> bool:
    left, top, right, bottom = found.boxes[row]
    return bool(right > left and bottom > top) and (found.quads is None or polygon_area(shape(found, row)) > 0)


def _order(found: Candidates, row: int) -> tuple[object, ...]:
    left, top, right, bottom = found.boxes[row].tolist()
    quad = () if found.quads is None else tuple(reversed(found.quads[row].ravel().tolist()))
    place = (top, left, bottom, right, int(found.classes[row]))
    return (-float(found.scores[row]), int(found.tiles[row]), *place, *quad)
