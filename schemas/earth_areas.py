"""Defines areas of the earth in degrees, also across the date line, and the ground that a frame shows. Pure.

Edges are straight in longitude and latitude, as on a map of the whole earth, and go the shorter way round it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

from schemas.errors import StandgaleError
from schemas.geometry import CameraGeometry

Corner = tuple[float, float]
"""Longitude and latitude in degrees."""

MAX_CORNERS = 64
"""Each edge of a polygon is compared with all others."""

_METRES_PER_DEGREE = 111_195.0
# A polygon of 64 corners with all digits of its numbers has a third of this.
_MAX_TEXT = 8_192
_SHOWN = 60
_NUMBER = re.compile(r"[+-]?(?:\d{1,20}(?:\.\d{0,40})?|\.\d{1,40})(?:[eE][+-]?\d{1,3})?", re.ASCII)
_WKT = re.compile(r"POLYGON\s*\(\s*\(([^()]*)\)\s*\)", re.ASCII | re.IGNORECASE)


class AreaError(StandgaleError):
    """A text is no area of the earth."""

    code: ClassVar[str] = "INVALID_AREA"


@dataclass(frozen=True, slots=True)
class Footprint:
    """Is the ground that a frame shows: a rectangle around the camera, or a point where its size is not known.

    Without a heading its direction is not known either; then it is the circle that holds the rectangle.
    """

    longitude: float
    latitude: float
    half_width_m: float = 0.0
    half_height_m: float = 0.0
    heading_deg: float | None = None

    @classmethod
    def of(cls, camera: CameraGeometry | None, width_px: int, height_px: int) -> Footprint | None:
        """Return the footprint of a frame of that size; None where the camera's position is not known.

        The camera is taken to look straight down; where it looks aside by up to 30 degrees the ground is a little off.
        """
        if camera is None or camera.longitude is None or camera.latitude is None:
            return None
        metres = camera.ground_sampling_distance_m(width_px) or 0.0
        return cls(camera.longitude, camera.latitude, metres * width_px / 2, metres * height_px / 2, camera.heading_deg)

    @property
    def radius_m(self) -> float:
        """How far its corners are from the camera."""
        return math.hypot(self.half_width_m, self.half_height_m)


@dataclass(frozen=True, slots=True)
class EarthArea:
    """Is a polygon, or a box with sides along the axes; its corners go on beyond 180 degrees where it crosses them."""

    corners: tuple[Corner, ...]
    is_box: bool = False

    @classmethod
    def box(cls, west: float, south: float, east: float, north: float) -> EarthArea:
        """Return a box; with ``west`` > ``east`` it crosses the date line."""
        end = east if west <= east else east + 360
        return cls(((west, south), (end, south), (end, north), (west, north)), is_box=True)

    def holds(self, longitude: float, latitude: float) -> bool:
        """Whether the point is in the area or on its edge."""
        return any(self._holds(longitude + turn, latitude) for turn in (-360.0, 0.0, 360.0))

    def meets(self, footprint: Footprint) -> bool:
        """Whether the area and the ground that a frame shows have a point in common."""
        radius_m = footprint.radius_m
        if radius_m == 0:
            return self.holds(footprint.longitude, footprint.latitude)
        return any(self._meets(footprint, radius_m, turn) for turn in (-360.0, 0.0, 360.0))

    def _holds(self, x: float, y: float) -> bool:
        west, south, east, north = self._bounds()
        if not (west <= x <= east and south <= y <= north):
            return False
        return self.is_box or _is_inside(self.corners, x, y)

    def _bounds(self) -> tuple[float, float, float, float]:
        (west, south), (east, north) = self.corners[0], self.corners[0]
        for x, y in self.corners[1:]:
            west, east, south, north = min(west, x), max(east, x), min(south, y), max(north, y)
        return west, south, east, north

    def _meets(self, footprint: Footprint, radius_m: float, turn: float) -> bool:
        longitude, latitude = footprint.longitude + turn, footprint.latitude
        west, south, east, north = self._bounds()
        # At a pole a metre is any number of degrees.
        across = max(math.cos(math.radians(latitude)), 1e-6) * _METRES_PER_DEGREE
        wide, high = radius_m / across, radius_m / _METRES_PER_DEGREE
        if longitude + wide < west or longitude - wide > east or latitude + high < south or latitude - high > north:
            return False
        if self._holds(longitude, latitude):
            return True
        local = [((x - longitude) * across, (y - latitude) * _METRES_PER_DEGREE) for x, y in self.corners]
        if footprint.heading_deg is None:
            return any(_distance(one, other) <= radius_m for one, other in _edges(local))
        turned = _turned(local, math.radians(footprint.heading_deg))
        sides = footprint.half_width_m, footprint.half_height_m
        return any(_crosses_rectangle(one, other, *sides) for one, other in _edges(turned))


def parse_area(text: str) -> EarthArea:
    """Return the area in ``text``: ``west,south,east,north``, or a polygon as ``POLYGON((lon lat, lon lat, …))``.

    Raises AreaError that says what is wrong.
    """
    if len(text) > _MAX_TEXT:
        raise AreaError(f"area: {text[:_SHOWN]!r}… has {len(text)} characters; at most {_MAX_TEXT} are read")
    return _parsed(text)


@lru_cache(maxsize=256)
def _parsed(text: str) -> EarthArea:
    if text.lstrip()[:1].isalpha():
        return _polygon(text)
    parts = text.split(",", 4)
    if len(parts) != 4:
        raise AreaError(
            f"area: {text[:_SHOWN]!r} must be west,south,east,north in degrees, or POLYGON((lon lat, lon lat, …))"
        )
    west, south, east, north = (
        _degrees(part, limit, text) for part, limit in zip(parts, (180, 90, 180, 90), strict=True)
    )
    if south > north:
        raise AreaError(f"area: {text[:_SHOWN]!r} has south above north; it must be west,south,east,north in degrees")
    return EarthArea.box(west, south, east, north)


def _polygon(text: str) -> EarthArea:
    shown = repr(text[:_SHOWN])
    match = _WKT.fullmatch(text.strip())
    if match is None:
        raise AreaError(
            f"area: {shown} is not one polygon without holes; write POLYGON((lon lat, lon lat, …)) in degrees"
        )
    corners: list[Corner] = []
    for part in match[1].split(",", MAX_CORNERS + 1):
        numbers = part.split()
        if len(numbers) != 2:
            raise AreaError(f"area: {part.strip()[:_SHOWN]!r} in {shown} must be a corner: longitude, space, latitude")
        corner = _degrees(numbers[0], 180, text), _degrees(numbers[1], 90, text)
        if not corners or corners[-1] != corner:
            corners.append(corner)
    if len(corners) > 1 and corners[0] == corners[-1]:
        corners.pop()
    if not 3 <= len(corners) <= MAX_CORNERS:
        raise AreaError(f"area: {shown} has {len(corners)} different corners; a polygon has 3 to {MAX_CORNERS}")
    unrolled = _unrolled(corners, shown)
    _require_simple(unrolled, shown)
    return EarthArea(unrolled)


def _degrees(text: str, limit: float, whole: str) -> float:
    cleaned = text.strip()
    if _NUMBER.fullmatch(cleaned) is None:
        raise AreaError(f"area: {cleaned[:_SHOWN]!r} in {whole[:_SHOWN]!r} is not a number of degrees")
    found = float(cleaned)
    if not -limit <= found <= limit:
        raise AreaError(f"area: {cleaned[:_SHOWN]!r} in {whole[:_SHOWN]!r} is not between -{limit:g} and {limit:g}")
    return found


def _unrolled(corners: Sequence[Corner], shown: str) -> tuple[Corner, ...]:
    """Return the corners with longitudes that go on beyond 180 degrees, so that each edge goes the shorter way."""
    found = [corners[0]]
    for number, (longitude, latitude) in enumerate((*corners[1:], corners[0]), start=1):
        step = (longitude - found[-1][0] + 180) % 360 - 180
        if step == -180:
            raise AreaError(
                f"area: the edge behind corner {number} of {shown} goes half around the earth, and either way is as "
                "short; put a corner between"
            )
        found.append((found[-1][0] + step, latitude))
    closing = found.pop()
    if abs(closing[0] - found[0][0]) > 1:
        raise AreaError(f"area: {shown} goes around a pole; give a box such as -180,60,180,90 instead")
    return tuple(found)


def _require_simple(corners: Sequence[Corner], shown: str) -> None:
    """Raise AreaError when two edges touch that do not follow each other, or when one goes back over the one before."""
    edges, count = list(_edges(corners)), len(corners)
    for number, (start, end) in enumerate(edges):
        following = edges[(number + 1) % count][1]
        back = _side(start, end, following) == 0 and (
            (end[0] - start[0]) * (following[0] - end[0]) + (end[1] - start[1]) * (following[1] - end[1]) < 0
        )
        if back:
            raise AreaError(f"area: {shown} goes back over its own edge at corner {(number + 1) % count + 1}")
        for other in range(number + 2, count - (number == 0)):
            if _touch(start, end, *edges[other]):
                raise AreaError(
                    f"area: edges {number + 1} and {other + 1} of {shown} cross or touch; a polygon's do not"
                )


def _edges(corners: Sequence[Corner]) -> list[tuple[Corner, Corner]]:
    return list(zip(corners, (*corners[1:], corners[0]), strict=True))


def _side(start: Corner, end: Corner, point: Corner) -> float:
    """Return on which side of a line a point is: above 0 left of it, 0 on it."""
    return (end[0] - start[0]) * (point[1] - start[1]) - (end[1] - start[1]) * (point[0] - start[0])


def _is_between(start: Corner, end: Corner, point: Corner) -> bool:
    """Whether a point of the line is between two others of it."""
    return min(start[0], end[0]) <= point[0] <= max(start[0], end[0]) and (
        min(start[1], end[1]) <= point[1] <= max(start[1], end[1])
    )


def _touch(one: Corner, two: Corner, three: Corner, four: Corner) -> bool:
    """Whether two segments have a point in common."""
    first, second = _side(three, four, one), _side(three, four, two)
    third, fourth = _side(one, two, three), _side(one, two, four)
    if (first > 0) != (second > 0) and (third > 0) != (fourth > 0) and first and second and third and fourth:
        return True
    on_line = (
        (first, three, four, one),
        (second, three, four, two),
        (third, one, two, three),
        (fourth, one, two, four),
    )
    return any(side == 0 and _is_between(start, end, point) for side, start, end, point in on_line)


def _is_inside(corners: Sequence[Corner], x: float, y: float) -> bool:
    """Whether a point is in a polygon or on its edge."""
    inside = False
    for start, end in _edges(corners):
        side = _side(start, end, (x, y))
        if side == 0 and _is_between(start, end, (x, y)):
            return True
        if (start[1] > y) != (end[1] > y) and (side > 0) == (end[1] > start[1]):
            inside = not inside
    return inside


def _distance(start: Corner, end: Corner) -> float:
    """Return how far a segment is from the origin."""
    step = end[0] - start[0], end[1] - start[1]
    length = step[0] ** 2 + step[1] ** 2
    share = 0.0 if length == 0 else min(1.0, max(0.0, -(start[0] * step[0] + start[1] * step[1]) / length))
    return math.hypot(start[0] + share * step[0], start[1] + share * step[1])


def _turned(corners: Sequence[Corner], heading: float) -> list[Corner]:
    """Return points, in metres east and north, as metres to the right of the frame and towards its top."""
    east, north = math.sin(heading), math.cos(heading)
    return [(x * north - y * east, x * east + y * north) for x, y in corners]


def _crosses_rectangle(start: Corner, end: Corner, half_width: float, half_height: float) -> bool:
    """Whether a segment has a point in the rectangle around the origin (Liang and Barsky's clipping)."""
    first, last = 0.0, 1.0
    for begin, step, half in (
        (start[0], end[0] - start[0], half_width),
        (start[1], end[1] - start[1], half_height),
    ):
        if step == 0:
            if abs(begin) > half:
                return False
            continue
        near, far = sorted(((-half - begin) / step, (half - begin) / step))
        first, last = max(first, near), min(last, far)
        if first > last:
            return False
    return True
