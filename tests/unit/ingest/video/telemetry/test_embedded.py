"""Checks that packets of data and subtitle tracks are recognised by what they hold, and others are named."""

from __future__ import annotations

import struct
from datetime import UTC, datetime

from ingest.video.telemetry.embedded import EmbeddedTelemetry, subtitle_text
from tests.videos import gpmf, gpmf_nested, klv_packet, signed

SUBTITLE = b"GPS(48.4146,5.6880,0.0M) BAROMETER:0.3M\n2022.06.21 16:06:17"
KLV = klv_packet({13: signed(48.5, 90), 14: signed(9.5, 180)})


def gpmf_payload() -> bytes:
    scale = gpmf("SCAL", "l", 4, 5, struct.pack(">5i", 10**7, 10**7, 1000, 1000, 100))
    fix = gpmf("GPSF", "L", 4, 1, struct.pack(">I", 3))
    row = gpmf("GPS5", "l", 20, 1, struct.pack(">5i", 485_000_000, 95_000_000, 0, 0, 0))
    return gpmf_nested("DEVC", gpmf_nested("STRM", fix, scale, row))


def latitude(found: EmbeddedTelemetry, time_s: float) -> float | None:
    camera = None if found.track is None else found.track.at(time_s)
    return None if camera is None else camera.latitude


def test_each_kind_is_recognised_by_its_first_packet() -> None:
    for packet, expected in ((gpmf_payload(), 48.5), (KLV, 48.5), (SUBTITLE, 48.4146)):
        found = EmbeddedTelemetry(None, live=False)
        found.add(1, "", packet, 0.5, 1.0)
        assert latitude(found, 0.6) is not None
        assert abs((latitude(found, 0.6) or 0) - expected) < 1e-6
        assert found.unread == []


def test_subtitles_of_mp4_begin_with_their_length() -> None:
    packet = struct.pack(">H", len(SUBTITLE)) + SUBTITLE + b"\0\0\0\x0cencd\0\0\1\0"
    assert subtitle_text(packet) == SUBTITLE.decode()
    found = EmbeddedTelemetry(None, live=False)
    found.add(1, "", packet, 0.0, 1.0)
    assert latitude(found, 0.5) == 48.4146
    assert found.track is not None
    assert found.track.start() == datetime(2022, 6, 21, 16, 6, 17, tzinfo=UTC)


def test_an_unknown_track_is_named_once_and_read_no_more() -> None:
    found = EmbeddedTelemetry(None, live=False)
    for _ in range(3):
        found.add(1, "DJI meta", b"\x0a\x20\xff\xfe" * 20, 0.0, 0.0)
    assert found.track is None
    assert found.unread == ["a track ('DJI meta') holds no telemetry that is known; it was not read"]


def test_a_second_track_is_left_out_with_a_note() -> None:
    found = EmbeddedTelemetry(None, live=False)
    found.add(1, "", KLV, 0.0, 0.0)
    found.add(2, "", gpmf_payload(), 0.0, 1.0)
    assert found.track is not None
    assert found.track.kind == "MISB ST 0601"
    assert "second track" in found.track.warnings[-1].text


def test_of_a_live_stream_only_the_last_moments_are_kept() -> None:
    found = EmbeddedTelemetry(None, live=True)
    for number in range(3_000):
        found.add(1, "", KLV, number / 10, 0.0)
    assert found.track is not None
    assert len(found.track) <= 2_000
    assert latitude(found, 299.9) is not None
