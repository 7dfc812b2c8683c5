"""Runs a gateway over real HTTP on a real folder and a real broker, into which tests put faults."""

from __future__ import annotations

import asyncio
import io
import json
import socket
import struct
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
from fastapi import FastAPI
from PIL import Image
from starlette.routing import WebSocketRoute

from infra.broker.embedded.adapter import EmbeddedBroker
from infra.broker.port import Broker, InRecord, OutRecord, TopicPartition
from infra.errors import DatabaseUnavailableError
from infra.http_api.limits.slots import UploadSlots
from infra.http_api.versions import Deprecation
from infra.process.health import Health
from infra.process.http_server import WebSocketComponent
from infra.process.http_settings import HttpSettings
from infra.storage.frames.folder import FolderFrameStore
from infra.storage.frames.port import FrameStore
from infra.storage.originals.folder import FolderUploads
from infra.storage.originals.port import OriginalUploads
from ingest.acceptance.parts import LagLimit
from ingest.answers.answers import Answers
from ingest.flights.flight import Flights
from ingest.gateway import GatewayParts, create_gateway
from ingest.limits.settings import LimitsSettings
from ingest.readiness.broker_probe import BrokerProbe
from ingest.readiness.clock import GatewayClock
from ingest.readiness.outcomes import GatewayReadiness
from ingest.readiness.probe import DependencyProbe
from ingest.settings import GatewaySettings
from ingest.stream.settings import StreamSettings
from ingest.stream.streams import Streams
from schemas.topics import FRAMES_LIVE, load_topics

WHEN = "2026-01-31T12:00:00.000000Z"
TOKEN = "stg_good_0123456789abcdef"
OTHER_TOKEN = "stg_other_0123456789abcdef"
PATH = "/api/v1/frames"


def jpeg(width: int = 320, height: int = 272, seed: int = 1) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)).save(out, "JPEG")
    return out.getvalue()


FRAME = jpeg()


@dataclass(frozen=True)
class Device:
    holder_id: str
    scope: None = None


class Tokens:
    """Keeps the tokens of two devices in memory."""

    def __init__(self) -> None:
        self.known = {TOKEN: Device("drone-1"), OTHER_TOKEN: Device("drone-2")}
        self.unavailable = False

    def verify(self, token: str) -> Device | None:
        if self.unavailable:
            raise DatabaseUnavailableError("postgresql://secret-host does not respond")
        return self.known.get(token)

    async def look_up(self, token: str) -> None:
        """Find nothing new."""


class FaultyPublisher:
    """Publishes through the real publisher, or fails or hangs as a test sets."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.fault: Exception | None = None
        self.hang = False
        self.ahead_s: float | None = 0.0

    async def publish(self, records: Sequence[OutRecord]) -> None:
        if self.hang:
            await asyncio.sleep(60)
        if self.fault is not None:
            raise self.fault
        await self.inner.publish(records)

    def clock_ahead_s(self) -> float | None:
        return self.ahead_s

    async def close(self) -> None:
        await self.inner.close()


class HangingStore(FolderFrameStore):
    """Stores frames in a folder; ``put`` hangs while ``hang`` is set."""

    hang = False

    async def put(self, data: bytes, *, sha256: str, media_type: str) -> str:
        if self.hang:
            await asyncio.sleep(60)
        return await super().put(data, sha256=sha256, media_type=media_type)


@dataclass
class Gateway:
    """Holds a running gateway with its broker, store and tokens, and sends requests to it."""

    port: int
    frames: Path
    tokens: Tokens
    publisher: FaultyPublisher
    health: Health
    reader: Any
    client: aiohttp.ClientSession
    store: HangingStore
    broker: Broker
    answers: Answers
    streams: Streams
    uploads: UploadSlots
    settings: GatewaySettings = field(default_factory=GatewaySettings)
    originals: OriginalUploads | None = None
    app: FastAPI | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def send(
        self,
        data: Any = FRAME,
        *,
        token: str | None = TOKEN,
        params: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
        method: str = "POST",
        path: str = PATH,
    ) -> GatewayResponse:
        given = {"Content-Type": "image/jpeg"} if isinstance(data, bytes) else {}
        given |= {"X-API-Token": token} if token else {}
        given |= headers or {}
        query = {"captured_at": WHEN} if params is None else params
        async with self.client.request(method, self.url + path, data=data, params=query, headers=given) as response:
            return GatewayResponse(response.status, response.headers, await response.read())

    async def records(self, topic: str = FRAMES_LIVE) -> list[InRecord]:
        found: list[InRecord] = []
        for number, (first, following) in (await self.reader.bounds(topic)).items():
            if following > first:
                source = TopicPartition(topic, number)
                found += await self.reader.read(source, first, max_records=100, timeout_s=1.0)
        return found

    def stored(self) -> list[Path]:
        return [path for path in self.frames.rglob("*.*") if path.is_file()]

    async def raw(self, head: str, body: bytes = b"", *, path: str = PATH, query: str = f"?captured_at={WHEN}") -> Raw:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        text = f"POST {path}{query} HTTP/1.1\r\nHost: x\r\n{head}\r\n"
        writer.write(text.encode() + body)
        await writer.drain()
        return Raw(reader, writer)


@dataclass
class GatewayResponse:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Raw:
    """Sends and reads single bytes on one connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def read_response(self) -> GatewayResponse:
        head = (await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 10)).decode()
        status, *lines = head.strip().split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        body = await self.reader.readexactly(int(headers["content-length"]))
        return GatewayResponse(int(status.split()[1]), headers, body)

    def reset(self) -> None:
        """End the connection as a client that is gone; a close alone would only end the sending side."""
        sending = self.writer.get_extra_info("socket")
        sending.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def closed(self) -> bool:
        try:
            return await asyncio.wait_for(self.reader.read(1), 5) == b""
        except ConnectionResetError:
            return True


@asynccontextmanager
async def running(
    folder: Path,
    settings: GatewaySettings | None = None,
    *,
    ahead_s: float | None = 0.0,
    broker: Broker | None = None,
    probed: bool = False,
    port: int = 0,
    limits: LimitsSettings | None = None,
    lag: LagLimit | None = None,
    deprecated: Sequence[Deprecation] = (),
    http: HttpSettings | None = None,
    flights: Flights | None = None,
    stream: StreamSettings | None = None,
    originals: OriginalUploads | None = None,
    frames: FrameStore | None = None,
) -> AsyncIterator[Gateway]:
    """Run a gateway on the embedded broker in ``folder``, or on ``broker``, which it closes; ``probed`` adds probes."""
    settings = settings or GatewaySettings()
    store = HangingStore(folder / "frames")
    originals = originals or FolderUploads(folder / "frames")
    broker = broker or EmbeddedBroker(folder / "broker.db", load_topics())
    publisher, reader = FaultyPublisher(await broker.publisher()), await broker.reader()
    tokens, health = Tokens(), Health()
    publisher.ahead_s = ahead_s
    readiness, clock = GatewayReadiness.of(health, settings), GatewayClock(health.part("broker"))
    broker_probe = BrokerProbe(broker, clock)
    probes = [
        DependencyProbe("store", store.check, readiness.store, interval_s=settings.probe_interval_s),
        DependencyProbe("broker", broker_probe.check, readiness.broker, interval_s=settings.probe_interval_s),
    ]
    answers = Answers(broker.reader, load_topics(), settings)
    streams = Streams(broker.reader, load_topics()[FRAMES_LIVE].partitions, stream)
    parts = GatewayParts(
        settings,
        tokens,
        frames or store,
        publisher,
        answers=answers,
        limits=limits or LimitsSettings(),
        lag=lag,
        deprecated=deprecated,
        flights=flights,
        streams=streams,
        originals=originals,
        health=health,
        readiness=readiness,
        frame_partitions=load_topics()[FRAMES_LIVE].partitions,
        clock=clock,
        stream_url="http://stream/api/v1/detections/stream",
    )

    def end_long_requests() -> None:
        answers.stop_waiting()
        streams.stop()

    app = create_gateway(parts)
    [uploads] = [route.app._slots for route in app.routes if isinstance(route, WebSocketRoute)]
    component = WebSocketComponent("gateway", app, host="127.0.0.1", port=port, on_stop=end_long_requests, http=http)
    port = component.bind()
    stop = asyncio.Event()
    components = [component, *(probes if probed else ())]
    tasks = [asyncio.create_task(each.run(stop, health.part(each.name))) for each in components]
    try:
        async with aiohttp.ClientSession() as client:
            yield Gateway(
                port,
                folder / "frames",
                tokens,
                publisher,
                health,
                reader,
                client,
                store,
                broker,
                answers,
                streams,
                uploads,
                settings,
                originals,
                app,
            )
    finally:
        stop.set()
        await asyncio.gather(*tasks)
        await answers.close()
        await broker_probe.close()
        await publisher.close()
        await reader.close()
        await broker.close()
        for part in (store, frames, originals):
            if part is not None:
                await part.close()
