"""Heights and directions of all makers that are read, and values that cannot be used."""

from __future__ import annotations

import pytest

from schemas.geometry import CameraGeometry
from tests.photographs import Value, capture, packet, photograph, texts

PIX4D = "http://pix4d.com/camera/1.0/"
SKYDIO = "https://www.skydio.com/drone-skydio/1.0/"
HERE: dict[int, Value] = {1: "N", 2: (46.0, 50.0, 33.0), 3: "W", 4: (91.0, 59.0, 39.0)}


def camera_of(attributes: str = "", elements: str = "", **namespace: str) -> CameraGeometry:
    camera = capture(photograph(xmp=packet(attributes, elements, **namespace))).camera
    assert camera is not None
    return camera


def test_heights_and_gimbal_of_dji_and_autel() -> None:
    names = ("RelativeAltitude", "AbsoluteAltitude", "GimbalPitchDegree", "GimbalYawDegree")
    for prefix, uri in (
        ("drone-dji", "http://www.dji.com/drone-dji/1.0/"),
        ("drone", "http://www.autelrobotics.com/drone/1.0/"),
    ):
        values = dict(zip(names, ("+40.10", "+198.61", "-89.90", "-133.50"), strict=True))
        camera = camera_of(
            " ".join(f'{prefix}:{name}="{text}"' for name, text in values.items()), prefix=prefix, uri=uri
        )
        assert (camera.altitude_m, camera.altitude_msl_m) == (40.1, 198.61)
        assert (camera.pitch_deg, camera.heading_deg) == (-89.9, 226.5)


@pytest.mark.parametrize("nested", [True, False])
def test_heights_and_orientation_of_skydio(nested: bool) -> None:
    angles = {"Pitch": "-80.5", "Roll": "0.1", "Yaw": "-10"}
    wrong = "".join(f"<s:{name}>1</s:{name}>" for name in angles)
    inner = "".join(f"<s:{name}>{value}</s:{name}>" for name, value in angles.items())
    attributes = " ".join(f's:{name}="{value}"' for name, value in angles.items())
    orientation = (
        f'<s:CameraOrientationNED rdf:parseType="Resource">{inner}</s:CameraOrientationNED>'
        if nested
        else f"<s:CameraOrientationNED {attributes}/>"
    )
    elements = (
        f'<s:CameraOrientationFLU rdf:parseType="Resource">{wrong}</s:CameraOrientationFLU>{orientation}'
        "<s:RelativeAltitude>30.5</s:RelativeAltitude><s:AbsoluteAltitude>210.5</s:AbsoluteAltitude>"
        "<s:Latitude>-33.5</s:Latitude><s:Longitude>151.25</s:Longitude>"
    )
    camera = camera_of("", elements, prefix="s", uri=SKYDIO)
    assert (camera.altitude_m, camera.altitude_msl_m) == (30.5, 210.5)
    assert (camera.pitch_deg, camera.heading_deg) == (-80.5, 350.0)
    assert (camera.latitude, camera.longitude) == (-33.5, 151.25)


def test_orientation_of_parrot_goes_before_pix4d_s() -> None:
    elements = (
        "<drone-parrot:CameraPitchDegree>-78.36</drone-parrot:CameraPitchDegree>"
        "<drone-parrot:CameraYawDegree>176.31</drone-parrot:CameraYawDegree>"
        f'<Camera:AboveGroundAltitude xmlns:Camera="{PIX4D}">42.75</Camera:AboveGroundAltitude>'
        f'<Camera:Pitch xmlns:Camera="{PIX4D}">11.6</Camera:Pitch>'
    )
    camera = camera_of("", elements, prefix="drone-parrot", uri="http://www.parrot.com/drone-parrot/1.0/")
    assert (camera.altitude_m, camera.pitch_deg, camera.heading_deg) == (42.75, -78.36, 176.31)


@pytest.mark.parametrize(
    ("uri", "pitch", "roll", "expected"),
    [
        (PIX4D, "0.479848", "1.291022", -88.62),
        ("http://pix4d.com/1.0", "12.5908", "0", -77.41),
        ("Camera/", "0/100", "-3000/100", -60.0),
        ("sensefly/", "12.5908", "-3.384", -76.97),
        (PIX4D, "75", "0", -15.0),
    ],
)
def test_pix4d_counts_from_straight_down(uri: str, pitch: str, roll: str, expected: float) -> None:
    attributes = f'Camera:Yaw="-63.8" Camera:Pitch="{pitch}" Camera:Roll="{roll}"'
    camera = camera_of(attributes, prefix="Camera", uri=uri)
    assert camera.pitch_deg == pytest.approx(expected, abs=0.01)
    assert camera.heading_deg == pytest.approx(296.2)


def test_pix4d_angles_of_zero_are_not_measured() -> None:
    attributes = 'Camera:Yaw="0/100" Camera:Pitch="0/100" Camera:Roll="0.0"'
    assert capture(photograph(xmp=packet(attributes, prefix="Camera", uri=PIX4D))).camera is None


def test_pitch_of_unclear_origin_warns_and_is_not_used() -> None:
    found = capture(photograph(xmp=packet('Camera:Pitch="-89.9" Camera:Yaw="5"', prefix="Camera", uri=PIX4D)))
    assert found.camera is not None
    assert (found.camera.pitch_deg, found.camera.heading_deg) == (None, 5.0)
    assert "Camera:Pitch is -89.9" in texts(found)


def test_height_above_take_off_that_equals_that_above_sea_warns_and_is_unknown() -> None:
    found = capture(photograph(xmp=packet('drone-dji:RelativeAltitude="+250.0" drone-dji:AbsoluteAltitude="250.00"')))
    assert found.camera is not None
    assert (found.camera.altitude_m, found.camera.altitude_msl_m) == (None, 250.0)
    assert "equals that above the sea (250 m)" in texts(found)


def test_height_zero_on_the_ground_with_a_fix() -> None:
    found = capture(photograph(gps=HERE, xmp=packet('drone-dji:RelativeAltitude="+0.00"')))
    assert found.camera is not None
    assert found.camera.altitude_m == 0.0


def test_gimbal_a_little_behind_straight_down() -> None:
    assert camera_of('drone-dji:GimbalPitchDegree="-90.5"').pitch_deg == -89.5


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        ('drone-dji:RelativeAltitude="high"', "RelativeAltitude is 'high', which is no number"),
        ('drone-dji:RelativeAltitude="1,234"', "'1,234'"),
        ('drone-dji:RelativeAltitude="999999"', "altitude_m would be 999999"),
        ('drone-dji:GimbalPitchDegree="-400"', "pitch_deg would be -400"),
        ('drone-dji:GimbalPitchDegree="nan" drone-dji:AbsoluteAltitude="1e400"', "1e400"),
    ],
)
def test_value_that_is_no_number_or_out_of_range_warns_and_is_unknown(attributes: str, said: str) -> None:
    found = capture(photograph(xmp=packet(attributes)))
    assert found.camera is None
    assert said in texts(found)


def test_headings_from_magnetic_north_warns_and_is_not_used() -> None:
    magnetic = capture(photograph(gps={0x10: "M", 0x11: 90.0}))
    assert magnetic.camera is None
    assert "magnetic north" in texts(magnetic)
    true_north = capture(photograph(gps={0x10: "T", 0x11: 370.0})).camera
    assert true_north is not None
    assert true_north.heading_deg == 10.0
