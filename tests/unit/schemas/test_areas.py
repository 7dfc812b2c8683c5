"""K9: areas on the earth: which points are in them, also across 180 degrees, and which are refused."""

from __future__ import annotations

import time

import pytest

from schemas.areas import MOST_CORNERS, AreaError, parse_area


@pytest.mark.parametrize(
    ("area", "inside", "outside"),
    [
        ("10,20,30,40", [(10, 20), (20, 30), (30, 40)], [(9.9, 30), (20, 40.1), (-20, 30)]),
        ("170,-10,-170,10", [(175, 0), (-175, 0), (180, 0), (-180, 0), (170, 10)], [(0, 0), (169, 0), (-169, 0)]),
        ("-180,-90,180,90", [(0, 0), (180, 90), (-180, -90)], []),
        ("0,0;10,0;0,10", [(1, 1), (5, 5), (0, 0), (5, 0)], [(6, 6), (-1, 1), (11, 0)]),
        ("0,0;10,0;0,10;0,0", [(1, 1)], [(6, 6)]),
        # Across 180 degrees, from either side, in either direction.
        ("170,0;-170,0;-170,10;170,10", [(179, 5), (-179, 5), (180, 5), (-180, 5)], [(160, 5), (-160, 5), (0, 5)]),
        ("-170,10;-170,0;170,0;170,10", [(179, 5), (-179, 5)], [(160, 5), (0, 5)]),
        # Not convex.
        ("0,0;10,0;10,10;5,1;0,10", [(1, 1), (9, 1), (5, 0.5)], [(5, 5)]),
    ],
)
def test_an_area_holds_the_points_within_it_and_on_its_edge(
    area: str, inside: list[tuple[float, float]], outside: list[tuple[float, float]]
) -> None:
    found = parse_area(area)
    assert [point for point in inside if not found.holds(*point)] == []
    assert [point for point in outside if found.holds(*point)] == []


@pytest.mark.parametrize(
    ("area", "reason"),
    [
        ("", "must be west,south,east,north"),
        ("1,2,3", "must be west,south,east,north"),
        ("1,2,3,4,5", "must be west,south"),
        ("nan,0,1,1", "not between"),
        ("181,0,1,1", "not between -180 and 180"),
        ("0,50,1,40", "south, 50, is above its north"),
        ("1,1;2,2", "3 to 100 corners"),
        ("0,0;10,10;10,0;0,10", "crosses itself"),
        ("0,0;10,0;5,0;5,5", "are on each other"),
        ("0,0;10,0;10,10;5,0;0,10", "crosses itself"),
        ("0,0;0,0;1,1;1,0", "twice in a row"),
        ("0,0;180,0;0,10", "half around the earth"),
        ("0,80;120,80;-120,80", "around a pole"),
        ("0,0;1,x;1,1", "not a number"),
        ("0,0;1;1,1", "lon,lat"),
        (";".join(["0,0"] * 5_000), "characters"),
    ],
)
def test_parse_area_refuses_wrong_areas_with_the_reason(area: str, reason: str) -> None:
    with pytest.raises(AreaError, match=reason):
        parse_area(area)


def test_a_polygon_with_the_most_corners_is_read_quickly() -> None:
    corners = [(n, 10 + (n % 2)) for n in range(MOST_CORNERS - 2)] + [(97, -10), (0, -10)]
    began = time.perf_counter()
    area = parse_area(";".join(f"{x},{y}" for x, y in corners))
    assert time.perf_counter() - began < 1
    assert area.holds(50, 0)


def test_the_corners_as_text_are_those_of_a_polygon_of_postgres() -> None:
    assert parse_area("170,0,-170,1").as_text() == "((170.0,0.0),(190.0,0.0),(190.0,1.0),(170.0,1.0))"
