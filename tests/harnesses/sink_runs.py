"""Runs a sink that writes into a list, on an embedded broker into which tests put faults."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from infra.broker.embedded.adapter import EmbeddedBroker
from infra.broker.port import (
    Broker,
    CommitPoint,
    Consumer,
    GroupSpec,
    InRecord,
    Loss,
    OutRecord,
    Reader,
    TopicPartition,
)
from infra.broker.reading import read_between
from infra.consuming.consumer_loop import SinkRunner
from infra.consuming.settings import BatchSettings
from infra.errors import PartitionLostError
from infra.failure.dead_letters import list_dead
from infra.failure.settings import RetrySettings
from infra.process.health import Health, HealthPart
from schemas.events import DeadLetter, FrameCaptured
from schemas.topics import FRAMES_LIVE, SINKS_DEAD, TopicSpec
from standgale.testing.factories import frame_captured
from standgale.testing.sink_site import ForwardingConsumer

NOW = datetime(2026, 11, 20, tzinfo=UTC)
RETRY = RetrySettings(first_delay_s=0.005, max_delay_s=0.02, record_attempts=3)
SINKS = BatchSettings(batch_wait_s=0.0)


def frame(number: int, device: str = "cam-1") -> FrameCaptured:
    return frame_captured(number, device=device, frame_id=UUID(int=number))


@dataclass
class ListSink:
    """Writes into a list; ``faults`` gets the frame numbers of each batch first and may raise."""

    name: str = "list"
    event: type[FrameCaptured] = FrameCaptured
    topics: tuple[str, ...] = (FRAMES_LIVE,)
    faults: Callable[[list[int]], None] = lambda numbers: None
    written: list[int] = field(default_factory=list)
    batches: list[list[int]] = field(default_factory=list)
    opened: int = 0
    closed: int = 0

    async def open(self) -> None:
        self.opened += 1

    async def write(self, events: Sequence[FrameCaptured]) -> None:
        numbers = [event.frame_id.int for event in events]
        self.batches.append(numbers)
        self.faults(numbers)
        self.written += numbers

    async def close(self) -> None:
        self.closed += 1


class FaultyConsumer(ForwardingConsumer):
    """Reads from the embedded broker, with the faults that a test puts in."""

    def __init__(self, inner: Consumer, broker: FaultyBroker) -> None:
        super().__init__(inner)
        self._broker = broker

    async def poll(self, **how: Any) -> list[InRecord]:
        self._broker.raise_fault("poll")
        return await super().poll(**how)

    async def commit(self, points: Mapping[TopicPartition, CommitPoint], outputs: Sequence[OutRecord] = ()) -> None:
        self._broker.raise_fault("commit")
        if any(source.partition in self._broker.lost for source in points):
            raise PartitionLostError("lost")
        if outputs:
            self._broker.raise_fault("letters")
        await super().commit(points, outputs)
        self._broker.commits.append(dict(points))
        self._broker.losses = [
            loss
            for loss in self._broker.losses
            if loss.source not in points or points[loss.source].next_offset < loss.end
        ]

    def assignment(self) -> Mapping[TopicPartition, int]:
        owned = super().assignment()
        self._broker.assigned = dict(owned)
        return {source: epoch for source, epoch in owned.items() if source.partition not in self._broker.hidden}

    def losses(self) -> Sequence[Loss]:
        return [*super().losses(), *self._broker.losses]

    async def lag(self) -> Mapping[TopicPartition, int]:
        self._broker.raise_fault("lag")
        if self._broker.lag_hangs:
            await asyncio.Event().wait()
        return await super().lag()


class FaultyBroker(EmbeddedBroker):
    """Adds faults to the embedded broker: errors per call, lost partitions that fail to commit, hidden partitions."""

    def __init__(self, path: Path, topics: Mapping[str, TopicSpec]) -> None:
        super().__init__(path, topics)
        self.faults: dict[str, list[Exception]] = {}
        self.lost: set[int] = set()
        self.hidden: set[int] = set()
        self.commits: list[dict[TopicPartition, CommitPoint]] = []
        self.losses: list[Loss] = []
        self.lag_hangs = False
        self.assigned: dict[TopicPartition, int] = {}

    def raise_fault(self, call: str) -> None:
        if self.faults.get(call):
            raise self.faults[call].pop(0)

    async def consumer(self, spec: GroupSpec) -> Consumer:
        self.raise_fault("consumer")
        return FaultyConsumer(await super().consumer(spec), self)


async def publish(broker: Broker, *records: OutRecord) -> None:
    publisher = await broker.publisher()
    await publisher.publish(records)
    await publisher.close()


async def lag(broker: FaultyBroker, sink: ListSink) -> int:
    admin = await broker.admin()
    found = await admin.group_lag(f"sink.{sink.name}", sink.topics)
    await admin.close()
    return sum(found.values())


async def records_of(reader: Reader, topic: str) -> list[InRecord]:
    """Return all records of ``topic``, one partition after the other."""
    found: list[InRecord] = []
    for partition, (first, end) in (await reader.bounds(topic)).items():
        found += [one async for one in read_between(reader, TopicPartition(topic, partition), first, end)]
    return found


async def dead(broker: Broker) -> list[DeadLetter]:
    reader = await broker.reader()
    letters = [letter async for letter in list_dead(reader, SINKS_DEAD)]
    await reader.close()
    return letters


@dataclass
class Running:
    stop: asyncio.Event
    part: HealthPart
    task: asyncio.Task[None]


@asynccontextmanager
async def running(
    broker: FaultyBroker, sink: ListSink, *, sinks: BatchSettings = SINKS, retry: RetrySettings = RETRY
) -> AsyncIterator[Running]:
    runner = SinkRunner(sink, broker, batches=sinks, retry=retry)
    stop, part = asyncio.Event(), Health().part(runner.name)
    task = asyncio.create_task(runner.run(stop, part))
    try:
        yield Running(stop, part, task)
    finally:
        stop.set()
        await asyncio.wait_for(task, 20)


async def until(condition: Callable[[], bool], run: Running | None = None) -> None:
    async with asyncio.timeout(20):
        while not condition():
            if run is not None and run.task.done():
                run.task.result()
                raise AssertionError("the runner ended")
            await asyncio.sleep(0.005)
