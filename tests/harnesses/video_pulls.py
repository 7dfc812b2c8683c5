"""Runs pulls of videos with an acceptor in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise

from infra.failure.settings import RetrySettings
from infra.network.addresses import Lookup, look_up
from infra.process.health import Health, HealthPart
from ingest.settings import VideoSettings
from ingest.video.options import VideoSource
from ingest.video.port import VideoFrame
from ingest.video.pull import VideoPull

RETRIES = RetrySettings(first_delay_s=0.01, max_delay_s=0.05)


def video_settings(**changes: object) -> VideoSettings:
    """Return settings with short time limits, which allow this machine."""
    values = {
        "networks": ["127.0.0.0/8"],
        "open_timeout_s": 8.0,
        "read_timeout_s": 2.0,
        "first_reconnect_s": 0.05,
        "max_reconnect_s": 0.2,
    }
    return VideoSettings.model_validate(values | changes)


class Collector:
    """Keeps frames; ``before`` is called with each one first, and may raise."""

    def __init__(self, before: Callable[[VideoFrame], None] | None = None, *, pause_s: float = 0.0) -> None:
        self.frames: list[VideoFrame] = []
        self._before = before
        self._pause_s = pause_s

    async def accept(self, frame: VideoFrame) -> None:
        """Keep ``frame``."""
        if self._before is not None:
            self._before(frame)
        if self._pause_s:
            await asyncio.sleep(self._pause_s)
        self.frames.append(frame)

    async def wait_for(self, count: int, timeout_s: float = 20.0) -> None:
        """Wait until there are ``count`` frames."""
        async with asyncio.timeout(timeout_s):
            while len(self.frames) < count:  # noqa: ASYNC110 (as a person would look)
                await asyncio.sleep(0.02)

    async def wait_until(self, is_there: Callable[[VideoFrame], bool], timeout_s: float = 20.0) -> None:
        """Wait until the last frame is one for which ``is_there`` is true."""
        async with asyncio.timeout(timeout_s):
            while not (self.frames and is_there(self.frames[-1])):  # noqa: ASYNC110 (as a person would look)
                await asyncio.sleep(0.02)

    def require_order(self) -> None:
        """Assert that numbers and times only grow."""
        for before, after in pairwise(self.frames):
            assert after.number > before.number
            assert after.captured_at > before.captured_at
            assert after.presentation_time_s >= before.presentation_time_s


class RunningPull:
    """Is a pull in the background."""

    def __init__(self, pull: VideoPull, collector: Collector, health: HealthPart) -> None:
        self.pull = pull
        self.collector = collector
        self.health = health
        self.stop = asyncio.Event()
        self.task = asyncio.create_task(pull.run(self.stop, health))


@asynccontextmanager
async def pulling(
    source: VideoSource,
    collector: Collector | None = None,
    *,
    settings: VideoSettings | None = None,
    lookup: Lookup = look_up,
) -> AsyncIterator[RunningPull]:
    """Pull ``source`` in the background until the end of the block; its error is raised there."""
    taken = collector or Collector()
    pull = VideoPull(source, taken, settings or video_settings(), RETRIES, lookup=lookup)
    running = RunningPull(pull, taken, Health().part("video"))
    try:
        yield running
    finally:
        running.stop.set()
        await asyncio.wait_for(running.task, 20.0)


async def pull_all(
    source: VideoSource, *, settings: VideoSettings | None = None, lookup: Lookup = look_up
) -> tuple[list[VideoFrame], VideoPull]:
    """Pull ``source`` to its end."""
    collector = Collector()
    pull = VideoPull(source, collector, settings or video_settings(), RETRIES, lookup=lookup)
    await asyncio.wait_for(pull.run(asyncio.Event(), Health().part("video")), 30.0)
    return collector.frames, pull
