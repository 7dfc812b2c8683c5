"""Positions: spellings of hemispheres, signs, ranges, and contradictions that leave it unknown."""

from __future__ import annotations

import pytest

from ingest.images.exif import Capture
from tests.photographs import Value, capture, packet, photograph, texts

SYDNEY: dict[int, Value] = {1: "S", 2: (33.0, 30.0, 0.0), 3: "E", 4: (151.0, 15.0, 0.0)}


def place(found: Capture) -> tuple[float | None, float | None]:
    return (None, None) if found.camera is None else (found.camera.latitude, found.camera.longitude)


@pytest.mark.parametrize(
    "gps",
    [
        SYDNEY,
        {**SYDNEY, 1: "South", 3: "EAST"},
        {**SYDNEY, 1: "s", 3: "e"},
        {**SYDNEY, 1: b"S"},
        {**SYDNEY, 2: (-33.0, 30.0, 0.0)},
        {**SYDNEY, 2: (-33.0, -30.0, 0.0)},
        {**SYDNEY, 1: "", 2: (-33.5,)},
        {**SYDNEY, 2: (33.5,)},
        {**SYDNEY, 2: (33.0, 30.0)},
    ],
)
def test_southern_positions_stay_south(gps: dict[int, Value]) -> None:
    found = capture(photograph(gps=gps))
    assert place(found) == (-33.5, 151.25)
    assert found.warnings == ()


@pytest.mark.parametrize(
    ("gps", "said"),
    [
        ({**SYDNEY, 1: "N", 2: (-33.0, 30.0, 0.0)}, "contradicts itself"),
        ({**SYDNEY, 1: ""}, "no N or S"),
        ({**SYDNEY, 1: "E"}, "no N or S ('E')"),
        ({**SYDNEY, 3: "Ost"}, "no E or W ('Ost')"),
        ({**SYDNEY, 2: (91.0, 0.0, 0.0)}, "out of range"),
        ({**SYDNEY, 2: (33.0, 3050.0, 0.0)}, "out of range"),
        ({**SYDNEY, 2: (4294967263.0, 0.0, 0.0)}, "out of range"),
        ({**SYDNEY, 9: "V"}, "GPSStatus is V"),
        ({1: "S", 2: (33.0, 30.0, 0.0)}, "only one of latitude and longitude"),
        ({**SYDNEY, 2: "33 30 0"}, "a part that is no number"),
    ],
)
def test_position_that_may_be_on_the_wrong_side_is_unknown_and_warns(gps: dict[int, Value], said: str) -> None:
    found = capture(photograph(gps=gps))
    assert place(found) == (None, None)
    assert said in texts(found)
    assert all(warning.fields == {"latitude", "longitude"} for warning in found.warnings)


def test_position_of_xmp_replaces_an_unknown_one() -> None:
    xmp = packet('drone-dji:GpsLatitude="-33.5" drone-dji:GpsLongtitude="+151.25"')
    found = capture(photograph(gps={**SYDNEY, 1: ""}, xmp=xmp))
    assert place(found) == (-33.5, 151.25)
    assert "the position in XMP was used" in texts(found)


def test_contradiction_of_exif_and_xmp_warns() -> None:
    found = capture(photograph(gps=SYDNEY, xmp=packet('drone-dji:GpsLatitude="33.5" drone-dji:GpsLongitude="151.25"')))
    assert place(found) == (-33.5, 151.25)
    assert "33.5000, 151.2500 by XMP; EXIF's was used" in texts(found)


@pytest.mark.parametrize(("latitude", "longitude"), [("33,30.0S", "151,15.0E"), ("33,30,0S", "151,15,0E")])
def test_position_in_the_spelling_of_xmp(latitude: str, longitude: str) -> None:
    attributes = f'exif:GPSLatitude="{latitude}" exif:GPSLongitude="{longitude}"'
    found = capture(photograph(xmp=packet(attributes, prefix="exif", uri="http://ns.adobe.com/exif/1.0/")))
    assert place(found) == (-33.5, 151.25)


def test_position_of_xmp_that_cannot_be_read_warns() -> None:
    found = capture(photograph(xmp=packet('drone-dji:GpsLatitude="south" drone-dji:GpsLongitude="1"')))
    assert place(found) == (None, None)
    assert "'south'" in texts(found)


def test_position_zero_is_no_fix_and_altitude_zero_with_it() -> None:
    nowhere: dict[int, Value] = {1: "N", 2: (0.0, 0.0, 0.0), 3: "E", 4: (0.0, 0.0, 0.0), 5: b"\x01", 6: 12.0}
    found = capture(photograph(gps=nowhere))
    assert found.camera is not None
    assert (found.camera.latitude, found.camera.altitude_msl_m) == (None, -12.0)
    xmp = packet('drone-dji:AbsoluteAltitude="+0.00" drone-dji:RelativeAltitude="+0.00"')
    assert capture(photograph(gps={**nowhere, 6: 0.0}, xmp=xmp)).camera is None


@pytest.mark.parametrize(
    ("reference", "metres"), [(b"\x01", -12.0), ("1", -12.0), (b"\x03", -12.0), (b"\x00", 12.0), (b"\x02", 12.0)]
)
def test_altitude_below_sea(reference: bytes | str, metres: float) -> None:
    camera = capture(photograph(gps={**SYDNEY, 5: reference, 6: 12.0})).camera
    assert camera is not None
    assert camera.altitude_msl_m == metres
