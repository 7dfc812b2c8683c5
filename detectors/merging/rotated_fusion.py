"""Fuses rotated boxes: computes the mean of boxes with different directions, and how much it overlaps one."""

from __future__ import annotations

from itertools import pairwise
from math import atan2, cos, hypot, sin

from detectors.geometry.arrays import DoubleArray
from detectors.geometry.quads import NOTHING
from detectors.merging.matching import Shapes

Corner = tuple[float, float]


class TurnedMembers:
    """Holds rotated boxes by place: corners clockwise as seen, enclosing boxes, areas in px², weights."""

    def __init__(self, shapes: Shapes, weights: DoubleArray) -> None:
        assert shapes.quads is not None, "rotated boxes have quads"
        self.boxes: list[tuple[float, float, float, float]] = [tuple(box) for box in shapes.boxes.tolist()]
        self.quads: list[list[Corner]] = [_clockwise([(x, y) for x, y in quad]) for quad in shapes.quads.tolist()]
        self.sizes: list[float] = shapes.sizes.tolist()
        self.weights: list[float] = weights.tolist()
        self.metric = shapes.metric
        self.threshold = shapes.threshold

    def begin(self, number: int, place: int) -> TurnedCluster:
        """Return a new cluster with the box at ``place``."""
        return TurnedCluster(self, number, place)


class TurnedCluster:
    """Implements :class:`detectors.merging.fusion.BoxCluster` for rotated boxes."""

    __slots__ = ("_first", "_members", "_size", "_sums", "box", "number", "quad")

    def __init__(self, members: TurnedMembers, number: int, place: int) -> None:
        self.number = number
        self.box = members.boxes[place]
        self.quad = self._first = members.quads[place]
        self._members = members
        self._size = members.sizes[place]
        self._sums = _weighted(self.quad, members.weights[place])

    def overlap(self, place: int) -> float:
        """Return how much the fused box overlaps the box at ``place``, 0..1; 0 also where it is below the threshold."""
        members, box, other = self._members, self.box, self._members.boxes[place]
        width = min(box[2], other[2]) - max(box[0], other[0])
        height = min(box[3], other[3]) - max(box[1], other[1])
        if width <= 0 or height <= 0:
            return 0.0
        most = self._share(min(width * height, self._size, members.sizes[place]), place)
        if most * (1 + 1e-9) <= members.threshold:
            return 0.0
        inside = common_area(self.quad, members.quads[place])
        # As in detectors.geometry.quads: what is as small as this is rounding, where sides only touch.
        if inside <= NOTHING * (box[2] - box[0]) * (box[3] - box[1]):
            return 0.0
        return self._share(min(inside, self._size, members.sizes[place]), place)

    def add(self, place: int) -> None:
        """Add the box at ``place``."""
        aligned = _nearest_numbering(self._members.quads[place], self._first)
        more = _weighted(aligned, self._members.weights[place])
        self._sums = [before + new for before, new in zip(self._sums, more, strict=True)]
        total, x, y, width, height, along, across = self._sums
        self.quad = rotated_corners((x / total, y / total), (width / total, height / total), atan2(across, along))
        across_all, down_all = [corner[0] for corner in self.quad], [corner[1] for corner in self.quad]
        self.box = (min(across_all), min(down_all), max(across_all), max(down_all))
        self._size = area(self.quad)

    def _share(self, inside: float, place: int) -> float:
        size = self._members.sizes[place]
        return inside / (self._size + size - inside if self._members.metric == "iou" else min(self._size, size))


def area(polygon: list[Corner]) -> float:
    """Return the area of ``polygon`` (px²), positive where its corners are clockwise as seen (y points down)."""
    origin_x, origin_y = polygon[0]
    turned = 0.0
    for (x, y), (next_x, next_y) in pairwise(polygon[1:]):
        turned += (x - origin_x) * (next_y - origin_y) - (next_x - origin_x) * (y - origin_y)
    return turned / 2


def common_area(first: list[Corner], second: list[Corner]) -> float:
    """Return the area (px²) that two convex polygons share, both clockwise: one is cut along each side of the other.

    After Sutherland and Hodgman, "Reentrant polygon clipping", 1974. For one pair, where arrays would take longer.
    """
    left = first
    start_x, start_y = second[-1]
    for end_x, end_y in second:
        along_x, along_y = end_x - start_x, end_y - start_y
        sides = [along_x * (y - start_y) - along_y * (x - start_x) for x, y in left]
        left = _cut(left, sides)
        if len(left) < 3:
            return 0.0
        start_x, start_y = end_x, end_y
    return max(area(left), 0.0)


def _cut(polygon: list[Corner], sides: list[float]) -> list[Corner]:
    """Return the part of ``polygon`` on or to the right of a line: where ``sides``, one per corner, are >= 0."""
    if min(sides) >= 0:
        return polygon
    left: list[Corner] = []
    (before_x, before_y), before = polygon[-1], sides[-1]
    for (x, y), side in zip(polygon, sides, strict=True):
        if (side < 0) != (before < 0):
            share = before / (before - side)
            left.append((before_x + share * (x - before_x), before_y + share * (y - before_y)))
        if side >= 0:
            left.append((x, y))
        before_x, before_y, before = x, y, side
    return left


def rotated_corners(centre: Corner, size: tuple[float, float], angle: float) -> list[Corner]:
    """Return the corners, clockwise as seen, of a box of ``size`` whose width is along ``angle`` (rad)."""
    wide_x, wide_y = size[0] / 2 * cos(angle), size[0] / 2 * sin(angle)
    high_x, high_y = -size[1] / 2 * sin(angle), size[1] / 2 * cos(angle)
    x, y = centre
    return [
        (x - wide_x - high_x, y - wide_y - high_y),
        (x + wide_x - high_x, y + wide_y - high_y),
        (x + wide_x + high_x, y + wide_y + high_y),
        (x - wide_x + high_x, y - wide_y + high_y),
    ]


def _weighted(quad: list[Corner], weight: float) -> list[float]:
    """Return the summands of a mean: weight, centre x and y, width, height, direction x and y, times the weight."""
    (ax, ay), (bx, by), (cx, cy), (dx, dy) = quad
    # The mean of two opposite sides each, for what is not quite a rectangle.
    wide_x, wide_y = (bx - ax + cx - dx) / 2, (by - ay + cy - dy) / 2
    width = hypot(wide_x, wide_y)
    height = hypot((dx - ax + cx - bx) / 2, (dy - ay + cy - by) / 2)
    x, y = (ax + bx + cx + dx) / 4, (ay + by + cy + dy) / 4
    values = (1.0, x, y, width, height, wide_x / width, wide_y / width)
    return [weight * value for value in values]


def _nearest_numbering(quad: list[Corner], like: list[Corner]) -> list[Corner]:
    """Return ``quad`` from the corner on with which its corners are nearest to those of ``like`` (squares)."""

    def away(first: int) -> float:
        numbered = quad[first:] + quad[:first]
        return sum((x - at_x) ** 2 + (y - at_y) ** 2 for (x, y), (at_x, at_y) in zip(numbered, like, strict=True))

    first = min(range(4), key=away)
    return quad[first:] + quad[:first]


def _clockwise(quad: list[Corner]) -> list[Corner]:
    """Return ``quad`` with its corners clockwise as seen, its first corner first."""
    return quad if area(quad) > 0 else [quad[0], *quad[:0:-1]]
