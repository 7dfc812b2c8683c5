"""Reads where a picture was taken, and its height above the sea, from EXIF and XMP."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from ingest.images.metadata.exif_tags import ExifTags
from ingest.images.metadata.numbers import parse_number
from ingest.images.metadata.warnings import Warnings, shown

_LAT_REF, _LAT, _LON_REF, _LON, _ALT_REF, _ALT, _STATUS = 1, 2, 3, 4, 5, 6, 9
_FIELDS = ("latitude", "longitude")
# EXIF 3.0 adds 3: below sea level, next to 2: above it. Some programs write the digit as text, or as undefined bytes.
_BELOW_SEA = frozenset({b"\1", b"\3", b"1", b"3"})
# Positions of one picture that differ by more are not two roundings of one place.
_SAME_PLACE_DEG = 0.01
_XMP_PAIRS = (
    ("drone-dji:GpsLatitude", "drone-dji:GpsLongitude"),
    ("drone-dji:GpsLatitude", "drone-dji:GpsLongtitude"),
    ("drone:GpsLatitude", "drone:GpsLongitude"),
    ("drone:GpsLatitude", "drone:GpsLongtitude"),
    ("drone-skydio:Latitude", "drone-skydio:Longitude"),
    ("exif:GPSLatitude", "exif:GPSLongitude"),
)
_COORDINATE = re.compile(r"(\d{1,3}),(\d{1,2}(?:\.\d{1,20})?)(?:,(\d{1,2}(?:\.\d{1,20})?))?([NSEW])", re.ASCII)


@dataclass(frozen=True, slots=True)
class _Axis:
    """Names one of the two coordinates, with its tags and the letters of its sides."""

    name: str
    tag: int
    reference_tag: int
    positive: str
    negative: str
    most: float


_LATITUDE = _Axis("latitude", _LAT, _LAT_REF, "N", "S", 90)
_LONGITUDE = _Axis("longitude", _LON, _LON_REF, "E", "W", 180)


def read_position(tags: ExifTags, xmp: Mapping[str, str], warnings: Warnings) -> tuple[float, float] | None:
    """Return latitude and longitude in degrees: EXIF's, else XMP's; None where the camera had no position."""
    own = _exif_position(tags, warnings)
    other = _xmp_position(xmp, warnings)
    if own is None or other is None:
        if own is None and other is not None and _LAT in tags.gps.entries:
            warnings.add("the position in XMP was used, as that in EXIF is unknown", *_FIELDS)
        return own or other
    if max(abs(own[0] - other[0]), abs(own[1] - other[1])) > _SAME_PLACE_DEG:
        warnings.add(
            f"the position is {own[0]:.4f}, {own[1]:.4f} by EXIF, but {other[0]:.4f}, {other[1]:.4f} by XMP; EXIF's "
            "was used",
            *_FIELDS,
        )
    return own


def read_altitude_msl(tags: ExifTags, xmp: Mapping[str, str], *, fix: bool, warnings: Warnings) -> float | None:
    """Return the height above the sea that the satellites gave; without a ``fix`` 0 is no height."""
    altitude = tags.gps.number(_ALT)
    if altitude is not None:
        below = tags.gps.number(_ALT_REF) in {1, 3} or tags.gps.raw(_ALT_REF, 1) in _BELOW_SEA
        if altitude < 0 and not below:
            warnings.add(f"GPSAltitude is negative ({altitude:g}) with a reference above the sea", "altitude_msl_m")
        altitude = -abs(altitude) if below else altitude
    elif (text := xmp.get("exif:GPSAltitude")) is not None:
        altitude = parse_number(text)
        if altitude is not None and xmp.get("exif:GPSAltitudeRef") in {"1", "3"}:
            altitude = -abs(altitude)
    if altitude == 0 and not fix:
        return None
    if altitude and tags.gps.text(_STATUS).upper() == "V":
        warnings.add("GPSAltitude was not used: GPSStatus is V, no valid measurement", "altitude_msl_m")
        return None
    return altitude


def _exif_position(tags: ExifTags, warnings: Warnings) -> tuple[float, float] | None:
    if (_LAT in tags.gps.entries) != (_LON in tags.gps.entries):
        warnings.add("EXIF has only one of latitude and longitude; the position is unknown", *_FIELDS)
        return None
    latitude = _degrees(tags, _LATITUDE, warnings)
    longitude = _degrees(tags, _LONGITUDE, warnings)
    # Cameras write exactly 0, 0 for "no position yet".
    if latitude is None or longitude is None or (latitude, longitude) == (0, 0):
        return None
    if tags.gps.text(_STATUS).upper() == "V":
        warnings.add("the position in EXIF was not used: GPSStatus is V, no valid measurement", *_FIELDS)
        return None
    return latitude, longitude


def _degrees(tags: ExifTags, axis: _Axis, warnings: Warnings) -> float | None:
    count = min(tags.gps.total(axis.tag), 3)
    parts = tags.gps.numbers(axis.tag, count)
    if not count:
        return None
    if len(parts) != count:
        warnings.add(f"the {axis.name} in EXIF has a part that is no number; the position is unknown", *_FIELDS)
        return None
    size = sum(abs(part) / 60.0**power for power, part in enumerate(parts))
    if size > axis.most or any(abs(part) > 60 for part in parts[1:]):
        text = ", ".join(f"{part:g}" for part in parts)
        warnings.add(f"the {axis.name} in EXIF is out of range ({text}); the position is unknown", *_FIELDS)
        return None
    if size == 0:
        return 0.0
    # Degrees may be 0, and the minutes have the sign.
    negative = next(part for part in parts if part) < 0
    side = _side(tags, axis)
    if side is None and not negative:
        text = tags.gps.text(axis.reference_tag)
        warnings.add(
            f"the {axis.name} in EXIF has no {axis.positive} or {axis.negative} ({shown(text)}); the position is "
            "unknown",
            *_FIELDS,
        )
        return None
    if negative and side == axis.positive:
        warnings.add(
            f"the {axis.name} in EXIF contradicts itself (-{size:g} {side}); the position is unknown", *_FIELDS
        )
        return None
    return -size if negative or side == axis.negative else size


def _side(tags: ExifTags, axis: _Axis) -> str | None:
    """Return the letter of the hemisphere; the word in full counts too, a letter of a different axis does not."""
    letter = tags.gps.text(axis.reference_tag)[:1].upper()
    return letter if letter and letter in axis.positive + axis.negative else None


def _xmp_position(xmp: Mapping[str, str], warnings: Warnings) -> tuple[float, float] | None:
    for names in _XMP_PAIRS:
        if not all(name in xmp for name in names):
            continue
        values = [_coordinate(xmp[name], axis) for name, axis in zip(names, (_LATITUDE, _LONGITUDE), strict=True)]
        latitude, longitude = values
        if latitude is None or longitude is None:
            texts = ", ".join(shown(xmp[name]) for name in names)
            warnings.add(f"the position in XMP could not be read: {texts}", *_FIELDS)
        elif (latitude, longitude) != (0, 0):
            return latitude, longitude
    return None


def _coordinate(text: str, axis: _Axis) -> float | None:
    """Return the degrees of `-48.5`, or of XMP's `48,30.0S` and `48,30,0S`."""
    value = parse_number(text)
    match = _COORDINATE.fullmatch(text.strip().upper())
    if match is not None:
        if match[4] not in axis.positive + axis.negative or float(match[2]) > 60 or float(match[3] or 0) > 60:
            return None
        value = int(match[1]) + float(match[2]) / 60 + float(match[3] or 0) / 3600
        value = -value if match[4] == axis.negative else value
    return value if value is not None and abs(value) <= axis.most else None
