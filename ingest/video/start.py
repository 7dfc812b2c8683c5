"""Decides when a video began, and by which clock."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from ingest.settings import VideoSettings
from ingest.video.decoding import VideoDecoder
from ingest.video.errors import VideoStartError
from ingest.video.options import VideoSource
from ingest.video.telemetry.track import TelemetryTrack
from schemas.events import ClockOrigin

_EARLIEST = datetime(1971, 1, 1, tzinfo=UTC)
_GIVE_START = "give the start (--start; for the edge client edge.video_start)"


@dataclass(frozen=True, slots=True)
class VideoStart:
    """Is the time of the first frame, and what says it."""

    moment: datetime
    origin: ClockOrigin
    warning: str | None = None
    """What was assumed"""


def start_of_recording(
    source: VideoSource, track: TelemetryTrack | None, metadata: dict[str, str], name: str
) -> VideoStart:
    """Return the start that ``source`` states, else that of the telemetry, else the container's creation time.

    Raises VideoStartError where none is known: the arrival here would give each reading other frames.
    """
    if source.start is not None:
        return VideoStart(source.start.astimezone(UTC), "option")
    by_telemetry = None if track is None else track.start()
    if by_telemetry is not None:
        return VideoStart(by_telemetry, "telemetry")
    created = _creation_time(metadata.get("creation_time", ""))
    if created is not None:
        text = (
            f"{name}: it began at {created.isoformat()} by its creation time, which some cameras write in local time; "
            f"{_GIVE_START} where that is wrong"
        )
        return VideoStart(created, "metadata", text)
    raise VideoStartError(
        f"{name}: neither telemetry nor the file says when it began, and its frames need a capture time that is the "
        f"same each time; {_GIVE_START}, as 2026-05-01T10:00:00Z"
    )


def start_of_stream(
    track: TelemetryTrack | None, decoder: VideoDecoder, settings: VideoSettings, now: datetime, name: str
) -> VideoStart:
    """Return the start of a camera's stream by telemetry or RTCP if that is near this machine's clock, else by arrival.

    ``now`` is used where not one frame has arrived yet.
    """
    arrival = decoder.arrival_start or now
    limit = timedelta(seconds=settings.max_clock_difference_s)
    warning = None
    candidates: tuple[tuple[datetime | None, ClockOrigin], ...] = (
        (None if track is None else track.start(), "telemetry"),
        (decoder.camera_start, "rtcp"),
    )
    for moment, origin in candidates:
        if moment is None:
            continue
        difference_s = (moment - arrival).total_seconds()
        if abs(difference_s) <= limit.total_seconds():
            return VideoStart(moment, origin, warning)
        warning = (
            f"{name}: the camera's clock ({origin}) differs by {difference_s:+.0f} s from this machine's, more than "
            "video.max_clock_difference_s allows; the arrival of frames was used"
        )
    return VideoStart(arrival, "arrival", warning)


def _creation_time(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    # Cameras without a clock write 1904 or 1970.
    return moment if moment >= _EARLIEST else None
