"""Checks that frames sent again are processed once: during a window's reading, on Kafka, after a growth."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from uuid import uuid4

import pytest

from detectors.settings import DetectorSettings
from infra.broker.embedded.adapter import EmbeddedBroker
from infra.broker.kafka.adapter import KafkaBroker
from infra.broker.port import InRecord, Reader, TopicPartition
from infra.deploy.kafka import KafkaServer
from schemas import topics
from schemas.topics import TopicSpec
from tests.benches.worker_site import TIMEOUT_S, WorkerWorld
from tests.servers.kafka import kafka_settings

pytestmark = pytest.mark.integration


class PausedReader:
    """Reads the end of the partition, and then waits before it reads the records."""

    def __init__(self, inner: Reader, paused: asyncio.Event, go_on: asyncio.Event) -> None:
        self._inner = inner
        self._paused = paused
        self._go_on = go_on

    async def bounds(self, topic: str) -> Mapping[int, tuple[int, int]]:
        found = await self._inner.bounds(topic)
        self._paused.set()
        await self._go_on.wait()
        return found

    async def read(self, source: TopicPartition, offset: int, *, max_records: int, timeout_s: float) -> list[InRecord]:
        return await self._inner.read(source, offset, max_records=max_records, timeout_s=timeout_s)

    async def close(self) -> None:
        await self._inner.close()


class PausingBroker(EmbeddedBroker):
    """Its readers wait while ``go_on`` is not set."""

    def __init__(self, *args: object) -> None:
        super().__init__(*args)  # type: ignore[arg-type]
        self.paused, self.go_on = asyncio.Event(), asyncio.Event()

    async def reader(self) -> Reader:
        return PausedReader(await super().reader(), self.paused, self.go_on)


async def all_committed(world: WorkerWorld) -> None:
    admin = await world.broker.admin()
    deadline = asyncio.get_running_loop().time() + TIMEOUT_S
    while sum((await admin.group_lag("detector", topics.FRAME_TOPICS)).values()):
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.05)
    await admin.close()


async def test_events_committed_while_window_is_read_are_in_it(world: WorkerWorld, tmp_path: Path) -> None:
    broker = PausingBroker(tmp_path / "broker.sqlite", world.topics)
    broker.go_on.set()
    frames = [await world.frame("drone", n) for n in range(40)]
    await world.publish(frames[0])
    async with world.working(world.parts(broker=broker, settings=DetectorSettings(prefetch_frames=64))):
        await world.until(world.answers, 1)
        broker.paused.clear()
        broker.go_on.clear()
        await world.publish(*frames[1:])
        await world.publish(await world.frame("drone", 99), topic=topics.FRAMES_BACKFILL)
        await asyncio.wait_for(broker.paused.wait(), TIMEOUT_S)
        # They are committed after the end of the partition was looked up, and before it is read up to there.
        await world.until(world.answers, 40)
        broker.go_on.set()
        await world.until(world.answers, 41)
        await world.publish(*frames)
        await all_committed(world)
    await broker.close()
    answers = Counter(answer.frame_id for answer in await world.answers())
    assert (len(answers), set(answers.values())) == (41, {1})


async def test_kafka_window_holds_duplicate_window_events(kafka_server: KafkaServer, tmp_path: Path) -> None:
    def kafka(declared: dict[str, TopicSpec]) -> KafkaBroker:
        return KafkaBroker(kafka_settings(kafka_server), declared)

    world = WorkerWorld(tmp_path, kafka)
    admin = await world.broker.admin()
    await admin.apply(list(world.topics.values()))
    await admin.close()
    before = len(await world.answers())
    device, count = f"drone-{uuid4().hex}", 6
    frames = [await world.frame(device, n) for n in range(count)]
    settings = DetectorSettings(duplicate_window=count, commit_interval_s=0.001)
    async with world.working(world.parts(settings=settings)):
        for number, frame in enumerate(frames):
            # One transaction each, and so one mark each.
            await world.publish(frame)
            await world.until(world.answers, before + number + 1)
    await world.publish(*frames, await world.frame(device, 99))
    async with world.working(world.parts(settings=settings)):
        await world.until(world.answers, before + count + 1)
    answers = Counter(answer.frame_id for answer in await world.answers() if answer.device_id == device)
    assert (len(answers), set(answers.values())) == (count + 1, {1})
    await world.close()
