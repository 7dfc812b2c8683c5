"""Reads height above the ground and direction of the camera as drone makers write them into XMP."""

from __future__ import annotations

import math
from collections.abc import Mapping

from ingest.images.metadata.exif_tags import ExifTags
from ingest.images.metadata.numbers import parse_number
from ingest.images.metadata.warnings import Warnings, shown

_DIRECTION_REF, _DIRECTION = 0x10, 0x11

_HEIGHTS = (
    "drone-dji:RelativeAltitude",
    "drone:RelativeAltitude",
    "drone-skydio:RelativeAltitude",
    "drone-parrot:RelativeAltitude",
)
_HEIGHTS_OF_CAMERAS = ("Camera:AboveGroundAltitude", "FLIR:MAVRelativeAltitude")
_HEIGHTS_MSL = ("drone-dji:AbsoluteAltitude", "drone:AbsoluteAltitude", "drone-skydio:AbsoluteAltitude")
# From the horizon: -90 looks straight down.
_PITCHES = (
    "drone-dji:GimbalPitchDegree",
    "drone:GimbalPitchDegree",
    "drone-skydio:CameraOrientationNED/Pitch",
    "drone-parrot:CameraPitchDegree",
)
_YAWS = (
    "drone-dji:GimbalYawDegree",
    "drone:GimbalYawDegree",
    "drone-skydio:CameraOrientationNED/Yaw",
    "drone-parrot:CameraYawDegree",
)
_AIRCRAFT_YAWS = ("drone-dji:FlightYawDegree", "drone:FlightYawDegree")
# Pix4D's angles: 0, 0, 0 looks straight down with the picture's top to the north.
_FROM_NADIR = ("Camera", "sensefly")
# A camera on a drone does not look back so far; some makers write Pix4D's names but count from the horizon.
_LEAST_FROM_NADIR = -60.0
# Gimbals overshoot straight down by some degrees.
_OVERSHOOT_DEG = 10.0
_SAME_HEIGHT_M = 0.005


def read_heights(
    xmp: Mapping[str, str], altitude_msl: float | None, *, fix: bool, warnings: Warnings
) -> tuple[float | None, float | None]:
    """Return the heights above take-off or ground, and above the sea (else ``altitude_msl``).

    Without a ``fix`` 0 is no height. A height above take-off that equals that above the sea is none.
    """
    above_sea = _first(xmp, _HEIGHTS_MSL, "altitude_msl_m", warnings)
    if above_sea is None or (above_sea == 0 and not fix):
        above_sea = altitude_msl
    height = _first(xmp, _HEIGHTS, "altitude_m", warnings)
    if height is None:
        # A camera that is not connected to the aircraft writes 0 here.
        height = _first(xmp, _HEIGHTS_OF_CAMERAS, "altitude_m", warnings) or None
    if height == 0 and not fix:
        height = None
    if height and above_sea is not None and abs(height - above_sea) < _SAME_HEIGHT_M:
        warnings.add(
            f"the height above take-off equals that above the sea ({height:g} m), so one of them is there "
            "twice; it was not used. Give altitude_m, or the metres per pixel",
            "altitude_m",
        )
        height = None
    return height, above_sea


def read_direction(tags: ExifTags, xmp: Mapping[str, str], warnings: Warnings) -> tuple[float | None, float | None]:
    """Return heading (of the picture's top, from true north) and pitch (-90: straight down) of the camera.

    The gimbal's heading is first, then Pix4D's, then EXIF's if from true north, then the aircraft's.
    """
    pitch = _first(xmp, _PITCHES, "pitch_deg", warnings)
    if pitch is not None and -90 - _OVERSHOOT_DEG <= pitch < -90:
        pitch = -180 - pitch
    yaw = _first(xmp, _YAWS, "heading_deg", warnings)
    for maker in _FROM_NADIR:
        pose = [_first(xmp, (f"{maker}:{name}",), "pitch_deg", warnings) for name in ("Yaw", "Pitch", "Roll")]
        # All zeros are what a camera writes that measures no angles.
        if not any(pose):
            continue
        yaw = pose[0] if yaw is None else yaw
        if pitch is None and pose[1] is not None:
            pitch = _from_nadir(pose[1], pose[2] or 0.0, maker, warnings)
    if yaw is None:
        yaw = _exif_heading(tags, warnings)
    if yaw is None:
        yaw = _first(xmp, _AIRCRAFT_YAWS, "heading_deg", warnings)
    return None if yaw is None else yaw % 360, pitch


def _from_nadir(pitch: float, roll: float, maker: str, warnings: Warnings) -> float | None:
    """Return the angle from the horizon of a camera that is turned by ``pitch`` and ``roll`` from straight down."""
    if not _LEAST_FROM_NADIR < pitch <= 180:
        warnings.add(
            f"{maker}:Pitch is {pitch:g}: from straight down (Pix4D) it would look back, from the horizon down; it was "
            "not used",
            "pitch_deg",
        )
        return None
    along = math.cos(math.radians(pitch)) * math.cos(math.radians(roll))
    return math.degrees(math.acos(min(1.0, max(-1.0, along)))) - 90


def _exif_heading(tags: ExifTags, warnings: Warnings) -> float | None:
    direction = tags.gps.number(_DIRECTION)
    if direction is not None and tags.gps.text(_DIRECTION_REF)[:1].upper() == "M":
        warnings.add("GPSImgDirection is from magnetic north; it was not used", "heading_deg")
        return None
    return direction


def _first(xmp: Mapping[str, str], names: tuple[str, ...], field: str, warnings: Warnings) -> float | None:
    """Return the first of ``names`` that is a number; warn about one that is not."""
    for name in names:
        text = xmp.get(name)
        if text is None:
            continue
        value = parse_number(text)
        if value is not None:
            return value
        warnings.add(f"{name} is {shown(text)}, which is no number; it was not used", field)
    return None
