"""Checks which moment belongs to a frame, the start by the moments' times, and the limits of a track."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import pytest

from ingest.video.telemetry.pointing import direction_of
from ingest.video.telemetry.track import MAX_AGE_S, TelemetryTrack

START = datetime(2026, 5, 1, 10, tzinfo=UTC)


def latitude(track: TelemetryTrack, time_s: float) -> float | None:
    camera = track.at(time_s)
    return None if camera is None else camera.latitude


def test_the_last_moment_not_after_a_frame_counts() -> None:
    track = TelemetryTrack("x")
    for number in range(3):
        track.add(number * 0.5, {"latitude": float(number)})
    assert [latitude(track, time_s) for time_s in (-0.1, 0.0, 0.4996, 0.6, 1.2)] == [None, 0.0, 1.0, 1.0, 2.0]


def test_a_moment_ends_at_its_end_or_after_the_age() -> None:
    track = TelemetryTrack("x")
    track.add(0.0, {"latitude": 1.0}, until_s=0.5)
    track.add(5.0, {"latitude": 2.0})
    assert latitude(track, 0.55) == 1.0
    assert latitude(track, 0.7) is None
    assert latitude(track, 5 + MAX_AGE_S - 0.01) == 2.0
    assert latitude(track, 5 + MAX_AGE_S + 0.2) is None


def test_a_moment_that_goes_back_in_time_is_counted_and_left_out() -> None:
    track = TelemetryTrack("x")
    track.add(5.0, {"latitude": 1.0})
    track.add(4.0, {"latitude": 2.0})
    track.add(math.nan, {"latitude": 2.0})
    assert len(track) == 1
    assert "2 times" in track.warnings[0].text


@pytest.mark.parametrize(("keep", "kept"), [("first", 0.0), ("last", 99.0)])
def test_a_full_track_keeps_the_first_or_the_last_moments(keep: str, kept: float) -> None:
    track = TelemetryTrack("x", max_moments=10, keep=keep)
    for number in range(100):
        track.add(float(number), {"latitude": number / 2}, captured_at=START)
    assert len(track) <= 10
    assert latitude(track, kept) == kept / 2


def test_a_clock_that_differs_from_the_times_gives_a_warning() -> None:
    track = TelemetryTrack("x")
    track.add(1.0, {}, captured_at=START + timedelta(seconds=1))
    track.add(10.0, {}, captured_at=START + timedelta(seconds=15))
    assert track.start() == START
    assert "differ by +5.0 s at the end" in track.warnings[0].text


@pytest.mark.parametrize(
    ("aircraft", "camera", "pitch", "heading"),
    [
        ((90, 0, 0), (0, 0, 0), 0, 90),
        ((90, 0, 0), (0, -90, 0), -90, 90),
        ((350, 0, 0), (20, -30, 0), -30, 10),
        ((0, 10, 0), (0, -100, 0), -90, 0),
        ((45, 0, 30), (90, -60, 0), -90, 135),
    ],
)
def test_a_camera_on_a_turned_aircraft_looks_where_both_turn_it(
    aircraft: tuple[float, float, float], camera: tuple[float, float, float], pitch: float, heading: float
) -> None:
    found = direction_of(aircraft, camera)
    assert found == (pytest.approx(pitch, abs=1e-4), pytest.approx(heading, abs=1e-4))
