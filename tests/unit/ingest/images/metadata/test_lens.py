"""Focal lengths and sensor widths: pixel pitch, film value, digital zoom, cut pictures, and impossible values."""

from __future__ import annotations

import pytest

from tests.photographs import Value, capture, packet, photograph, texts

PHONE: dict[int, Value] = {0x920A: 4.5, 0xA405: 25}


def width_mm(tags: dict[int, Value], size: tuple[int, int] = (400, 300)) -> float | None:
    camera = capture(photograph(tags, size=size)).camera
    return None if camera is None else camera.sensor_width_mm


@pytest.mark.parametrize(
    ("tags", "size", "expected_mm"),
    [
        # 24-megapixel full frame: 6000 px at 166.67 px per mm.
        ({0x920A: 35.0, 0xA20E: 1666.7, 0xA210: 3, 0xA002: 6000, 0xA003: 4000}, (600, 400), 36.0),
        ({0x920A: 35.0, 0xA20E: 166.67, 0xA210: 4, 0xA002: 6000, 0xA003: 4000}, (400, 600), 24.0),
        ({0x920A: 50.0, 0xA405: 50}, (600, 400), 36.0),
        ({0x920A: 50.0, 0xA405: 50}, (400, 600), 24.0),
        # 1/2.3 inch: 7.66 mm across the corners, 4:3 and the same sensor cut to 16:9.
        (PHONE, (400, 300), 6.23),
        (PHONE, (400, 225), 6.23),
    ],
)
def test_sensor_width(tags: dict[int, Value], size: tuple[int, int], expected_mm: float) -> None:
    assert width_mm(tags, size) == pytest.approx(expected_mm, rel=0.01)


@pytest.mark.parametrize(("zoom", "part"), [(4.0, 4), (1.5, 1.5), (1.0, 1), (0.0, 1)])
def test_digital_zoom_shows_a_part_of_the_sensor(zoom: float, part: float) -> None:
    found = capture(photograph({**PHONE, 0xA404: zoom}, xmp=packet('drone-dji:RelativeAltitude="+400"')))
    assert found.camera is not None
    whole = capture(photograph(PHONE, xmp=packet('drone-dji:RelativeAltitude="+400"'))).camera
    assert whole is not None
    gsd, whole_gsd = found.camera.ground_sampling_distance_m(400), whole.ground_sampling_distance_m(400)
    assert gsd is not None
    assert whole_gsd == pytest.approx(gsd * part)
    assert ("DigitalZoomRatio" in texts(found)) == (part != 1)


@pytest.mark.parametrize("zoom", [0.25, 1000.0])
def test_impossible_zoom_warns_and_is_not_used(zoom: float) -> None:
    found = capture(photograph({**PHONE, 0xA404: zoom}))
    assert found.camera is not None
    assert found.camera.sensor_width_mm == pytest.approx(6.23, rel=0.01)
    assert f"DigitalZoomRatio is {zoom:g}, which no camera has" in texts(found)


@pytest.mark.parametrize(("resolution", "unit"), [(10.88, 4), (3.84, 4), (10_000_000.0, 2)])
def test_resolution_that_is_no_pixel_pitch_warns_and_the_film_value_is_used(resolution: float, unit: int) -> None:
    wrong: dict[int, Value] = {0xA20E: resolution, 0xA210: unit, 0xA002: 640, 0xA003: 480}
    found = capture(photograph({**PHONE, **wrong}))
    assert found.camera is not None
    assert found.camera.sensor_width_mm == pytest.approx(6.23, rel=0.01)
    assert "FocalPlaneXResolution" in texts(found)
    assert width_mm({0x920A: 9.0, **wrong}) is None


def test_two_sensor_widths_that_contradict_each_other_warn() -> None:
    found = capture(photograph({**PHONE, 0xA20E: 300.0, 0xA210: 4, 0xA002: 4000, 0xA003: 3000}))
    assert found.camera is not None
    assert found.camera.sensor_width_mm == pytest.approx(13.33, rel=0.01)
    assert "6.23 mm by FocalLengthIn35mmFilm" in texts(found)


@pytest.mark.parametrize("film", [1, 400])
def test_film_value_that_fits_no_sensor_warns_and_is_not_used(film: int) -> None:
    found = capture(photograph({0x920A: 4.5, 0xA405: film}))
    assert found.camera is not None
    assert found.camera.sensor_width_mm is None
    assert "does not fit the focal length" in texts(found)


def test_picture_that_was_cut_warns_and_its_part_of_the_sensor_is_unknown() -> None:
    found = capture(photograph({**PHONE, 0xA002: 4000, 0xA003: 3000}, size=(200, 200)))
    assert found.camera is not None
    assert found.camera.sensor_width_mm is None
    assert "200x200 px, but the camera took 4000x3000" in texts(found)


def test_picture_that_lost_only_rows_shows_the_whole_width() -> None:
    assert width_mm({**PHONE, 0xA002: 400, 0xA003: 300}, (400, 200)) == pytest.approx(6.23, rel=0.01)


def test_picture_that_was_reduced_shows_the_whole_sensor() -> None:
    found = capture(photograph({**PHONE, 0xA002: 5472, 0xA003: 3648}, size=(100, 67)))
    assert found.camera is not None
    assert found.camera.sensor_width_mm == pytest.approx(6.48, rel=0.01)
    assert "cut" not in texts(found)


def test_lens_of_xmp_where_exif_has_none() -> None:
    attributes = 'exif:FocalLength="45/10" exif:FocalLengthIn35mmFilm="25" exif:DigitalZoomRatio="2/1"'
    camera = capture(
        photograph(xmp=packet(attributes, prefix="exif", uri="http://ns.adobe.com/exif/1.0/"), size=(400, 300))
    ).camera
    assert camera is not None
    assert camera.focal_length_mm == 4.5
    assert camera.sensor_width_mm == pytest.approx(6.23 / 2, rel=0.01)
