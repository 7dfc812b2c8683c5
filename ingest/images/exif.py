"""Reads camera geometry and capture time from an image's EXIF and XMP, within limits and tolerant of errors.

A value that is damaged, missing or out of range counts as unknown and never refuses a frame.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone

from ingest.images.check import ImageInfo
from ingest.images.formats.header import ImageError, Span
from ingest.images.formats.ifd import Block, IfdEntry
from ingest.images.xmp import read_xmp
from schemas.geometry import CameraGeometry

_XMP_PACKET, _EXIF_IFD, _GPS_IFD = 0x2BC, 0x8769, 0x8825
_TIME, _SUBSECONDS, _ZONE = 0x9003, 0x9291, 0x9011
_FOCAL, _FOCAL_35MM, _PLANE_RESOLUTION, _PLANE_UNIT, _PIXELS_ACROSS = 0x920A, 0xA405, 0xA20E, 0xA210, 0xA002
_LAT_REF, _LAT, _LON_REF, _LON, _ALT_REF, _ALT = 1, 2, 3, 4, 5, 6
_GPS_TIME, _DIRECTION_REF, _DIRECTION, _GPS_DATE = 7, 0x10, 0x11, 0x1D

_UNIT_MM = {2: 25.4, 3: 10.0, 4: 1.0, 5: 0.001}
_FULL_FRAME_DIAGONAL_MM = math.hypot(36, 24)
_DATE_TIME = re.compile(r"(\d{4})[:-](\d\d)[:-](\d\d)[ T](\d\d):(\d\d):(\d\d)", re.ASCII)
_OFFSET = re.compile(r"([+-])(\d\d):(\d\d)", re.ASCII)
_EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
_QUARTER = timedelta(minutes=15)


@dataclass(frozen=True, slots=True)
class Capture:
    """Holds an image's camera geometry and capture time (UTC); None where the image has none."""

    camera: CameraGeometry | None = None
    captured_at: datetime | None = None


class _Directories:
    """Reads the three directories of an EXIF block; one that cannot be read is empty."""

    def __init__(self, data: bytes, span: Span | None) -> None:
        self.block: Block | None = None
        self.main: Mapping[int, IfdEntry] = {}
        self.exif: Mapping[int, IfdEntry] = {}
        self.gps: Mapping[int, IfdEntry] = {}
        if span is None:
            return
        try:
            self.block = Block(data, span)
            main = self.block.directory(self.block.first)
        except ImageError:
            self.block = None
            return
        self.main = main
        self.exif = self._child(main, _EXIF_IFD)
        self.gps = self._child(main, _GPS_IFD)

    def _child(self, main: Mapping[int, IfdEntry], tag: int) -> Mapping[int, IfdEntry]:
        offset = self.number(main, tag)
        if self.block is None or offset is None:
            return {}
        try:
            return self.block.directory(int(offset))
        except ImageError:
            return {}

    def packet(self) -> Span | None:
        """Return where the main directory holds an XMP packet."""
        entry = self.main.get(_XMP_PACKET)
        return None if entry is None else Span(entry.position, entry.position + entry.total)

    def numbers(self, entries: Mapping[int, IfdEntry], tag: int, count: int) -> list[float]:
        entry = entries.get(tag)
        if self.block is None or entry is None:
            return []
        return [value for value in self.block.numbers(entry, count) if math.isfinite(value)]

    def number(self, entries: Mapping[int, IfdEntry], tag: int) -> float | None:
        found = self.numbers(entries, tag, 1)
        return found[0] if found else None

    def text(self, entries: Mapping[int, IfdEntry], tag: int) -> str:
        entry = entries.get(tag)
        return self.block.text(entry) if self.block is not None and entry is not None else ""


def read_capture(data: bytes, info: ImageInfo) -> Capture:
    """Return camera geometry and capture time of the image ``data``; no content makes it raise.

    A drone's XMP (heights, gimbal) replaces EXIF. A capture time without a zone gets the zone from the GPS time if
    there is one, and is otherwise read as UTC, so that the same bytes always have the same time.
    """
    directories = _Directories(data, next(iter(info.metadata.exif), None))
    packet = directories.packet() or next(iter(info.metadata.xmp), None)
    if directories.block is None and packet is None:
        return Capture()
    xmp = read_xmp(data, packet)
    fields = {**_lens(directories, info), **_position(directories), **_drone(xmp)}
    heading = _heading(directories, xmp)
    if heading is not None:
        fields["heading_deg"] = heading
    fields = {name: value for name, value in fields.items() if _in_range(name, value)}
    return Capture(
        camera=CameraGeometry.model_validate(fields) if fields else None,
        captured_at=_capture_time(directories, xmp),
    )


def _in_range(name: str, value: float) -> bool:
    """Whether the event schema accepts ``value`` for ``name``."""
    low, high = _RANGES[name]
    return math.isfinite(value) and low <= value <= high


# Written here and not read from the model's schema, because validation by trial is slow and runs for each frame.
_RANGES: Mapping[str, tuple[float, float]] = {
    "altitude_m": (-500, 100_000),
    "altitude_msl_m": (-500, 100_000),
    "focal_length_mm": (1e-6, 5_000),
    "sensor_width_mm": (1e-6, 1_000),
    "latitude": (-90, 90),
    "longitude": (-180, 180),
    "heading_deg": (0, math.nextafter(360, 0)),
    "pitch_deg": (-90, 90),
}


def _lens(found: _Directories, info: ImageInfo) -> dict[str, float]:
    focal = found.number(found.exif, _FOCAL)
    if focal is None or focal <= 0:
        return {}
    width = _sensor_width_mm(found, info, focal)
    return {"focal_length_mm": focal} if width is None else {"focal_length_mm": focal, "sensor_width_mm": width}


def _sensor_width_mm(found: _Directories, info: ImageInfo, focal_mm: float) -> float | None:
    """Return the sensor's width from its pixel pitch, or else from the focal length for 35 mm film.

    The film value compares diagonals (CIPA DCG-001) of the whole sensor. Images wider than 3:2 are cut from a 4:3
    sensor and have its width, so they count as 4:3.
    """
    resolution = found.number(found.exif, _PLANE_RESOLUTION)
    unit_mm = _UNIT_MM.get(int(found.number(found.exif, _PLANE_UNIT) or 2))
    if resolution and resolution > 0 and unit_mm:
        return (found.number(found.exif, _PIXELS_ACROSS) or info.width) / resolution * unit_mm
    film_mm = found.number(found.exif, _FOCAL_35MM)
    if not film_mm or film_mm <= 0:
        return None
    aspect = info.width / info.height
    if max(aspect, 1 / aspect) > 1.51:
        aspect = 4 / 3 if aspect > 1 else 3 / 4
    return _FULL_FRAME_DIAGONAL_MM * focal_mm / film_mm * aspect / math.hypot(aspect, 1)


def _position(found: _Directories) -> dict[str, float]:
    fields: dict[str, float] = {}
    latitude = _degrees(found, _LAT, _LAT_REF, "S")
    longitude = _degrees(found, _LON, _LON_REF, "W")
    # Cameras write exactly 0, 0 for "no position yet".
    if latitude is not None and longitude is not None and (latitude, longitude) != (0, 0):
        fields.update(latitude=latitude, longitude=longitude)
    altitude = found.number(found.gps, _ALT)
    if altitude is not None:
        below_sea = found.number(found.gps, _ALT_REF) == 1
        fields["altitude_msl_m"] = -altitude if below_sea else altitude
    return fields


def _degrees(found: _Directories, tag: int, reference_tag: int, negative: str) -> float | None:
    parts = found.numbers(found.gps, tag, 3)
    if len(parts) != 3:
        return None
    degrees = parts[0] + parts[1] / 60 + parts[2] / 3600
    return -degrees if found.text(found.gps, reference_tag).upper() == negative else degrees


def _drone(xmp: Mapping[str, str]) -> dict[str, float]:
    names = {"RelativeAltitude": "altitude_m", "AbsoluteAltitude": "altitude_msl_m", "GimbalPitchDegree": "pitch_deg"}
    values = {field: _float(xmp.get(name)) for name, field in names.items()}
    return {field: value for field, value in values.items() if value is not None}


def _heading(found: _Directories, xmp: Mapping[str, str]) -> float | None:
    """Return the direction of the image's top: the gimbal's, else EXIF's if from true north, else the aircraft's."""
    gimbal = _float(xmp.get("GimbalYawDegree"))
    if gimbal is not None:
        return gimbal % 360
    direction = found.number(found.gps, _DIRECTION)
    if direction is not None and found.text(found.gps, _DIRECTION_REF).upper() != "M":
        return direction % 360
    flight = _float(xmp.get("FlightYawDegree"))
    return None if flight is None else flight % 360


def _float(text: str | None) -> float | None:
    try:
        value = float(text) if text is not None else math.nan
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _capture_time(found: _Directories, xmp: Mapping[str, str]) -> datetime | None:
    exposure = _local_time(xmp.get("UTCAtExposure", ""))
    if exposure is not None:
        return _plausible_time(exposure.replace(tzinfo=UTC))
    local = _local_time(found.text(found.exif, _TIME))
    satellite = _satellite_time(found)
    if local is None:
        return _plausible_time(satellite) if satellite else None
    digits = found.text(found.exif, _SUBSECONDS)[:6]
    if digits.isascii() and digits.isdigit():
        local = local.replace(microsecond=int(digits.ljust(6, "0")))
    zone = _zone(found.text(found.exif, _ZONE)) or _zone_by_satellite(local, satellite)
    return _plausible_time(local.replace(tzinfo=zone))


def _local_time(text: str) -> datetime | None:
    match = _DATE_TIME.match(text)
    if match is None:
        return None
    year, month, day, hour, minute, second = map(int, match.groups())
    fraction = re.match(r"\.(\d{1,6})", text[match.end() :], re.ASCII)
    try:
        moment = datetime(year, month, day, hour, minute, second)  # noqa: DTZ001 - the caller adds the zone
    except ValueError:
        return None
    return moment.replace(microsecond=int(fraction[1].ljust(6, "0"))) if fraction else moment


def _zone(text: str) -> timezone | None:
    match = _OFFSET.fullmatch(text)
    if match is None or int(match[2]) > 14 or int(match[3]) > 59:
        return None
    offset = timedelta(hours=int(match[2]), minutes=int(match[3]))
    return timezone(-offset if match[1] == "-" else offset)


def _satellite_time(found: _Directories) -> datetime | None:
    parts = found.numbers(found.gps, _GPS_TIME, 3)
    if len(parts) != 3 or min(parts) < 0:
        return None
    hours, minutes, seconds = map(int, parts)
    moment = _local_time(f"{found.text(found.gps, _GPS_DATE)} {hours:02}:{minutes:02}:{seconds:02}")
    return moment.replace(tzinfo=UTC) if moment else None


def _zone_by_satellite(local: datetime, satellite: datetime | None) -> timezone:
    """Return the zone in which ``local`` is the satellite time (zones are in quarter hours), or UTC without one."""
    if satellite is None:
        return UTC
    difference = local.replace(tzinfo=UTC) - satellite
    offset = round(difference / _QUARTER) * _QUARTER
    if abs(difference - offset) > timedelta(minutes=5) or abs(offset) > timedelta(hours=14):
        return UTC
    return timezone(offset)


def _plausible_time(moment: datetime) -> datetime | None:
    """Return ``moment`` in UTC, or None before 1970, which only a clock that was never set gives."""
    try:
        moment = moment.astimezone(UTC)
    except OverflowError:
        return None
    return moment if moment >= _EARLIEST else None
