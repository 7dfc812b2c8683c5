"""Decides when a picture was taken: the local time of EXIF or XMP, and the time zone that it is in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import NamedTuple

from ingest.images.metadata.exif_tags import TIME_ORIGINAL, ExifTags
from ingest.images.metadata.warnings import Warnings, shown

FIELD = "captured_at"

_TIME_DIGITIZED = 0x9004
_SUBSECONDS = {TIME_ORIGINAL: 0x9291, _TIME_DIGITIZED: 0x9292}
# OffsetTimeOriginal, OffsetTimeDigitized, OffsetTime: the last one belongs to the time of the last change.
_OFFSETS = {0x9011: "OffsetTimeOriginal", 0x9012: "OffsetTimeDigitized", 0x9010: "OffsetTime"}
_GPS_TIME, _GPS_DATE = 7, 0x1D
_XMP_TIMES = ("exif:DateTimeOriginal", "exif:DateTimeDigitized", "xmp:CreateDate", "photoshop:DateCreated")

_DATE_TIME = re.compile(
    r"(\d{4})[:/.-](\d\d?)[:/.-](\d\d?)[ T]{1,2}(\d\d?):(\d\d)(?::(\d\d))?(?:[.,](\d{1,9}))?", re.ASCII | re.IGNORECASE
)
_OFFSET = re.compile(r"(?:UTC|GMT)?([+-])(\d{1,2})(?::?(00|15|30|45))?(?::00)?", re.ASCII | re.IGNORECASE)
_ZERO = frozenset({"Z", "UTC", "GMT", "00:00", "0000"})
_EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
_QUARTER = timedelta(minutes=15)
# The zones on earth.
_LOWEST, _HIGHEST = timedelta(hours=-12), timedelta(hours=14)
_CLOCK_ERROR = timedelta(minutes=5)


class _Local(NamedTuple):
    """Is a time as a camera's clock showed it, and the zone where the text itself has one."""

    time: datetime
    zone: timezone | None


@dataclass(frozen=True, slots=True)
class _Zone:
    """Is a zone and where it was found."""

    zone: timezone
    origin: str


def read_capture_time(tags: ExifTags, xmp: Mapping[str, str], warnings: Warnings) -> datetime | None:
    """Return when the picture was taken, in UTC; None where nothing says it.

    The drone's own UTC is first, then the local time of EXIF, or else XMP, then the satellites' time. A local time
    gets the zone in its text, else in an offset tag, else in XMP, else the one that agrees with the satellites, and is
    otherwise read as UTC, so that the same bytes always have the same time.
    """
    for maker in ("drone-dji", "drone"):
        exposure = _parse(xmp.get(f"{maker}:UTCAtExposure", ""), warnings)
        if exposure is not None:
            return _plausible(exposure.time.replace(tzinfo=exposure.zone or UTC), warnings)
    local = _local_time(tags, xmp, warnings)
    satellite = _satellite_time(tags, None if local is None else local.time)
    if local is None:
        return None if satellite is None else _plausible(satellite, warnings)
    zone = _zone(local, tags, xmp, warnings)
    if zone is None:
        return _plausible(_by_satellite(local.time, satellite, warnings), warnings)
    moment = local.time.replace(tzinfo=zone.zone)
    if satellite is not None and abs(moment - satellite) > _QUARTER:
        warnings.add(
            f"the capture time is {moment.isoformat()} by {zone.origin}, but the GPS time in EXIF is "
            f"{satellite.isoformat()}; the former was used",
            FIELD,
        )
    return _plausible(moment, warnings)


def _local_time(tags: ExifTags, xmp: Mapping[str, str], warnings: Warnings) -> _Local | None:
    for tag in (TIME_ORIGINAL, _TIME_DIGITIZED):
        local = _parse(tags.exif.text(tag), warnings)
        # Many cameras write a time near 1970 or 1904 until their clock is set.
        if local is None or local.time.replace(tzinfo=UTC) < _EARLIEST:
            continue
        if tag == _TIME_DIGITIZED:
            warnings.add("EXIF has no DateTimeOriginal that can be read; DateTimeDigitized was used", FIELD)
        digits = tags.exif.text(_SUBSECONDS[tag])[:6]
        if not local.time.microsecond and digits.isascii() and digits.isdigit():
            local = local._replace(time=local.time.replace(microsecond=int(digits.ljust(6, "0"))))
        return local
    for name in _XMP_TIMES:
        # Some have only a date, which is no damage.
        local = _parse(xmp.get(name, ""), Warnings())
        if local is not None:
            warnings.add(f"EXIF has no capture time that can be read; {name} of XMP was used", FIELD)
            return local
    return None


def _parse(text: str, warnings: Warnings) -> _Local | None:
    """Return the time that ``text`` begins with, and the zone that follows it; warn where it is damaged."""
    match = _DATE_TIME.match(text)
    if match is None:
        if any(digit in text for digit in "123456789"):
            warnings.add(f"a capture time could not be read: {shown(text)}", FIELD)
        return None
    rest = text[match.end() :].strip()
    afternoon = rest[:2].upper() if rest[:2].upper() in {"AM", "PM"} else ""
    rest = rest[len(afternoon) :].strip()
    try:
        moment = datetime(*map(int, match.groups(default="0")[:6]))  # type: ignore[arg-type]  # noqa: DTZ001 - six numbers
        if afternoon:
            moment = moment.replace(hour=moment.hour % 12 + (12 if afternoon == "PM" else 0))
    except ValueError:
        if any(digit in match[0] for digit in "123456789"):
            warnings.add(f"a capture time is not in the calendar: {shown(text)}", FIELD)
        return None
    fraction = match[7]
    if fraction:
        moment = moment.replace(microsecond=int(fraction[:6].ljust(6, "0")))
    zone = parse_offset(rest) if rest else None
    if rest and zone is None:
        warnings.add(f"the text after a capture time is no time zone: {shown(text)}", FIELD)
    return _Local(moment, zone)


def parse_offset(text: str) -> timezone | None:
    """Return the zone of an offset: `+02:00`, `-5:00`, `+0200`, `UTC+2`, `Z`; None for other text."""
    text = re.sub(r"\s", "", text[:32])
    if text.upper() in _ZERO:
        return UTC
    match = _OFFSET.fullmatch(text)
    if match is None:
        return None
    offset = timedelta(hours=int(match[2]), minutes=int(match[3] or 0))
    offset = -offset if match[1] == "-" else offset
    return timezone(offset) if _LOWEST <= offset <= _HIGHEST else None


def _zone(local: _Local, tags: ExifTags, xmp: Mapping[str, str], warnings: Warnings) -> _Zone | None:
    """Return the zone of ``local`` by its text, the offset tags or XMP, in this order."""
    found: list[_Zone] = []
    if local.zone is not None:
        found.append(_Zone(local.zone, "the text of the time"))
    for tag, name in _OFFSETS.items():
        text = tags.exif.text(tag)
        zone = parse_offset(text)
        if zone is not None:
            found.append(_Zone(zone, f"{name} {shown(text)}"))
        elif any(char.isalnum() for char in text):
            warnings.add(f"{name} is {shown(text)}, which is no time zone; it was not used", FIELD)
    for name in _XMP_TIMES:
        other = _parse(xmp.get(name, ""), Warnings())
        if other is not None and other.zone is not None and abs(other.time - local.time) < timedelta(minutes=1):
            found.append(_Zone(other.zone, f"{name} of XMP"))
    if not found:
        return None
    first = found[0]
    # OffsetTime is left out: a picture may be changed in a different zone.
    for other_zone in found[1:]:
        if other_zone.zone != first.zone and not other_zone.origin.startswith("OffsetTime "):
            warnings.add(
                f"the time zone is {first.zone} by {first.origin}, but {other_zone.zone} by "
                f"{other_zone.origin}; the former was used",
                FIELD,
            )
    return first


def _satellite_time(tags: ExifTags, local: datetime | None) -> datetime | None:
    """Return the GPS time; where it has no date, on the only day on which a zone explains the ``local`` time."""
    parts = tags.gps.numbers(_GPS_TIME, 3)
    if len(parts) != 3 or not all(0 <= part < 100 for part in parts):
        return None
    hours, minutes, seconds = map(int, parts)
    if _GPS_DATE not in tags.gps.entries:
        if local is None or hours > 23 or minutes > 59 or seconds > 59:
            return None
        same_day = local.replace(hour=hours, minute=minutes, second=seconds, microsecond=0, tzinfo=UTC)
        days = [same_day + timedelta(days=days) for days in (-1, 0, 1)] if 1970 < local.year < 9999 else []
        days = [day for day in days if _LOWEST <= local.replace(tzinfo=UTC) - day <= _HIGHEST]
        return days[0] if len(days) == 1 else None
    match = _DATE_TIME.match(f"{tags.gps.text(_GPS_DATE)[:10]} {hours:02}:{minutes:02}:{seconds:02}")
    try:
        return datetime(*map(int, match.groups(default="0")[:6]), tzinfo=UTC) if match else None  # type: ignore[misc,arg-type]
    except ValueError:
        return None


def _by_satellite(local: datetime, satellite: datetime | None, warnings: Warnings) -> datetime:
    """Return ``local`` in the zone in which it is the satellites' time (in quarter hours), or in UTC without one."""
    clock = local.isoformat(sep=" ", timespec="seconds")
    if satellite is None:
        warnings.add(
            f"the capture time {clock} has no time zone; it was read as UTC. Send captured_at where it is local time",
            FIELD,
        )
        return local.replace(tzinfo=UTC)
    difference = local.replace(tzinfo=UTC) - satellite
    offset = round(difference / _QUARTER) * _QUARTER
    if abs(difference - offset) > _CLOCK_ERROR or not _LOWEST <= offset <= _HIGHEST:
        warnings.add(
            f"the capture time {clock} has no time zone, and none explains the GPS time {satellite.isoformat()}; it "
            "was read as UTC",
            FIELD,
        )
        return local.replace(tzinfo=UTC)
    zone = timezone(offset)
    if offset:
        warnings.add(
            f"the capture time {clock} has no time zone; it was read as {zone}, by the GPS time in EXIF", FIELD
        )
    return local.replace(tzinfo=zone)


def _plausible(moment: datetime, warnings: Warnings) -> datetime | None:
    """Return ``moment`` in UTC, or None before 1970, which only a clock that was never set gives."""
    try:
        moment = moment.astimezone(UTC)
    except OverflowError:
        return None
    if moment >= _EARLIEST:
        return moment
    warnings.add(f"the capture time {moment.date().isoformat()} is before 1970: the camera's clock was not set", FIELD)
    return None
