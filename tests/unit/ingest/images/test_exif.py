"""Camera geometry and capture time from EXIF and XMP; damaged values count as unknown."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from PIL.TiffImagePlugin import IFDRational

from ingest.images.check import inspect_image
from ingest.images.exif import Capture, read_capture
from tests.paths import real_file
from tests.photographs import LIMITS, capture, packet

EXIF_IFD, GPS_IFD = 0x8769, 0x8825
_MAKE, _XMP = 271, 700


def picture(
    exif: dict[int, object] | None = None,
    gps: dict[int, object] | None = None,
    xmp: bytes | None = None,
    *,
    form: str = "JPEG",
    size: tuple[int, int] = (400, 300),
) -> bytes:
    tags = Image.Exif()
    tags[_MAKE] = "test"  # Pillow writes nothing when the main directory is empty
    for tag, values in ((EXIF_IFD, exif or {}), (GPS_IFD, gps or {})):
        tags.get_ifd(tag).update(values)
        if form == "TIFF":
            tags[tag] = 0  # a place holder: Pillow's TIFF writer looks for directories here
    options: dict[str, Any] = {"exif": tags} if exif or gps else {}
    if xmp is not None and form == "PNG":
        options["pnginfo"] = PngInfo()
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", xmp.decode())
    elif xmp is not None and form == "TIFF":
        tags[_XMP] = xmp
    elif xmp is not None:
        options["xmp"] = xmp
    out = io.BytesIO()
    Image.new("RGB", size).save(out, form, **options)
    return out.getvalue()


def drone_photo() -> bytes:
    """A JPEG with the tags of a DJI Phantom 3: position as rationals, the rest in XMP."""
    return picture(
        {
            0x829A: IFDRational(226, 100_000),
            0x9003: "2016:06:23 16:33:11",
            0x9004: "2016:06:23 16:33:11",
            0x920A: IFDRational(361, 100),
            0xA002: 4000,
            0xA003: 2250,
            0xA405: 20,
        },
        {
            1: "N",
            2: (IFDRational(46), IFDRational(50), IFDRational(330_765, 10_000)),
            3: "W",
            4: (IFDRational(91), IFDRational(59), IFDRational(391_546, 10_000)),
            5: b"\0",
            6: IFDRational(198_609, 1000),
        },
        packet(
            'drone-dji:AbsoluteAltitude="+198.61" drone-dji:RelativeAltitude="+40.10" '
            'drone-dji:GimbalYawDegree="-133.50" drone-dji:GimbalPitchDegree="-89.90" '
            'drone-dji:FlightYawDegree="-133.00"'
        ).encode(),
        size=(4000, 2250),
    )


@pytest.mark.parametrize("origin", ["built", "real"])
def test_drone_photo_has_time_position_and_camera(origin: str) -> None:
    found = capture(real_file("brighton_DJI_0028.jpg").read_bytes() if origin == "real" else drone_photo())
    assert found.captured_at == datetime(2016, 6, 23, 16, 33, 11, tzinfo=UTC)
    camera = found.camera
    assert camera is not None
    assert camera.altitude_m == 40.1
    assert camera.altitude_msl_m == 198.61
    assert camera.focal_length_mm == 3.61
    # The Phantom 3's sensor is 6.17 mm wide; its EXIF gives it as a rounded 35 mm value.
    assert camera.sensor_width_mm == pytest.approx(6.17, rel=0.02)
    assert camera.latitude == pytest.approx(46.8425213, abs=1e-6)
    assert camera.longitude == pytest.approx(-91.9942096, abs=1e-6)
    assert camera.heading_deg == 226.5
    assert camera.pitch_deg == -89.9
    assert camera.ground_sampling_distance_m(4000) == pytest.approx(0.0171, rel=0.02)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_every_format_carries_exif(form: str) -> None:
    data = picture(
        {0x9003: "2026:01:31 12:00:00", 0x920A: IFDRational(88, 10)},
        {1: "S", 2: (IFDRational(33), IFDRational(30), IFDRational(0)), 3: "E", 4: (151.0, 15.0, 0.0)},
        form=form,
    )
    found = capture(data)
    assert found.captured_at == datetime(2026, 1, 31, 12, tzinfo=UTC)
    assert found.camera is not None
    assert (found.camera.latitude, found.camera.longitude) == (-33.5, 151.25)
    assert found.camera.focal_length_mm == 8.8


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_every_format_carries_xmp(form: str) -> None:
    xmp = packet('drone-dji:RelativeAltitude="+30.50" drone-dji:GimbalYawDegree="-10.0"').encode()
    found = capture(picture({0x9003: "2026:01:31 12:00:00"}, xmp=xmp, form=form))
    assert found.camera is not None
    assert (found.camera.altitude_m, found.camera.heading_deg) == (30.5, 350.0)


def test_xmp_values_may_be_elements() -> None:
    elements = "<drone-dji:AbsoluteAltitude>+120.0</drone-dji:AbsoluteAltitude>"
    found = capture(picture(xmp=packet(elements=elements).encode()))
    assert found.camera is not None
    assert found.camera.altitude_msl_m == 120.0


def test_image_without_metadata_has_no_capture() -> None:
    assert capture(picture()) == Capture()


_RICH = picture(
    {0x9003: "2026:01:31 12:00:00", 0x9011: "+02:00", 0x920A: 4.5, 0xA405: 25, 0xA20E: 100.0},
    {1: "N", 2: (46.0, 50.0, 33.0), 3: "W", 4: (91.0, 59.0, 39.0), 6: 198.0, 7: (1.0, 2.0, 3.0), 0x1D: "2026:01:31"},
    packet('drone-dji:RelativeAltitude="+40.1" drone-dji:GimbalYawDegree="-133.50"').encode(),
    size=(40, 30),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1100), st.integers(0, 255)), min_size=1, max_size=8))
def test_no_damage_to_metadata_refuses_a_frame(edits: list[tuple[int, int]]) -> None:
    info = inspect_image(_RICH, LIMITS)
    (exif,), (xmp,) = info.metadata.exif, info.metadata.xmp
    data = bytearray(_RICH)
    for offset, value in edits:
        data[exif.start + offset % (xmp.end - exif.start)] = value
    found = read_capture(bytes(data), info)
    assert found.captured_at is None or found.captured_at.tzinfo is UTC
