"""Checks GPMF: positions of three generations of cameras, fixes, heights, times and damaged payloads."""

from __future__ import annotations

import random
import struct
from datetime import UTC, datetime

import pytest

from ingest.video.telemetry.gpmf import add_payload
from ingest.video.telemetry.track import TelemetryTrack
from tests.videos import gpmf, gpmf_nested

SCALE5 = gpmf("SCAL", "l", 4, 5, struct.pack(">5i", 10**7, 10**7, 1000, 1000, 100))


def gps5(fix: int = 3, *, system: bytes = b"") -> bytes:
    rows = struct.pack(">10i", 485_000_000, 95_000_000, 400_000, 0, 0, 485_000_100, 95_000_000, 401_000, 0, 0)
    parts = [
        gpmf("GPSF", "L", 4, 1, fix.to_bytes(4, "big")),
        gpmf("GPSU", "U", 16, 1, b"260501100000.500"),
        *([gpmf("GPSA", "F", 4, 1, system)] if system else []),
        SCALE5,
        gpmf("GPS5", "l", 20, 2, rows),
    ]
    return gpmf_nested("DEVC", gpmf("DVNM", "c", 1, 4, b"Hero"), gpmf_nested("STRM", *parts))


def read(payload: bytes) -> TelemetryTrack:
    track = TelemetryTrack("GPMF")
    add_payload(payload, 2.0, 1.0, track)
    return track


def test_hero_5_samples_are_spread_over_the_payload() -> None:
    track = read(gps5())
    first, second = track.at(2.0), track.at(2.5)
    assert first is not None
    assert second is not None
    assert (first.latitude, first.longitude) == (48.5, 9.5)
    assert second.latitude == pytest.approx(48.50001)
    assert track.start() == datetime(2026, 5, 1, 9, 59, 58, 500_000, UTC)


def test_a_height_above_the_ellipsoid_is_not_used() -> None:
    track = read(gps5())
    first = track.at(2.0)
    assert first is not None
    assert first.altitude_msl_m is None
    assert "above the ellipsoid" in track.warnings[0].text
    above_sea = read(gps5(system=b"MSLV")).at(2.0)
    assert above_sea is not None
    assert above_sea.altitude_msl_m == 400.0


def test_without_a_fix_nothing_is_known() -> None:
    track = read(gps5(fix=0))
    assert len(track) == 0
    assert "no position yet" in track.warnings[0].text


def test_hero_11_samples_have_their_own_times() -> None:
    row = struct.pack(">7i2H", 485_000_000, 95_000_000, 400_000, 0, 0, 9_617, 36_000_000, 100, 3)
    scale = gpmf("SCAL", "l", 4, 9, struct.pack(">9i", 10**7, 10**7, 1000, 1000, 100, 1, 1000, 100, 1))
    kinds = gpmf("TYPE", "c", 1, 9, b"lllllllSS")
    stream = gpmf_nested("STRM", kinds, scale, gpmf("GPS9", "?", 32, 1, row))
    track = read(gpmf_nested("DEVC", stream))
    assert track.start() == datetime(2026, 5, 1, 9, 59, 58, tzinfo=UTC)


def test_other_streams_alone_add_nothing() -> None:
    stream = gpmf_nested("STRM", gpmf("ACCL", "s", 6, 2, bytes(12)))
    track = read(gpmf_nested("DEVC", stream))
    assert len(track) == 0
    assert track.warnings == ()


def test_an_element_longer_than_its_parent_is_named() -> None:
    track = read(gps5()[:40])
    assert "longer than what holds it" in track.warnings[0].text


def test_mutated_payloads_never_raise() -> None:
    random_source = random.Random(3)
    clean = gps5(system=b"MSLV")
    for _ in range(1_000):
        content = bytearray(clean)
        for _ in range(random_source.randint(1, 8)):
            content[random_source.randrange(len(content))] = random_source.randrange(256)
        read(bytes(content)).at(2.2)
