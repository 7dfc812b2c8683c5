"""Areas of the earth: boxes and polygons, also across the date line, and the frames that show a part of them."""

from __future__ import annotations

import random

import pytest

from schemas.earth_areas import MAX_CORNERS, AreaError, EarthArea, Footprint, parse_area
from schemas.geometry import CameraGeometry

FIELD = "POLYGON((10 50, 10.01 50, 10.01 50.01, 10 50.01, 10 50))"


def test_parse_area_box_across_the_date_line_holds_both_sides() -> None:
    box = parse_area("170,-10,-170,10")
    assert box.holds(179, 0)
    assert box.holds(-179, 0)
    assert box.holds(180, 0)
    assert box.holds(-180, 0)
    assert not box.holds(0, 0)
    assert parse_area("-10,-10,10,10").holds(10, -10)
    assert not parse_area("-10,-10,10,10").holds(0, 11)


def test_parse_area_polygon_across_the_date_line_goes_the_shorter_way() -> None:
    area = parse_area("POLYGON((179 -1, -179 -1, -179 1, 179 1))")
    for longitude in (179.5, 180, -180, -179.5):
        assert area.holds(longitude, 0)
    for longitude in (0, 178.9, -178.9):
        assert not area.holds(longitude, 0)
    westwards = parse_area("POLYGON((-179 -1, 179 -1, 179 1, -179 1))")
    assert westwards.holds(179.5, 0)
    assert not westwards.holds(0, 0)


def test_parse_area_polygon_with_a_bay_leaves_the_bay_out() -> None:
    area = parse_area("polygon (( 0 0, 4 0, 4 4, 2 1, 0 4 ))")
    assert area.holds(1, 1)
    assert area.holds(3.5, 3)
    assert area.holds(2, 1)
    assert area.holds(0, 2)
    assert not area.holds(2, 2)
    assert not area.holds(-0.1, 2)


def test_holds_agrees_with_a_count_of_crossings_on_random_points() -> None:
    chance = random.Random(5)
    corners = ((0.0, 0.0), (5.0, 1.0), (3.0, 3.0), (6.0, 6.0), (1.0, 5.0), (2.0, 2.0))
    area = EarthArea(corners)
    for _ in range(2_000):
        x, y = chance.uniform(-1, 7), chance.uniform(-1, 7)
        crossings = 0
        for (x1, y1), (x2, y2) in zip(corners, (*corners[1:], corners[0]), strict=True):
            if min(y1, y2) <= y < max(y1, y2) and x < x1 + (y - y1) * (x2 - x1) / (y2 - y1):
                crossings += 1
        assert area.holds(x, y) == (crossings % 2 == 1)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("1,2,3", "west,south,east,north"),
        ("1,2,3,x", "not a number"),
        ("1,2,3,nan", "not a number"),
        ("0,10,0,-10", "south above north"),
        ("0,0,0,91", "not between -90 and 90"),
        ("181,0,0,1", "not between -180 and 180"),
        ("POLYGON((0 0, 1 1))", "3 to 64"),
        ("POLYGON((0 0, 1 1, 0 0))", "3 to 64"),
        ("POLYGON((0 0, 2 2, 2 0, 0 2))", "edges 1 and 3"),
        ("POLYGON((0 0, 2 0, 1 0))", "goes back"),
        ("POLYGON((0 0, 4 0, 4 4, 2 0, 0 4))", "cross or touch"),
        ("POLYGON((0 0, 1 0, 1 1), (0.1 0.1, 0.2 0.1, 0.2 0.2))", "without holes"),
        ("MULTIPOLYGON(((0 0, 1 0, 1 1)))", "one polygon"),
        ("POLYGON((0 0 5, 1 0 5, 1 1 5))", "must be a corner"),
        ("POLYGON((0 0, 1 inf, 1 1))", "not a number"),
        ("POLYGON((0 0, 180 0, 90 10))", "half around the earth"),
        ("POLYGON((0 60, 120 60, -120 60))", "around a pole"),
        ("POLYGON((" + ", ".join(f"{n} {n * n / 100}" for n in range(MAX_CORNERS + 1)) + "))", "3 to 64"),
        ("POLYGON((" + "1" * 9_000, "characters"),
        ("", "west,south"),
    ],
)
def test_parse_area_refuses_what_is_none(text: str, reason: str) -> None:
    with pytest.raises(AreaError, match=reason):
        parse_area(text)


def test_footprint_of_a_camera_is_its_ground() -> None:
    camera = CameraGeometry(longitude=10, latitude=50, gsd_m=0.1, heading_deg=90)
    found = Footprint.of(camera, 4_000, 3_000)
    assert found is not None
    assert (found.half_width_m, found.half_height_m) == pytest.approx((200, 150))
    assert Footprint.of(CameraGeometry(latitude=50), 4_000, 3_000) is None
    assert Footprint.of(None, 4_000, 3_000) is None
    point = Footprint.of(CameraGeometry(longitude=10, latitude=50), 4_000, 3_000)
    assert point == Footprint(10, 50)


def test_meets_a_frame_whose_camera_is_outside_of_the_area() -> None:
    area = parse_area(FIELD)
    # A degree of longitude has 71.5 km here: the camera is 143 m west of the field.
    west = {"longitude": 9.998, "latitude": 50.005}
    assert not area.holds(**west)
    assert not area.meets(Footprint(**west))
    assert area.meets(Footprint(**west, half_width_m=150, half_height_m=50, heading_deg=0))
    assert not area.meets(Footprint(**west, half_width_m=150, half_height_m=50, heading_deg=90))
    assert area.meets(Footprint(**west, half_width_m=50, half_height_m=150, heading_deg=270))
    # Where the direction is not known, any is possible.
    assert area.meets(Footprint(**west, half_width_m=150, half_height_m=50))
    assert not area.meets(Footprint(**west, half_width_m=100, half_height_m=50))


def test_meets_an_area_that_is_all_in_the_frame_or_holds_the_frame() -> None:
    small = parse_area("POLYGON((10 50, 10.0001 50, 10.0001 50.0001))")
    assert small.meets(Footprint(10.002, 50.002, half_width_m=400, half_height_m=400, heading_deg=45))
    assert parse_area("0,40,20,60").meets(Footprint(10, 50, half_width_m=10, half_height_m=10, heading_deg=45))


def test_meets_across_the_date_line() -> None:
    area = parse_area("POLYGON((-180 0, -179.99 0, -179.99 0.01, -180 0.01))")
    assert area.meets(Footprint(179.9995, 0.005, half_width_m=100, half_height_m=100, heading_deg=0))
    assert not area.meets(Footprint(179.9985, 0.005, half_width_m=100, half_height_m=100, heading_deg=0))


def test_meets_at_a_pole_fails_with_no_error() -> None:
    assert parse_area("-180,80,180,90").meets(Footprint(0, 90, half_width_m=10, half_height_m=10, heading_deg=0))
