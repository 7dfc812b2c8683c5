"""Reads areas on the earth, boxes and polygons in degrees, and finds out whether a point is in one.

Sides of a polygon are straight in longitude and latitude, as in GeoJSON, and go the shorter way around the earth: an
area may cross the meridian of 180 degrees.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

from schemas.errors import StandgaleError

Position = tuple[float, float]
"""Longitude and latitude in degrees."""

AREA_FORMS = "west,south,east,north, or the corners of a polygon as lon,lat;lon,lat;lon,lat, in degrees"
MOST_CORNERS = 100
_FULL_TURN = 360.0
# Reading a number takes time with the square of its digits; no sensible one is longer.
_MOST_DIGITS = 32
_MOST_TEXT = 2 * MOST_CORNERS * (_MOST_DIGITS + 1)
_SHOWN = 60


class AreaError(StandgaleError):
    """An area cannot be read, or is none: the text says what is wrong with it."""

    code: ClassVar[str] = "INVALID_AREA"


@dataclass(frozen=True, slots=True)
class Area:
    """Is a part of the earth within a line that does not cross itself."""

    corners: tuple[Position, ...]
    """In order; the longitudes go on beyond 180 where the area crosses that meridian, so that no side jumps"""

    def holds(self, longitude: float, latitude: float) -> bool:
        """Whether the point is in the area or on its edge."""
        return any(_within(self.corners, (longitude + turn, latitude)) for turn in (0.0, _FULL_TURN))

    def as_text(self) -> str:
        """Return the corners as PostgreSQL reads a polygon: ((x,y),…)."""
        return f"({','.join(f'({x!r},{y!r})' for x, y in self.corners)})"


def parse_area(text: str) -> Area:
    """Return the area that ``text`` describes (see AREA_FORMS). Raises AreaError that says what is wrong with it."""
    if len(text) > _MOST_TEXT:
        raise AreaError(f"it has {len(text):,} characters; at most {MOST_CORNERS} corners are taken")
    if ";" not in text:
        return _box([_number(part, limit) for part, limit in zip(_parts(text, 4), (180, 90) * 2, strict=True)])
    pieces = [piece for piece in text.split(";") if piece.strip()]
    corners = [_corner(piece) for piece in pieces]
    if len(corners) > 1 and corners[0] == corners[-1]:
        corners.pop()
    if not 3 <= len(corners) <= MOST_CORNERS:
        raise AreaError(f"a polygon has 3 to {MOST_CORNERS} corners; this one has {len(corners)}")
    return _polygon(corners)


def _parts(text: str, count: int) -> list[str]:
    parts = text.split(",")
    if len(parts) != count:
        raise AreaError(f"{text[:_SHOWN]!r} must be {AREA_FORMS}")
    return parts


def _corner(piece: str) -> Position:
    longitude, latitude = _parts(piece, 2)
    return _number(longitude, 180), _number(latitude, 90)


def _number(text: str, limit: float) -> float:
    try:
        number = float(text) if len(text) <= _MOST_DIGITS else math.nan
    except ValueError as error:
        raise AreaError(f"{text[:_SHOWN]!r} is not a number; an area is {AREA_FORMS}") from error
    if not -limit <= number <= limit:
        raise AreaError(f"{text[:_SHOWN]!r} is not between {-limit:g} and {limit:g}")
    return number


def _box(sides: Sequence[float]) -> Area:
    west, south, east, north = sides
    if south > north:
        raise AreaError(f"its south, {south:g}, is above its north, {north:g}; a box is west,south,east,north")
    if west > east:
        east += _FULL_TURN
    return Area(((west, south), (east, south), (east, north), (west, north)))


def _polygon(corners: Sequence[Position]) -> Area:
    line = [corners[0]]
    for longitude, latitude in (*corners[1:], corners[0]):
        step = math.remainder(longitude - line[-1][0], _FULL_TURN)
        if abs(step) == _FULL_TURN / 2:
            raise AreaError("a side goes half around the earth, so its way is not clear; add a corner between")
        line.append((line[-1][0] + step, latitude))
    if not math.isclose(line[0][0], line[-1][0], abs_tol=1e-9):
        raise AreaError("it goes around a pole; give a box from west -180 to east 180 instead")
    line[-1] = line[0]
    _require_simple(list(pairwise(line)))
    shift = _FULL_TURN if min(longitude for longitude, _ in line) < -_FULL_TURN / 2 else 0.0
    return Area(tuple((longitude + shift, latitude) for longitude, latitude in line[:-1]))


def _require_simple(sides: Sequence[tuple[Position, Position]]) -> None:
    """Raise AreaError when two of ``sides``, which close a line, cross or touch anywhere but in their common corner."""
    count = len(sides)
    for first in range(count):
        a, b = sides[first]
        if a == b:
            raise AreaError(f"the corner {_shown(a)} is there twice in a row")
        c = sides[(first + 1) % count][1]
        if _turn(a, b, c) == 0 and (a[0] - b[0]) * (c[0] - b[0]) + (a[1] - b[1]) * (c[1] - b[1]) > 0:
            raise AreaError(f"two sides at the corner {_shown(b)} are on each other")
        # The neighbours have a corner in common; the last side is a neighbour of the first.
        for second in range(first + 2, count - (first == 0)):
            if _meet(sides[first], sides[second]):
                raise AreaError(f"it crosses itself: the sides from {_shown(a)} and from {_shown(sides[second][0])}")


def _shown(corner: Position) -> str:
    return f"{math.remainder(corner[0], _FULL_TURN):g},{corner[1]:g}"


def _turn(a: Position, b: Position, c: Position) -> float:
    """Return more than 0 where the way a, b, c turns left, less than 0 to the right, and 0 on a straight line."""
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])


def _meet(first: tuple[Position, Position], second: tuple[Position, Position]) -> bool:
    (a, b), (c, d) = first, second
    if _turn(a, b, c) * _turn(a, b, d) < 0 and _turn(c, d, a) * _turn(c, d, b) < 0:
        return True
    return _on(a, b, c) or _on(a, b, d) or _on(c, d, a) or _on(c, d, b)


def _on(a: Position, b: Position, point: Position) -> bool:
    """Whether ``point`` is on the side from ``a`` to ``b``."""
    x, y = point
    return (
        _turn(a, b, point) == 0 and min(a[0], b[0]) <= x <= max(a[0], b[0]) and min(a[1], b[1]) <= y <= max(a[1], b[1])
    )


def _within(corners: Sequence[Position], point: Position) -> bool:
    """Whether ``point`` is within the line through ``corners``, or on it."""
    x, y = point
    inside = False
    for a, b in pairwise((*corners, corners[0])):
        if _on(a, b, point):
            return True
        if (a[1] > y) != (b[1] > y) and x < (b[0] - a[0]) * (y - a[1]) / (b[1] - a[1]) + a[0]:
            inside = not inside
    return inside
