"""Serves the live stream in this process, and follows it as a page with an EventSource does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from infra.broker.embedded.adapter import EmbeddedBroker
from infra.broker.port import Publisher
from infra.encryption.box import SecretBox
from infra.process.health import Health
from infra.process.http_server import HttpComponent
from infra.storage.frames.port import FrameStore
from schemas.events import DetectionsMade
from schemas.topics import load_topics
from sinks.settings import SseSettings
from sinks.sse import STREAM_PATH, DetectionHub, create_sse_app
from sinks.sse.access.access import StreamAccess
from sinks.sse.access.ports import Keys, Owners
from sinks.sse.access.stream_tokens import StreamTokens
from standgale.testing.factories import out_record


@dataclass
class Page:
    """What an EventSource keeps; ``listen`` follows one connection until it ends or ``enough`` events are there."""

    events: list[tuple[str, DetectionsMade]] = field(default_factory=list)
    others: list[tuple[str, str]] = field(default_factory=list)
    comments: list[str] = field(default_factory=list)
    last_id: str | None = None
    live: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def numbers(self) -> list[int]:
        return [int(str(event.metadata["number"])) for _, event in self.events]

    async def listen(
        self, http: aiohttp.ClientSession, url: str, *, enough: int, params: Sequence[tuple[str, str]] = ()
    ) -> None:
        headers = {} if self.last_id is None else {"Last-Event-ID": self.last_id}
        async with http.get(url, headers=headers, params=params) as response:
            assert response.status == 200, await response.text()
            assert response.headers["content-type"].startswith("text/event-stream")
            fields: dict[str, str] = {}
            while len(self.events) < enough and (line := await response.content.readline()):
                text = line.decode().removesuffix("\n")
                if text:
                    name, _, value = text.partition(": ")
                    fields[name] = value
                else:
                    self._dispatch(fields)
                    fields = {}

    def _dispatch(self, fields: dict[str, str]) -> None:
        self.last_id = fields.get("id", self.last_id)
        if "" in fields:
            self.comments.append(fields[""])
        if self.last_id is not None:
            self.live.set()
        if fields.get("event") == "detections":
            self.events.append((self.last_id or "", DetectionsMade.from_bytes(fields["data"].encode())))
        elif "event" in fields:
            self.others.append((fields["event"], fields["data"]))


@dataclass
class Stream:
    """A stream served in this process."""

    url: str
    publisher: Publisher
    hub: DetectionHub
    http: aiohttp.ClientSession

    async def publish(self, *events: DetectionsMade) -> None:
        await self.publisher.publish([out_record(event) for event in events])


@asynccontextmanager
async def serving(
    folder: Path,
    keys: Keys | None = None,
    owners: Owners | None = None,
    store: FrameStore | None = None,
    **changes: object,
) -> AsyncIterator[Stream]:
    """Serve the stream of a new topic; with ``keys`` it has tokens, with a ``store`` pictures."""
    broker = EmbeddedBroker(folder / "broker.db", load_topics())
    settings = SseSettings.model_validate({"port": 0, "heartbeat_s": 0.2, **changes})
    hub = DetectionHub(broker, settings)
    tokens = None if keys is None else StreamTokens(SecretBox([bytes(32)]), settings.token_lifetime_s)
    app = create_sse_app(hub, settings, StreamAccess(settings, keys, owners, tokens), store)
    server = HttpComponent("http", app, host="127.0.0.1", port=0, drain_timeout_s=3)
    stop = asyncio.Event()
    health = Health()
    port = server.bind()
    tasks = [asyncio.create_task(part.run(stop, health.part(part.name))) for part in (hub, server)]
    publisher = await broker.publisher()
    connector = aiohttp.TCPConnector(limit=0)
    try:
        async with aiohttp.ClientSession(connector=connector, read_bufsize=2**22) as http:
            yield Stream(f"http://127.0.0.1:{port}{STREAM_PATH}", publisher, hub, http)
    finally:
        stop.set()
        await asyncio.gather(*tasks)
        await publisher.close()
        await broker.close()


async def started(hub: DetectionHub) -> None:
    for _ in range(1_000):
        if hub.started:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("the hub did not reach the broker within 10 s")


@asynccontextmanager
async def listening(
    stream: Stream, page: Page, enough: int, *params: tuple[str, str]
) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(page.listen(stream.http, stream.url, enough=enough, params=params))
    await asyncio.wait_for(page.live.wait(), 10)
    try:
        yield task
        await asyncio.wait_for(task, 20)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
