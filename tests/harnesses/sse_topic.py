"""Runs a hub with a topic and client pages in memory, for tests of the stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import NoReturn

import orjson

from infra.broker.port import Admin, Consumer, GroupSpec, InRecord, Publisher, TopicPartition, TopicState
from infra.errors import BrokerUnavailableError
from infra.failure.settings import RetrySettings
from infra.process.health import Health
from schemas.cloudevents import Attributes, to_headers
from schemas.events import DetectionsMade
from schemas.topics import DETECTIONS
from sinks.settings import SseSettings
from sinks.sse.filters import EVERYTHING, StreamFilter
from sinks.sse.hub import DetectionHub
from sinks.sse.session import Session
from standgale.testing.factories import detections_made

PARTITIONS = 3


def made(name: str, label: str = "car") -> DetectionsMade:
    return detections_made(device=name, labels=(label,))


class Topic:
    """Keeps a topic in memory, as broker and reader at once; offsets may have gaps, as in Kafka."""

    def __init__(self) -> None:
        self.records: list[list[InRecord]] = [[] for _ in range(PARTITIONS)]
        self.ends = [0] * PARTITIONS
        self.firsts = [0] * PARTITIONS
        self.unavailable = False
        self.incarnation = ""
        self.partitions = PARTITIONS
        self.hanging: set[int] = set()
        self.state_calls = 0
        self.reads = 0
        self._changed = asyncio.Event()

    def publish(self, partition: int, name: str, label: str = "car", value: bytes | None = None) -> None:
        event = made(name, label)
        headers = to_headers(
            Attributes(
                id=str(event.id), source="t", type=event.event_type(), time=event.detected_at, partition_key=name
            )
        )
        data = event.to_bytes() if value is None else value
        self.records[partition].append(InRecord(DETECTIONS, partition, self.ends[partition], 0, name, data, headers))
        self.ends[partition] += 1
        self.touch()

    def mark(self, partition: int) -> None:
        """Add a transaction marker, which uses an offset and is no record."""
        self.ends[partition] += 1
        self.touch()

    def drop_before(self, partition: int, before: int) -> None:
        self.firsts[partition] = before
        self.records[partition] = [record for record in self.records[partition] if record.offset >= before]

    def touch(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _check(self) -> None:
        if self.unavailable:
            raise BrokerUnavailableError("the broker is unavailable")

    async def state(self, topic: str) -> TopicState:
        assert topic == DETECTIONS
        self.state_calls += 1
        self._check()
        return TopicState(self.partitions, self.incarnation)

    async def bounds(self, topic: str, partitions: Collection[int] | None = None) -> Mapping[int, tuple[int, int]]:
        assert topic == DETECTIONS
        self._check()
        wanted = range(PARTITIONS) if partitions is None else partitions
        if not self.hanging.isdisjoint(wanted):
            await asyncio.Event().wait()
        return {number: (self.firsts[number], self.ends[number]) for number in wanted}

    def recreate(self, incarnation: str, *names: str) -> None:
        """Delete the topic and create it again, with one event of each of ``names`` in the first partition."""
        self.records = [[] for _ in range(PARTITIONS)]
        self.ends = [0] * PARTITIONS
        self.firsts = [0] * PARTITIONS
        self.incarnation = incarnation
        for name in names:
            self.publish(0, name)

    async def read(self, source: TopicPartition, offset: int, *, max_records: int, timeout_s: float) -> list[InRecord]:
        self.reads += 1
        deadline = asyncio.get_running_loop().time() + timeout_s / 20
        while True:
            self._check()
            if source.partition in self.hanging:
                await asyncio.Event().wait()
            found = [record for record in self.records[source.partition] if record.offset >= offset][:max_records]
            if found:
                await asyncio.sleep(0)
                return found
            try:
                async with asyncio.timeout_at(deadline):
                    await self._changed.wait()
            except TimeoutError:
                return []

    async def reader(self) -> Topic:
        self._check()
        return self

    async def close(self) -> None:
        pass

    async def publisher(self) -> Publisher:
        return _unused()

    async def consumer(self, spec: GroupSpec) -> Consumer:
        return _unused(spec.group)

    async def admin(self) -> Admin:
        return _unused()


def _unused(what: str = "") -> NoReturn:
    raise AssertionError(f"the stream only reads {what}")


class CutError(Exception):
    """Raised when the client's connection breaks."""


@dataclass
class Page:
    """Keeps what a browser's EventSource keeps; the connection breaks after ``cut_after`` events."""

    cut_after: int = 1_000_000
    last_id: str | None = None
    events: list[tuple[str, str, bytes]] = field(default_factory=list)
    comments: list[str] = field(default_factory=list)
    gate: asyncio.Event | None = None
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    pieces: list[bytes] = field(default_factory=list)

    async def write(self, data: bytes) -> None:
        if self.gate is not None:
            await self.gate.wait()
        self._take(data)
        await asyncio.sleep(0)

    def write_piece(self, piece: bytes) -> bool:
        """Take a piece at once, as the server of a page does that has read everything."""
        if self.gate is not None and not self.gate.is_set():
            return False
        size, _, rest = piece.partition(b"\r\n")
        assert rest.endswith(b"\r\n")
        assert len(rest) == int(size, 16) + 2
        self._take(rest[:-2])
        self.pieces.append(piece)
        return True

    def _take(self, data: bytes) -> None:
        assert data.endswith(b"\n\n")
        for block in data.decode().removesuffix("\n\n").split("\n\n"):
            self._block(block.split("\n"))
        self.changed.set()

    def _block(self, lines: list[str]) -> None:
        fields: dict[str, str] = {}
        for line in lines:
            name, _, value = line.partition(": ")
            if name:
                fields[name] = value
            else:
                self.comments.append(value)
        self.last_id = fields.get("id", self.last_id)
        if "data" in fields:
            assert self.last_id is not None
            self.events.append((fields["event"], self.last_id, fields["data"].encode()))
            if len(self.events) >= self.cut_after:
                raise CutError

    @property
    def names(self) -> list[str]:
        return [orjson.loads(data)["device_id"] for name, _, data in self.events if name == "detections"]

    @property
    def labels(self) -> list[tuple[str, str]]:
        """The device and the first label of each event."""
        found = [orjson.loads(data) for name, _, data in self.events if name == "detections"]
        return [(event["device_id"], event["detections"][0]["label"]) for event in found]

    async def until(self, count: int) -> None:
        async with asyncio.timeout(10):
            while len(self.events) < count:
                self.changed.clear()
                await self.changed.wait()


def settings(**changes: float) -> SseSettings:
    return SseSettings.model_validate(
        {"flush_interval_s": 0.002, "heartbeat_s": 30.0, "replay_events": 1000, **changes}
    )


@asynccontextmanager
async def running(
    topic: Topic, health: Health | None = None, grown_from: int | None = None, **changes: float
) -> AsyncIterator[DetectionHub]:
    retry = RetrySettings(first_delay_s=0.01, max_delay_s=0.02)
    hub = DetectionHub(topic, settings(**changes), retry, grown_from=grown_from)
    stop = asyncio.Event()
    task = asyncio.create_task(hub.run(stop, (health or Health()).part("sse")))
    try:
        yield hub
    finally:
        stop.set()
        await task


@asynccontextmanager
async def broker_unavailable(topic: Topic) -> AsyncIterator[None]:
    """Make the broker unavailable inside the block, after its readers have noticed it."""
    topic.unavailable = True
    topic.touch()
    await asyncio.sleep(0.02)
    yield
    topic.unavailable = False


@asynccontextmanager
async def connected(
    hub: DetectionHub,
    page: Page,
    wanted: StreamFilter = EVERYTHING,
    last_id: str | None = None,
    *,
    directly: bool = False,
) -> AsyncIterator[asyncio.Task[None]]:
    """Connect a page; ``directly``: its server can write at once."""
    session = Session(hub, wanted, last_id, page.write_piece if directly else None)
    with hub.client(session) as client:
        client.writer = task = asyncio.create_task(session.run(page.write))
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def until(true: Callable[[], bool]) -> None:
    for _ in range(1_000):
        if true():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("the condition did not become true within 5 s")


async def started(page: Page) -> None:
    async with asyncio.timeout(5):
        while page.last_id is None:
            page.changed.clear()
            await page.changed.wait()
