"""Checks when a recording began: option, telemetry, creation time, in this order, and never the arrival."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from ingest.video.errors import VideoStartError
from ingest.video.options import VideoSource
from ingest.video.start import start_of_recording
from ingest.video.telemetry.track import TelemetryTrack

MOMENT = datetime(2026, 5, 1, 10, tzinfo=UTC)
CREATED = {"creation_time": "2026-05-01T11:00:00.000000Z"}


def with_time() -> TelemetryTrack:
    track = TelemetryTrack("SRT")
    track.add(1.0, {}, captured_at=MOMENT + timedelta(seconds=1))
    return track


def test_the_option_wins_over_telemetry_and_creation_time() -> None:
    local = datetime(2026, 5, 1, 14, tzinfo=timezone(timedelta(hours=2)))
    found = start_of_recording(VideoSource("a", "a.mp4", start=local), with_time(), CREATED, "a.mp4")
    assert (found.moment, found.origin) == (datetime(2026, 5, 1, 12, tzinfo=UTC), "option")


def test_telemetry_wins_over_the_creation_time() -> None:
    found = start_of_recording(VideoSource("a", "a.mp4"), with_time(), CREATED, "a.mp4")
    assert (found.moment, found.origin, found.warning) == (MOMENT, "telemetry", None)


def test_the_creation_time_is_used_with_a_warning() -> None:
    found = start_of_recording(VideoSource("a", "a.mp4"), TelemetryTrack("SRT"), CREATED, "a.mp4")
    assert found.origin == "metadata"
    assert "some cameras write in local time" in (found.warning or "")


@pytest.mark.parametrize("text", ["", "1904-01-01T00:00:00Z", "1970-01-01T00:00:00Z", "yesterday"])
def test_without_a_start_the_recording_is_refused(text: str) -> None:
    with pytest.raises(VideoStartError, match=r"give the start \(--start; .*edge\.video_start\), as 2026-05-01"):
        start_of_recording(VideoSource("a", "a.mp4"), None, {"creation_time": text}, "a.mp4")
