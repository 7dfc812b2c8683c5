"""Brings the frames of a video or a camera to the spool, with their capture times."""

from __future__ import annotations

import asyncio
import logging
import time

from infra.errors import SettingsError
from infra.failure.settings import RetrySettings
from infra.process.health import HealthPart
from ingest.edge.port import NewFrame, Spooling, SpoolUnavailableError, Taken
from ingest.edge.settings import EdgeSettings
from ingest.settings import VideoSettings
from ingest.video.errors import VideoError, VideoUnavailableError
from ingest.video.inputs.opened import require_library
from ingest.video.options import Selection, VideoSource, parse_address
from ingest.video.port import VideoFrame
from ingest.video.pull import VideoPull

logger = logging.getLogger(__name__)

_SILENCE_S = 60.0


class VideoFrames:
    """Is the source of ``edge.video``; it ends at the end of a recording, and with a camera only at the stop.

    When the spool is full by ``stop``, a recording waits, and a camera's frames wait as long as ``video.max_lag_s`` and
    ``video.max_lag_bytes`` allow; what is left out then is counted and logged by the reader.
    """

    def __init__(self, settings: EdgeSettings, video: VideoSettings) -> None:
        """Raise SettingsError for an address that is none, and where PyAV is not installed."""
        require_library()
        assert settings.video is not None
        address = settings.video.get_secret_value()
        self._name = str(parse_address(address))
        selection = Selection(settings.video_mode, settings.video_every, settings.video_per_second)
        source = VideoSource(
            self._name, address, selection, transport=settings.video_transport, start=settings.video_start
        )
        retries = RetrySettings(first_delay_s=settings.first_delay_s, max_delay_s=1.0)
        self._pull = VideoPull(source, self, video, retries)
        self._health = HealthPart(self._pull.name, silence_s=_SILENCE_S, clock=time.monotonic, is_exported=False)
        self._spool: Spooling | None = None
        self._failure: str | None = None

    @property
    def name(self) -> str:
        """The name in logs and in the status, without a password."""
        return self._name

    @property
    def problem(self) -> str | None:
        """What keeps it from bringing frames now, and what was left out."""
        if self._failure is not None or not self._pull.counts.accepted:
            return self._failure or (None if self._spool is None else self._health.reason)
        skipped = self._pull.counts.overflowed
        lost = (
            f"{self._name}: {skipped} frames were left out, because the spool was full or too slow" if skipped else None
        )
        return self._health.reason or lost

    async def run(self, spool: Spooling, stop: asyncio.Event) -> None:
        """Bring frames until the recording ends or ``stop`` is set."""
        self._spool = spool
        try:
            await self._pull.run(stop, self._health)
        except (SettingsError, VideoError, VideoUnavailableError) as error:
            self._failure = str(error)
            logger.error("%s; frames in the spool are sent all the same", error)

    async def accept(self, frame: VideoFrame) -> None:
        """Return when ``frame`` is in the spool, or lost by ``edge.when_full``. Raises SpoolUnavailableError."""
        assert self._spool is not None
        new = NewFrame(
            frame.image,
            frame.captured_at,
            f"{frame.number:08d}.jpg",
            {} if frame.camera is None else frame.camera.model_dump(exclude_none=True),
            {"video": frame.position.model_dump()},
            is_late=frame.clock not in ("rtcp", "arrival"),
        )
        if await self._spool.add(new) is Taken.FULL:
            await self._spool.wait_for_space()
            raise SpoolUnavailableError("the spool has no room (edge.max_bytes, edge.max_frames, edge.min_free_bytes)")
