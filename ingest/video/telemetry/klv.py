"""Reads MISB ST 0601 packets (KLV), which drones of many makers put into MPEG transport streams."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta

from ingest.video.telemetry.pointing import direction_of
from ingest.video.telemetry.track import TelemetryTrack

KIND = "MISB ST 0601"
UNIVERSAL_KEY = bytes.fromhex("060e2b34020b01010e01030101000000")
MAX_PACKET_BYTES = 65_536
_MAX_ITEMS = 512
_CHECKSUM = 1
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class KlvError(ValueError):
    """The bytes are no complete KLV packet; the text says why, without values from the packet."""


def add_packets(data: bytes, time_s: float, track: TelemetryTrack) -> None:
    """Add every ST 0601 packet in ``data``, which belongs to ``time_s`` of the video, to ``track``."""
    found = False
    for start in _keys(data):
        found = True
        try:
            items = read_local_set(data[start : start + MAX_PACKET_BYTES])
        except KlvError as error:
            track.tally.add(f"{KIND}: a packet was left out: {error}", time_s)
            continue
        if _CHECKSUM not in items:
            track.tally.add(f"{KIND}: a packet has no checksum; it was used", time_s)
        clock = _time(items.get(2))
        track.add(time_s, _values(items), captured_at=clock)
    if not found and data:
        track.tally.add(f"{KIND}: a packet of another standard was left out", time_s)


def read_local_set(packet: bytes) -> Mapping[int, bytes]:
    """Return the items of the packet that ``packet`` begins with, by tag; its checksum was compared.

    Raises KlvError where it is cut off, is too long, or has a wrong checksum.
    """
    if not packet.startswith(UNIVERSAL_KEY):
        raise KlvError("it does not begin with the key of a UAS local set")
    length, start = _length(packet, len(UNIVERSAL_KEY))
    end = start + length
    if end > MAX_PACKET_BYTES:
        raise KlvError(f"it is longer than {MAX_PACKET_BYTES} bytes")
    if end > len(packet):
        raise KlvError("it is cut off")
    items: dict[int, bytes] = {}
    position = start
    while position < end:
        tag, position = _tag(packet, position, end)
        length, position = _length(packet, position)
        if position + length > end:
            raise KlvError("one of its items is longer than the packet")
        if len(items) >= _MAX_ITEMS:
            raise KlvError(f"it has more than {_MAX_ITEMS} items")
        items[tag] = packet[position : position + length]
        position += length
    written = items.get(_CHECKSUM)
    if written is not None and (len(written) != 2 or int.from_bytes(written) != _checksum(packet[: end - 2])):
        raise KlvError("its checksum is wrong")
    return items


def _keys(data: bytes) -> Iterator[int]:
    """Yield where packets begin; a key inside of a packet's own items is not one."""
    position = data.find(UNIVERSAL_KEY)
    while position >= 0:
        yield position
        try:
            length, start = _length(data, position + len(UNIVERSAL_KEY))
        except KlvError:
            length, start = 0, position + len(UNIVERSAL_KEY)
        end = start + length
        position = data.find(UNIVERSAL_KEY, end if end <= len(data) else start)


def _length(data: bytes, at: int) -> tuple[int, int]:
    """Return a BER length and the position after it."""
    if at >= len(data):
        raise KlvError("it is cut off")
    first = data[at]
    if first < 0x80:
        return first, at + 1
    size = first & 0x7F
    if not 1 <= size <= 8 or at + 1 + size > len(data):
        raise KlvError("one of its lengths cannot be read")
    return int.from_bytes(data[at + 1 : at + 1 + size]), at + 1 + size


def _tag(data: bytes, at: int, end: int) -> tuple[int, int]:
    """Return a BER-OID tag and the position after it."""
    tag = 0
    for index in range(at, min(end, at + 4)):
        tag = tag << 7 | data[index] & 0x7F
        if data[index] < 0x80:
            return tag, index + 1
    raise KlvError("one of its tags cannot be read")


def _checksum(data: bytes) -> int:
    """Return the sum of ``data`` as 16-bit words, the last byte of an odd number being a high one."""
    padded = data + b"\0" if len(data) % 2 else data
    words: tuple[int, ...] = struct.unpack(f">{len(padded) // 2}H", padded)
    return sum(words) & 0xFFFF


def _values(items: Mapping[int, bytes]) -> dict[str, float | None]:
    latitude, longitude = _signed(items.get(13), 4, 90), _signed(items.get(14), 4, 180)
    above_sea = _unsigned(items.get(15), 2, -900, 19_000)
    ground = _unsigned(items.get(25), 2, -900, 19_000)
    pitch, heading = _direction(items)
    return {
        "latitude": latitude,
        "longitude": longitude,
        "altitude_msl_m": above_sea,
        # Above the ground in the middle of the picture.
        "altitude_m": None if above_sea is None or ground is None else above_sea - ground,
        "pitch_deg": pitch,
        "heading_deg": heading,
    }


def _direction(items: Mapping[int, bytes]) -> tuple[float | None, float | None]:
    """Return pitch and heading of the camera: those of the aircraft, turned by the angles of the sensor against it."""
    heading = _unsigned(items.get(5), 2, 0, 360)
    pitch = _first(_signed(items.get(90), 4, 90), _signed(items.get(6), 2, 20))
    roll = _first(_signed(items.get(91), 4, 90), _signed(items.get(7), 2, 50))
    azimuth, elevation = _unsigned(items.get(18), 4, 0, 360), _signed(items.get(19), 4, 180)
    turn = _unsigned(items.get(20), 4, 0, 360)
    if heading is None or pitch is None or roll is None or azimuth is None or elevation is None:
        return None, None
    return direction_of((heading, pitch, roll), (azimuth, elevation, turn or 0.0))


def _first(*values: float | None) -> float | None:
    return next((value for value in values if value is not None), None)


def _signed(raw: bytes | None, size: int, most: float) -> float | None:
    """Return a number of -most to most that fills a signed integer; its lowest value means "out of range"."""
    if raw is None or len(raw) != size:
        return None
    value, limit = int.from_bytes(raw, signed=True), 1 << (8 * size - 1)
    return None if value == -limit else value * most / (limit - 1)


def _unsigned(raw: bytes | None, size: int, low: float, high: float) -> float | None:
    if raw is None or len(raw) != size:
        return None
    return low + int.from_bytes(raw) * (high - low) / ((1 << 8 * size) - 1)


def _time(raw: bytes | None) -> datetime | None:
    if raw is None or len(raw) != 8:
        return None
    microseconds = int.from_bytes(raw)
    # Up to the year 2100; others are counters since the start of the aircraft, or damaged.
    if not 0 < microseconds < 4_102_444_800_000_000:
        return None
    return _EPOCH + timedelta(microseconds=microseconds)
