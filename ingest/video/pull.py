"""Reads a source until it ends or the process stops: connects again to cameras, and hands every frame to acceptance."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime

from infra.errors import RecordError
from infra.failure.backoff import Backoff
from infra.failure.retry import StoppedError, retry
from infra.failure.settings import RetrySettings
from infra.network.addresses import Lookup, look_up
from infra.process.health import HealthPart
from infra.waiting import wait_until_set
from ingest.settings import VideoSettings
from ingest.video.counts import VideoCounts
from ingest.video.errors import CameraLoginError, VideoError, VideoUnavailableError
from ingest.video.handover import Handover
from ingest.video.inputs.opened import Opener
from ingest.video.metrics import CountsExport
from ingest.video.options import VideoSource
from ingest.video.port import FrameAcceptor, VideoFrame
from ingest.video.reading import SourceReader, SourceState

logger = logging.getLogger(__name__)

# A connection that gave frames for so long begins again with the first pause.
_STABLE_S = 30.0
_REPORT_S = 60.0
_WARN_EVERY_S = 10.0
# How often a reason is logged that stays the same.
_REPORT_LOST_S = 600.0
# How long a thread may need to end: FFmpeg's decoder for one frame, and what the relay's closing does not end.
_THREAD_END_S = 10.0
# How often an HTTP address is tried that never gave anything: it may be a file that is not there.
_FIRST_TRIES = 5
# Beyond it the source gives nothing that can be accepted.
_MOST_REFUSED = 25


class VideoPull:
    """Pulls one source; ``run`` may be called once."""

    def __init__(
        self,
        source: VideoSource,
        acceptor: FrameAcceptor,
        settings: VideoSettings,
        retries: RetrySettings,
        *,
        lookup: Lookup = look_up,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        state: SourceState | None = None,
        renew: Callable[[], VideoSource] | None = None,
    ) -> None:
        """Give the frames of ``source`` to ``acceptor``; ``state`` is that of the pull before, where there was one.

        ``renew`` returns the source as it is now, for each connection and in a thread: its password may have changed.
        """
        self._source = source
        self._acceptor = acceptor
        self._settings = settings
        self._retries = retries
        self._lookup = lookup
        self._renew = renew
        self._now = now
        self.state = state or SourceState()
        self._metrics = CountsExport(source.name, self.state.counts)
        self._last_report = time.monotonic()
        self._refused_in_a_row = 0
        self._reported_skipped = self.counts.overflowed
        self._warn_again_at = 0.0
        self._said_lost: tuple[str, int] | None = None
        self._said_lost_at = 0.0
        self._decoded_before = self.counts.decoded

    @property
    def name(self) -> str:
        """The name in health reports and logs."""
        return f"video {self._source.name}"

    @property
    def counts(self) -> VideoCounts:
        """What became of the frames up to now."""
        return self.state.counts

    async def run(self, stop: asyncio.Event, health: HealthPart) -> None:
        """Return at the end of a recording, or when ``stop`` is set; a camera is connected to again and again.

        Raises the error that says why a recording or a source that was never reached cannot be read: settings, an
        address that is not allowed, no video. Frames that were accepted before it stay.
        """
        backoff = Backoff(
            RetrySettings(first_delay_s=self._settings.first_reconnect_s, max_delay_s=self._settings.max_reconnect_s)
        )
        failures = 0
        try:
            while not stop.is_set():
                began = time.monotonic()
                accepted = self.counts.accepted
                is_login = False
                try:
                    await self._run_once(stop, health)
                    if stop.is_set() or not self.state.is_live:
                        return
                    reason = "the camera ended the stream"
                except VideoUnavailableError as error:
                    if stop.is_set():
                        return
                    failures += 1
                    if not self._tries_again(failures):
                        raise
                    reason = str(error)
                    is_login = isinstance(error, CameraLoginError)
                except VideoError as error:
                    # A camera that gave frames before may begin with anything after it was switched on again.
                    if stop.is_set() or not self.state.is_live or not self.counts.accepted:
                        raise
                    reason = str(error)
                if self.counts.accepted > accepted and time.monotonic() - began > _STABLE_S:
                    backoff.reset()
                self._report_lost(reason, health)
                if is_login and not await self._wait_before_login(stop):
                    return
                if not await backoff.wait(stop):
                    return
                self.counts.reconnects += 1
        finally:
            self._metrics.update(self.counts, 0.0)
            if self.counts.decoded > self._decoded_before:
                logger.info("%s: %s", self.name, self.counts.text(), extra=self._extra())

    async def _wait_before_login(self, stop: asyncio.Event) -> bool:
        """Wait for the longest pause: many cameras lock an account after some tries with a wrong password."""
        return not await wait_until_set(stop, self._settings.max_reconnect_s)

    def _tries_again(self, failures: int) -> bool:
        """Whether what does not respond is a camera; of an address that never did, only RTSP says so."""
        if self.state.is_live is None:
            return self._source.address.lower().startswith("rtsp") or failures < _FIRST_TRIES
        return self.state.is_live

    async def _run_once(self, stop: asyncio.Event, health: HealthPart) -> None:
        """Read the source once, from its opening to its end."""
        if self._renew is not None:
            self._source = await asyncio.to_thread(self._renew)
        opener = Opener(self._settings, self._lookup)
        reader = SourceReader(self._source, self._settings, self.state, opener=opener, now=self._now)
        handover = Handover(reader.frames, self._settings.queue_frames)
        handover.start()
        stopped = asyncio.create_task(stop.wait())
        try:
            while not stop.is_set():
                frame = await self._next(handover, stopped, reader)
                if frame is None:
                    return
                await self._accept(frame, stop, health)
                self._report_progress()
        except StoppedError:
            return
        finally:
            stopped.cancel()
            with suppress(asyncio.CancelledError):
                await stopped
            reader.close()
            if not await handover.stop(_THREAD_END_S):
                logger.warning("%s: its thread has not ended after %g s", self.name, _THREAD_END_S, extra=self._extra())

    async def _next(self, handover: Handover, stopped: asyncio.Task[bool], reader: SourceReader) -> VideoFrame | None:
        """Return the next frame; None at the end or at a stop. A camera that gives none for too long is closed."""
        wanted = asyncio.create_task(handover.next())
        try:
            limit_s = self._stall_s() if self.state.is_live is not False else None
            await asyncio.wait({wanted, stopped}, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
            if wanted.done():
                return wanted.result()
            if stopped.done():
                return None
            # Data may come, but too slowly to ever become a frame.
            reader.close()
            raise VideoUnavailableError(f"{self.name}: no frame within {limit_s:g} s")
        finally:
            if not wanted.done():
                wanted.cancel()
                with suppress(asyncio.CancelledError):
                    await wanted

    def _stall_s(self) -> float:
        """Return how long a camera may give no frame; slow selections wait for theirs."""
        settings, selection = self._settings, self._source.selection
        slow_s = {"rate": 2 / selection.per_second, "nth": selection.every / 1.0, "key": 60.0, "scene": 3600.0}
        return settings.open_timeout_s + settings.read_timeout_s + slow_s.get(selection.mode, 0.0)

    async def _accept(self, frame: VideoFrame, stop: asyncio.Event, health: HealthPart) -> None:
        try:
            await retry(
                lambda: self._acceptor.accept(frame),
                policy=self._retries,
                stop=stop,
                health=health,
                what=f"accepting frames of {self._source.name}",
            )
        except RecordError as error:
            self.counts.refused += 1
            self._refused_in_a_row += 1
            if self._refused_in_a_row >= _MOST_REFUSED:
                raise
            self.state.warn(f"{self.name}: a frame was refused: {error}")
        else:
            self.counts.accepted += 1
            self.state.accepted_at = frame.captured_at
            self._refused_in_a_row = 0
            health.set_ready()

    def _report_lost(self, reason: str, health: HealthPart) -> None:
        health.set_not_ready(f"{self.name}: {reason}")
        # A camera that is off for days fails every half minute.
        said = (reason, self.counts.accepted)
        if said != self._said_lost or time.monotonic() - self._said_lost_at > _REPORT_LOST_S:
            self._said_lost, self._said_lost_at = said, time.monotonic()
            logger.warning("%s: %s; it is connected to again and again", self.name, reason, extra=self._extra())

    def _report_progress(self) -> None:
        self._metrics.update(self.counts, self.state.lag_s())
        self._report_skipped()
        if time.monotonic() - self._last_report < _REPORT_S:
            return
        self._last_report = time.monotonic()
        logger.info("%s: %s", self.name, self.counts.text(), extra=self._extra())

    def _report_skipped(self) -> None:
        """Warn of frames that were left out, at most each ten seconds."""
        skipped, now = self.counts.overflowed, time.monotonic()
        if skipped == self._reported_skipped or now < self._warn_again_at:
            return
        self._reported_skipped, self._warn_again_at = skipped, now + _WARN_EVERY_S
        logger.warning(
            "%s: decoding or acceptance is slower than the camera; %d frames that would have been more than "
            "video.max_lag_s (%g s) or video.max_lag_bytes late were left out up to now; choose fewer frames, give the "
            "machine more cores, or see what the frame store and the broker wait for",
            self.name,
            skipped,
            self._settings.max_lag_s,
            extra=self._extra(),
        )

    def _extra(self) -> dict[str, object]:
        return {"source": self._source.name, **asdict(self.counts)}
