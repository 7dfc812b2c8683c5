"""Reads GPMF, which GoPro cameras and the GoPro Karma put into a track of their MP4 files."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from ingest.video.telemetry.track import TelemetryTrack

KIND = "GPMF"
MAX_PAYLOAD_BYTES = 4_000_000
_MAX_DEPTH = 4
_MAX_ELEMENTS = 20_000
_MAX_SAMPLES = 2_000
_NESTED = 0
_FORMATS = {
    "b": "b",
    "B": "B",
    "s": "h",
    "S": "H",
    "l": "i",
    "L": "I",
    "j": "q",
    "J": "Q",
    "f": "f",
    "d": "d",
}
_EPOCH_2000 = datetime(2000, 1, 1, tzinfo=UTC)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST = datetime(2100, 1, 1, tzinfo=UTC)
# Two dimensions: the position is right although the height is not.
_LEAST_FIX = 2

Row = list[float]


class GpmfError(ValueError):
    """The bytes are no GPMF; the text says why."""


@dataclass(slots=True)
class _Stream:
    """Holds the elements of one STRM: the settings before its samples, and the samples."""

    elements: dict[str, tuple[str, int, int, bytes]] = field(default_factory=dict)

    def text(self, key: str) -> str:
        """Return the text of ``key``; empty where there is none."""
        return self.elements[key][3].decode("latin-1").strip("\0 ") if key in self.elements else ""

    def number(self, key: str) -> float | None:
        """Return the first number of ``key``, not scaled."""
        rows = self.rows(key, scaled=False)
        return rows[0][0] if rows and rows[0] else None

    def rows(self, key: str, *, scaled: bool = True) -> list[Row]:
        """Return the samples of ``key``, each value divided by its scale; empty where they cannot be read."""
        if key not in self.elements:
            return []
        kind, size, count, raw = self.elements[key]
        kinds = self.text("TYPE") if kind == "?" else ""
        if kind == "?":
            parts = [_FORMATS.get(each) for each in kinds]
        else:
            width = struct.calcsize(_FORMATS[kind]) if kind in _FORMATS else 0
            parts = [_FORMATS.get(kind)] * (size // width if width else 0)
        if not parts or not all(parts):
            return []
        form = struct.Struct(">" + "".join(each for each in parts if each))
        if form.size != size:
            return []
        scales = self._scales(len(parts)) if scaled else [1.0] * len(parts)
        count = min(count, _MAX_SAMPLES)
        return [
            [value / scale for value, scale in zip(form.unpack_from(raw, index * size), scales, strict=True)]
            for index in range(count)
        ]

    def finite_rows(self, key: str, width: int) -> list[list[float]]:
        """Return the samples of ``key`` that have ``width`` values, all of them finite."""
        return [row for row in self.rows(key) if len(row) == width and all(map(math.isfinite, row))]

    def _scales(self, count: int) -> Sequence[float]:
        rows = self.rows("SCAL", scaled=False) if "SCAL" in self.elements else []
        scales = [row[0] for row in rows if row]
        if len(scales) == 1:
            scales *= count
        return scales if len(scales) == count and all(scales) else [1.0] * count if not scales else [math.nan] * count


def is_gpmf(payload: bytes) -> bool:
    """Whether ``payload`` begins as GPMF does."""
    return payload.startswith(b"DEVC")


def add_payload(payload: bytes, time_s: float, duration_s: float, track: TelemetryTrack) -> None:
    """Add the positions in ``payload`` to ``track``, spread evenly over ``duration_s`` from ``time_s``."""
    try:
        streams = list(_streams(payload))
    except GpmfError as error:
        track.tally.add(f"{KIND}: a payload was left out: {error}", time_s)
        return
    for read in (_gps9, _gps5, _karma):
        samples = read(streams, track, time_s)
        if samples:
            break
    else:
        return
    for index, (values, captured_at) in enumerate(samples):
        track.add(time_s + duration_s * index / len(samples), values, captured_at=captured_at)


_Sample = tuple[dict[str, float | None], datetime | None]


def _gps9(streams: Sequence[_Stream], track: TelemetryTrack, time_s: float) -> list[_Sample]:
    """Return the samples of Hero 11 and later: each has its own time and fix."""
    samples: list[_Sample] = []
    for stream in streams:
        for row in stream.finite_rows("GPS9", 9):
            latitude, longitude, height, _, _, days, seconds, _, fix = row
            if fix < _LEAST_FIX:
                track.tally.add(f"{KIND}: the camera had no position yet", time_s, "latitude", "longitude")
                continue
            moment = _plausible(_EPOCH_2000, days * 86_400 + seconds)
            samples.append((_place(latitude, longitude, _height(stream, height, track, time_s)), moment))
    return samples


def _gps5(streams: Sequence[_Stream], track: TelemetryTrack, time_s: float) -> list[_Sample]:
    """Return the samples of Hero 5 to 10: time and fix are those of the payload."""
    for stream in streams:
        rows = stream.finite_rows("GPS5", 5)
        if not rows:
            continue
        fix = stream.number("GPSF")
        if fix is None or fix < _LEAST_FIX:
            track.tally.add(f"{KIND}: the camera had no position yet", time_s, "latitude", "longitude")
            continue
        moment = _gps_time(stream.text("GPSU"))
        samples: list[_Sample] = []
        for latitude, longitude, height, *_ in rows:
            values = _place(latitude, longitude, _height(stream, height, track, time_s))
            samples.append((values, moment if not samples else None))
        return samples
    return []


def _karma(streams: Sequence[_Stream], track: TelemetryTrack, time_s: float) -> list[_Sample]:
    """Return the samples of the GoPro Karma: the drone's own position, with heights above the sea and the take-off."""
    clock = _karma_clock(streams)
    fixes = [row for stream in streams for row in stream.rows("GPRI") if len(row) == 10]
    if fixes and all(row[8] < _LEAST_FIX for row in fixes):
        track.tally.add(f"{KIND}: the drone had no position yet", time_s, "latitude", "longitude")
        return []
    samples: list[_Sample] = []
    for stream in streams:
        for row in stream.finite_rows("GLPI", 9):
            since_boot, latitude, longitude, above_sea, above_takeoff, _, _, _, heading = row
            values = _place(latitude, longitude, above_sea)
            values["altitude_m"] = above_takeoff
            # The standard number for "not known" is above 360.
            values["heading_deg"] = heading % 360 if 0 <= heading <= 360 else None
            samples.append((values, None if clock is None else _plausible(_EPOCH, clock + since_boot)))
    return samples


def _karma_clock(streams: Sequence[_Stream]) -> float | None:
    """Return the seconds since 1970 at which the drone was switched on."""
    for stream in streams:
        for row in stream.finite_rows("SYST", 2):
            return row[1] - row[0]
    return None


def _place(latitude: float, longitude: float, above_sea: float | None) -> dict[str, float | None]:
    if latitude == 0 and longitude == 0:
        return {"altitude_msl_m": above_sea}
    return {"latitude": latitude, "longitude": longitude, "altitude_msl_m": above_sea}


def _height(stream: _Stream, height: float, track: TelemetryTrack, time_s: float) -> float | None:
    """Return ``height`` if the camera says that it is above the sea; without that it is above the ellipsoid."""
    if stream.text("GPSA") == "MSLV":
        return height
    track.tally.add(
        f"{KIND}: the height is above the ellipsoid and not above the sea, so it was not used", time_s, "altitude_msl_m"
    )
    return None


def _gps_time(text: str) -> datetime | None:
    """Return the time `yymmddhhmmss.sss`."""
    digits, _, fraction = text.partition(".")
    if len(digits) != 12 or not (digits + fraction).isdecimal() or not text.isascii():
        return None
    pairs = [int(digits[at : at + 2]) for at in range(0, 12, 2)]
    try:
        moment = datetime(2000 + pairs[0], *pairs[1:], tzinfo=UTC)  # type: ignore[arg-type,misc]
    except ValueError:
        return None
    return moment + timedelta(microseconds=int(fraction[:6].ljust(6, "0")))


def _plausible(epoch: datetime, seconds: float) -> datetime | None:
    if not 0 < seconds < (_LATEST - epoch).total_seconds():
        return None
    return epoch + timedelta(seconds=seconds)


def _streams(payload: bytes) -> Iterator[_Stream]:
    """Yield the STRM elements of all devices in ``payload``. Raises GpmfError where lengths contradict each other."""
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise GpmfError(f"it is longer than {MAX_PAYLOAD_BYTES} bytes")
    left = [_MAX_ELEMENTS]
    for key, kind, _, _, raw in _elements(payload, left, 0):
        if key == "DEVC" and kind == _NESTED:
            for inner, inner_kind, _, _, content in _elements(raw, left, 1):
                if inner == "STRM" and inner_kind == _NESTED:
                    stream = _Stream()
                    for name, form, size, count, value in _elements(content, left, 2):
                        stream.elements[name] = (chr(form), size, count, value)
                    yield stream


def _elements(data: bytes, left: list[int], depth: int) -> Iterator[tuple[str, int, int, int, bytes]]:
    """Yield key, type, size of a sample, number of samples and content of each element."""
    assert depth < _MAX_DEPTH
    at = 0
    while at + 8 <= len(data):
        if data[at : at + 4] == b"\0\0\0\0":
            return
        left[0] -= 1
        if left[0] < 0:
            raise GpmfError(f"it has more than {_MAX_ELEMENTS} elements")
        kind, size, count = struct.unpack_from(">BBH", data, at + 4)
        length = size * count
        end = at + 8 + length
        if end > len(data):
            raise GpmfError("one of its elements is longer than what holds it")
        yield data[at : at + 4].decode("latin-1"), kind, size, count, data[at + 8 : end]
        at = end + -length % 4
