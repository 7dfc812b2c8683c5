"""Reads one source from its opening to its end, as pictures with their times and the camera's position."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from ingest.settings import VideoSettings
from ingest.video.clock import LiveClock, RecordingClock
from ingest.video.counts import VideoCounts
from ingest.video.decoding import Decoded, VideoDecoder
from ingest.video.inputs.opened import OpenedVideo, Opener
from ingest.video.options import VideoSource, parse_address
from ingest.video.pictures import PictureMaker
from ingest.video.port import VideoFrame
from ingest.video.recording import require_end
from ingest.video.selection import FrameSelector
from ingest.video.start import start_of_recording, start_of_stream
from ingest.video.telemetry.embedded import EmbeddedTelemetry
from ingest.video.telemetry.srt import read_srt
from ingest.video.telemetry.track import TelemetryTrack
from schemas.events import ClockOrigin

logger = logging.getLogger(__name__)


def _no_lag() -> float:
    return 0.0


@dataclass(slots=True)
class SourceState:
    """Holds what goes on over reconnects of one source."""

    counts: VideoCounts = field(default_factory=VideoCounts)
    number: int = 0
    """Of the next frame"""
    began_at: datetime | None = None
    """The capture time of the first frame"""
    last_at: datetime | None = None
    """The capture time of the last frame"""
    accepted_at: datetime | None = None
    """The capture time of the last frame that is durable"""
    resume_after: datetime | None = None
    """Up to where a recording was accepted before, by another process too"""
    is_live: bool | None = None
    """Whether the source is a camera; None before it was opened"""
    warnings: list[str] = field(default_factory=list)
    """What is unknown or was assumed, each once"""
    lag_s: Callable[[], float] = _no_lag
    """How far behind the camera decoding is"""

    def warn(self, text: str) -> None:
        """Log ``text`` once for this source."""
        if text not in self.warnings and len(self.warnings) < 64:
            self.warnings.append(text)
            logger.warning("%s", text)


class SourceReader:
    """Reads a source in the thread that calls it; :meth:`close` may be called from any other."""

    def __init__(
        self,
        source: VideoSource,
        settings: VideoSettings,
        state: SourceState,
        *,
        opener: Opener | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Read ``source``; ``state`` is that of the reader before, after a reconnect."""
        self._source = source
        self._settings = settings
        self._state = state
        self._now = now
        self._opener = opener or Opener(settings)
        self._makers = PictureMaker(settings.jpeg_quality)
        self._is_first = True

    def close(self) -> None:
        """End a read that waits, and open nothing more."""
        self._opener.close()

    def frames(self) -> Iterator[VideoFrame]:
        """Yield the selected frames until the source ends.

        Raises the errors of :meth:`Opener.open`, and VideoError for a recording that ends early.
        """
        with self._opener.open(self._source) as opened:
            self._state.is_live = opened.is_live
            if not opened.is_live:
                # It is read from its begin, also where it was read before.
                self._state.number = 0
            yield from self._frames(opened)

    def _frames(self, opened: OpenedVideo) -> Iterator[VideoFrame]:
        source, state = self._source, self._state
        embedded = EmbeddedTelemetry(source.zone, live=opened.is_live)
        is_key_only = source.selection.mode == "key"
        decoder = VideoDecoder(opened, self._settings, state.counts, embedded, only_keys=is_key_only, now=self._now)
        side: TelemetryTrack | None = None
        try:
            side = None if opened.is_live else self._side_file()
            decoder.read_ahead()
            clock = self._clock(opened, decoder, side or embedded.track)
            selector = FrameSelector(source.selection)
            state.lag_s = decoder.lag_s
            for decoded in decoder.frames():
                frame = self._frame(decoded, selector, clock, side or embedded.track)
                if frame is not None:
                    yield frame
        finally:
            state.lag_s = _no_lag
            decoder.close()
            self._report(embedded, side)
        if not opened.is_live:
            require_end(decoder, opened.name)

    def _side_file(self) -> TelemetryTrack | None:
        """Return the telemetry of the SRT file that the source names, or that is beside the video."""
        path = self._source.telemetry or side_file(self._source.address)
        return None if path is None else read_srt(path, self._source.zone)

    def _clock(
        self, opened: OpenedVideo, decoder: VideoDecoder, track: TelemetryTrack | None
    ) -> RecordingClock | LiveClock:
        if not opened.is_live:
            start = start_of_recording(self._source, track, opened.container.metadata, opened.name)
        else:
            start = start_of_stream(track, decoder, self._settings, self._now(), opened.name)
        if start.warning:
            self._state.warn(start.warning)
        logger.info(
            "%s: its time 0 is %s, by %s",
            opened.name,
            start.moment.isoformat(),
            start.origin,
            extra={"source": self._source.name},
        )
        if not opened.is_live:
            return RecordingClock(start.moment, start.origin)
        return LiveClock(
            start.moment,
            start.origin,
            self._state.counts,
            tolerance_s=self._settings.clock_tolerance_s,
            max_difference_s=self._settings.max_clock_difference_s,
            not_before=self._state.last_at,
        )

    def _frame(
        self,
        decoded: Decoded,
        selector: FrameSelector,
        clock: RecordingClock | LiveClock,
        track: TelemetryTrack | None,
    ) -> VideoFrame | None:
        state, before = self._state, self._state.last_at
        # The clock sees every frame, also those that are not selected: it follows the camera's.
        captured_at = (
            clock.captured_at(decoded.time_s, decoded.arrived_at, decoded.camera_time)
            if isinstance(clock, LiveClock)
            else clock.captured_at(decoded.time_s)
        )
        if self._is_first and before and isinstance(clock, LiveClock):
            state.counts.away_s += round((captured_at - before).total_seconds())
        self._is_first = False
        number, state.number, state.last_at = state.number, state.number + 1, captured_at
        state.began_at = state.began_at or captured_at
        since_s = (captured_at - state.began_at).total_seconds() if isinstance(clock, LiveClock) else decoded.time_s
        if not selector.is_wanted(
            number, since_s, is_key=decoded.is_key, thumbnail=lambda: self._makers.thumbnail(decoded.picture)
        ):
            return None
        if isinstance(clock, RecordingClock) and state.resume_after is not None and captured_at <= state.resume_after:
            return None
        own = None if decoded.jpeg is None else self._makers.as_it_came(decoded.jpeg, decoded.picture)
        image, width, height = own or self._makers.jpeg(decoded.picture)
        return VideoFrame(
            image=image,
            width=width,
            height=height,
            number=number,
            source=self._source.name,
            presentation_time_s=round(max(0.0, since_s), 6),
            captured_at=captured_at,
            clock=_origin(clock),
            camera=None if track is None else track.at(decoded.time_s),
        )

    def _report(self, embedded: EmbeddedTelemetry, side: TelemetryTrack | None) -> None:
        name = self._source.name
        for track in (side, embedded.track):
            for warning in track.warnings if track is not None else ():
                self._state.warn(f"{name}: {warning.text}")
        for text in embedded.unread:
            self._state.warn(f"{name}: {text}")


def side_file(address: str) -> Path | None:
    """Return the SRT file beside the video at ``address``, with the same name; None where there is none."""
    path = parse_address(address)
    if not isinstance(path, Path):
        return None
    return next((found for suffix in (".srt", ".SRT", ".Srt") if (found := path.with_suffix(suffix)).is_file()), None)


def _origin(clock: RecordingClock | LiveClock) -> ClockOrigin:
    return clock.origin
