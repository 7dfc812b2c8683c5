"""Metadata of real pictures from cameras: each value is that of an independent tool, or unknown."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest

from ingest.images.check import inspect_image
from ingest.images.exif import Capture, read_capture
from standgale.pictures import open_picture
from tests.paths import real_file
from tests.photographs import LIMITS

pytestmark = pytest.mark.integration

_SAME = {
    "latitude": "latitude",
    "longitude": "longitude",
    "altitude_msl_m": "altitude_msl_m",
    "altitude_m": "altitude_above_takeoff_m",
    "focal_length_mm": "focal_length_mm",
}
# Sensor widths are nominal, and EXIF gives some as whole millimetres for film.
_WIDTH_TOLERANCE = 0.03


def expectations() -> dict[str, dict[str, object]]:
    expected: dict[str, dict[str, object]] = orjson.loads(real_file("cameras/expected.json").read_bytes())
    return {name: values for name, values in expected.items() if name.startswith("exif/")}


def read(name: str) -> tuple[Capture, int]:
    data = real_file(f"cameras/{name}").read_bytes()
    info = inspect_image(data, LIMITS)
    return read_capture(data, info), info.width


def differences(name: str, expected: dict[str, object]) -> list[str]:
    """What differs from the independent tool; unknown is no difference."""
    found, width = read(name)
    camera = {} if found.camera is None else found.camera.model_dump(exclude_none=True)
    wrong = [
        f"{name}: {field} is {camera[field]}, not {expected[key]}"
        for field, key in _SAME.items()
        if field in camera and (expected[key] is None or not math.isclose(camera[field], expected[key], abs_tol=1e-6))
    ]
    angles, others = expected["camera"], expected.get("camera_pix4d_or_sensefly") or {}
    yaw = angles["yaw"] if angles["yaw"] is not None else others.get("Yaw")
    if "heading_deg" in camera and not math.isclose(camera["heading_deg"], yaw % 360, abs_tol=1e-6):
        wrong.append(f"{name}: heading_deg is {camera['heading_deg']}, not {yaw % 360}")
    if angles["pitch"] is not None and not math.isclose(camera.get("pitch_deg", angles["pitch"]), angles["pitch"]):
        wrong.append(f"{name}: pitch_deg is {camera['pitch_deg']}, not {angles['pitch']}")
    sensor = camera.get("sensor_width_mm")
    if sensor is not None and not math.isclose(sensor, expected["sensor_width_mm"], rel_tol=_WIDTH_TOLERANCE):
        wrong.append(f"{name}: sensor_width_mm is {sensor}, not {expected['sensor_width_mm']}")
    gsd = None if found.camera is None else found.camera.ground_sampling_distance_m(width)
    nadir = expected["gsd_nadir_m"]
    if gsd is not None and (nadir is None or not math.isclose(gsd, nadir, rel_tol=_WIDTH_TOLERANCE)):
        wrong.append(f"{name}: the ground sampling distance is {gsd}, not {nadir}")
    time = expected.get("captured_at")
    moment = None if time is None else datetime.fromisoformat(time).replace(tzinfo=UTC)
    if found.captured_at is not None and found.captured_at.replace(microsecond=0) != moment:
        wrong.append(f"{name}: captured_at is {found.captured_at}, not {moment}")
    return wrong


def test_values_of_all_samples_agree_with_an_independent_tool_or_are_unknown() -> None:
    expected = expectations()
    assert len(expected) >= 18
    assert [line for name, values in expected.items() for line in differences(name, values)] == []


def test_values_that_each_sample_has_are_not_lost() -> None:
    known: dict[str, int] = {}
    for name, values in expectations().items():
        found, _ = read(name)
        camera = {} if found.camera is None else found.camera.model_dump(exclude_none=True)
        for field, key in _SAME.items():
            assert (field in camera) == (values[key] is not None), f"{name}: {field}"
        known["sensor_width_mm"] = known.get("sensor_width_mm", 0) + ("sensor_width_mm" in camera)
        assert (found.captured_at is not None) == (values.get("captured_at") is not None), name
    assert known["sensor_width_mm"] >= 11


@pytest.mark.parametrize(
    "name", ["dji-p4-multispectral-tif.tif", "micasense-rededge-m-tif.tif", "flir-vue-pro-9mm-tiff.tiff"]
)
@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_metadata_of_16_bit_tiffs_are_read_by_detect(name: str) -> None:
    path: Path = real_file(f"cameras/exif/{name}")
    expected = expectations()[f"exif/{name}"]
    with open_picture(path, LIMITS.max_pixels) as picture:
        assert picture.capture == read(f"exif/{name}")[0]
        if expected["gsd_nadir_m"] is not None:
            assert picture.gsd_m == pytest.approx(expected["gsd_nadir_m"], rel=_WIDTH_TOLERANCE)


def test_thermal_pictures_with_the_sensor_width_in_a_wrong_tag_warn() -> None:
    found, _ = read("exif/flir-vue-pro-9mm-tiff.tiff")
    assert found.camera is not None
    assert found.camera.sensor_width_mm is None
    assert any("FocalPlaneXResolution 10.88" in warning.text for warning in found.warnings)
