"""Checks MISB ST 0601: values, times, checksums, and packets that are damaged or of another standard."""

from __future__ import annotations

import random
from datetime import UTC, datetime

import pytest

from ingest.video.telemetry.klv import UNIVERSAL_KEY, KlvError, add_packets, read_local_set
from ingest.video.telemetry.track import TelemetryTrack
from tests.videos import klv_packet, signed, unsigned

MOMENT = datetime(2026, 5, 1, 10, tzinfo=UTC)
MICROSECONDS = (int(MOMENT.timestamp()) * 1_000_000).to_bytes(8, "big")
POSITION = {2: MICROSECONDS, 13: signed(48.5, 90), 14: signed(-9.25, 180), 15: unsigned(520, -900, 19_000)}
LEVEL = {5: unsigned(90, 0, 360), 6: signed(0, 20, 2), 7: signed(0, 50, 2)}
DOWN = {18: (0).to_bytes(4, "big"), 19: signed(-90, 180), 20: (0).to_bytes(4, "big")}


def read(data: bytes) -> TelemetryTrack:
    track = TelemetryTrack("MISB ST 0601")
    add_packets(data, 1.0, track)
    return track


def test_position_heights_and_time_are_read() -> None:
    track = read(klv_packet({**POSITION, 25: unsigned(400, -900, 19_000)}))
    camera = track.at(1.0)
    assert camera is not None
    assert camera.latitude == pytest.approx(48.5, abs=1e-6)
    assert camera.longitude == pytest.approx(-9.25, abs=1e-6)
    assert camera.altitude_msl_m == pytest.approx(520, abs=0.2)
    assert camera.altitude_m == pytest.approx(120, abs=0.4)
    assert track.start() == datetime(2026, 5, 1, 9, 59, 59, tzinfo=UTC)


def test_the_angles_of_the_sensor_turn_those_of_the_aircraft() -> None:
    camera = read(klv_packet({**POSITION, **LEVEL, **DOWN})).at(1.0)
    assert camera is not None
    assert camera.pitch_deg == pytest.approx(-90, abs=0.01)
    assert camera.heading_deg == pytest.approx(90, abs=0.01)


def test_without_all_angles_the_direction_is_unknown() -> None:
    camera = read(klv_packet({**POSITION, **LEVEL})).at(1.0)
    assert camera is not None
    assert camera.pitch_deg is None
    assert camera.heading_deg is None


def test_the_lowest_integer_means_unknown() -> None:
    camera = read(klv_packet({**POSITION, 13: b"\x80\0\0\0"})).at(1.0)
    assert camera is not None
    assert camera.latitude is None


def test_a_wrong_checksum_leaves_the_packet_out() -> None:
    track = read(klv_packet(POSITION, checksum=1))
    assert len(track) == 0
    assert "its checksum is wrong" in track.warnings[0].text


def test_several_packets_in_one_are_all_read() -> None:
    assert len(read(klv_packet(POSITION) + klv_packet(POSITION, checksum=1) + klv_packet(POSITION))) == 2


def test_a_packet_of_another_standard_is_counted() -> None:
    track = read(b"\x06\x0e\x2b\x34" + bytes(40))
    assert len(track) == 0
    assert "another standard" in track.warnings[0].text


@pytest.mark.parametrize(
    ("packet", "reason"),
    [
        (b"", "does not begin with the key"),
        (UNIVERSAL_KEY, "cut off"),
        (UNIVERSAL_KEY + b"\x82", "lengths cannot be read"),
        (UNIVERSAL_KEY + b"\x84\xff\xff\xff\xff", "longer than 65536 bytes"),
        (UNIVERSAL_KEY + b"\x7f\x0d\x04", "cut off"),
        (UNIVERSAL_KEY + b"\x03\x0d\x09\0", "longer than the packet"),
        (UNIVERSAL_KEY + b"\x04\xff\xff\xff\xff", "tags cannot be read"),
    ],
)
def test_a_damaged_packet_gives_its_reason(packet: bytes, reason: str) -> None:
    with pytest.raises(KlvError, match=reason):
        read_local_set(packet)


def test_mutated_packets_never_raise() -> None:
    random_source = random.Random(5)
    clean = klv_packet({**POSITION, **LEVEL, **DOWN})
    for _ in range(1_000):
        content = bytearray(clean * random_source.randint(1, 3))
        for _ in range(random_source.randint(1, 6)):
            content[random_source.randrange(len(content))] = random_source.randrange(256)
        read(bytes(content[: random_source.randrange(len(content))])).at(1.0)
