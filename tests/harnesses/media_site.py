"""Runs media over real HTTP and a real database; detectors of the test answer what is published."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from console.media.frames import KeptMedia
from console.media.publisher import MediaPublisher
from console.media.runner import MediaRunner
from console.media.settings import MediaSettings
from console.media.tokens import MediaTokens
from console.settings import ConsoleSettings
from infra.broker.port import OutRecord
from infra.database.pool import Database
from infra.encryption.box import SecretBox
from infra.failure.settings import RetrySettings
from infra.process.components import Component
from infra.process.health import Health
from ingest.settings import VideoSettings
from schemas.cloudevents import decode
from schemas.events import FrameCaptured
from sinks.postgres.jobs import JobFailures
from sinks.postgres.sink import PostgresSink
from tests.harnesses.job_site import Published, answer_of, letter_of
from tests.servers.console import RunningConsole, running_console
from tests.videos import steady, write_video

RETRY = RetrySettings(first_delay_s=0.05, max_delay_s=0.2)
BOX = SecretBox([bytes(32)])


def token_until(expires: float) -> str:
    """A JSON web token that expires then; nobody can check its signature."""
    claims = base64.urlsafe_b64encode(json.dumps({"exp": expires}).encode()).decode().rstrip("=")
    return f"e30.{claims}.c2ln"


def video(folder: Path, frames: int = 6, rate: float = 25.0) -> bytes:
    """A small MP4."""
    return write_video(folder / "made.mp4", steady(frames, rate), size=(160, 120)).read_bytes()


class Detectors(Published):
    """Answers each frame soon after it is published, unless ``paused``; frames of ``error`` fail."""

    def __init__(self, database: Database) -> None:
        super().__init__()
        self.paused = False
        self.failing: Exception | None = None
        self._sink, self._failures = PostgresSink(database), JobFailures(database)
        self._tasks: set[asyncio.Task[None]] = set()

    async def publish(self, records: Sequence[OutRecord]) -> None:
        await super().publish(records)
        if not self.paused:
            task = asyncio.create_task(self.answer(records))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def answer(self, records: Sequence[OutRecord] = ()) -> None:
        """Answer ``records``, or all that were published."""
        frames = [decode(record.headers, record.value, FrameCaptured) for record in records or self.records]
        if self.failing is not None:
            await self._failures.write([letter_of(frame, self.failing) for frame in frames])
        else:
            await self._sink.write([answer_of(frame) for frame in frames])

    @property
    def frames(self) -> list[FrameCaptured]:
        return [decode(record.headers, record.value, FrameCaptured) for record in self.records]


@dataclass
class MediaSite:
    """A console, and the components that work on media."""

    console: RunningConsole
    settings: MediaSettings
    detectors: Detectors
    video: VideoSettings = field(default_factory=VideoSettings)
    window: int = 16

    def runner(self, lease_s: float = 30.0) -> MediaRunner:
        kept = KeptMedia(self.console.store, ConsoleSettings(job_window=self.window), self.video)
        return MediaRunner(self.console.database, kept, BOX, self.settings, RETRY, lease_s=lease_s)

    def components(self) -> list[Component]:
        database = self.console.database
        return [
            self.runner(),
            MediaPublisher(database, self.detectors, ConsoleSettings(), RETRY),
            MediaTokens(database, BOX, self.settings, RETRY),
        ]

    async def start(self, media_id: str, data: bytes | None = None, **options: Any) -> Any:
        """Ask for a medium, with its bytes or without."""
        headers = dict(options.pop("headers", {}))
        if data is not None:
            headers.setdefault("Content-Type", "video/mp4")
        return await self.console.post(f"/detect/{media_id}", data=data, headers=headers, **options)

    async def events(self, media_id: str, **options: Any) -> list[dict[str, Any]]:
        """All events of a medium, up to its last one."""
        return [event async for _, event in self.stream(f"/detect/{media_id}/stream", **options)]

    async def stream(self, path: str, headers: Any = None) -> AsyncIterator[tuple[str, dict[str, Any]]]:
        """The ids and events of a stream."""
        given = {"X-API-Key": self.console.key, **(headers or {})}
        async with asyncio.timeout(30), self.console.http.get(self.console.url + path, headers=given) as response:
            assert response.status == 200, await response.text()
            assert response.headers["Content-Type"].startswith("text/event-stream")
            async for event in read_events(response):
                yield event

    async def rows(self, query: str, *values: object) -> list[dict[str, Any]]:
        async with self.console.database.acquire() as connection:
            return [dict(row) for row in await connection.fetch(query, *values)]


async def _lines(response: aiohttp.ClientResponse) -> AsyncIterator[str]:
    buffer = b""
    async for piece in response.content.iter_any():
        *whole, buffer = (buffer + piece).split(b"\n")
        for line in whole:
            yield line.decode()


async def read_events(response: aiohttp.ClientResponse) -> AsyncIterator[tuple[str, dict[str, Any]]]:
    """The ids and events in a response."""
    event_id = ""
    async for line in _lines(response):
        name, _, value = line.partition(": ")
        if name == "id":
            event_id = value
        elif name == "data":
            yield event_id, json.loads(value)


@asynccontextmanager
async def running(*components: Component) -> AsyncIterator[None]:
    """Run ``components`` during the block."""
    stop, health = asyncio.Event(), Health()
    tasks = [asyncio.create_task(each.run(stop, health.part(each.name))) for each in components]
    try:
        yield
    finally:
        stop.set()
        await asyncio.gather(*tasks)


@asynccontextmanager
async def media_site(folder: Path, database: Database, **settings: Any) -> AsyncIterator[MediaSite]:
    """Run a console; its components run inside :func:`running` only."""
    chosen = MediaSettings(**{"watch_interval_s": 0.1, **settings})
    async with running_console(folder, database, media=chosen) as console:
        yield MediaSite(console, chosen, Detectors(database))
