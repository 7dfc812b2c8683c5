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
from tests.harnesses.worker_site import TIMEOUT_S, WorkerSite
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


async def all_committed(site: WorkerSite) -> None:
    admin = await site.broker.admin()
    deadline = asyncio.get_running_loop().time() + TIMEOUT_S
    while sum((await admin.group_lag("detector", topics.FRAME_TOPICS)).values()):
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.05)
    await admin.close()


async def test_events_committed_while_window_is_read_are_in_it(site: WorkerSite, tmp_path: Path) -> None:
    broker = PausingBroker(tmp_path / "broker.sqlite", site.topics)
    broker.go_on.set()
    frames = [await site.frame("drone", n) for n in range(40)]
    await site.publish(frames[0])
    async with site.run_workers(site.parts(broker=broker, settings=DetectorSettings(prefetch_frames=64))):
        await site.wait_for(site.detections, 1)
        broker.paused.clear()
        broker.go_on.clear()
        await site.publish(*frames[1:])
        await site.publish(await site.frame("drone", 99), topic=topics.FRAMES_BACKFILL)
        await asyncio.wait_for(broker.paused.wait(), TIMEOUT_S)
        # They are committed after the end of the partition was looked up, and before it is read up to there.
        await site.wait_for(site.detections, 40)
        broker.go_on.set()
        await site.wait_for(site.detections, 41)
        await site.publish(*frames)
        await all_committed(site)
    await broker.close()
    events = Counter(event.frame_id for event in await site.detections())
    assert (len(events), set(events.values())) == (41, {1})


async def test_kafka_window_holds_duplicate_window_events(kafka_server: KafkaServer, tmp_path: Path) -> None:
    def kafka(declared: dict[str, TopicSpec]) -> KafkaBroker:
        return KafkaBroker(kafka_settings(kafka_server), declared)

    site = WorkerSite(tmp_path, kafka)
    admin = await site.broker.admin()
    await admin.apply(list(site.topics.values()))
    await admin.close()
    before = len(await site.detections())
    device, count = f"drone-{uuid4().hex}", 6
    frames = [await site.frame(device, n) for n in range(count)]
    settings = DetectorSettings(duplicate_window=count, commit_interval_s=0.001)
    async with site.run_workers(site.parts(settings=settings)):
        for number, frame in enumerate(frames):
            # One transaction each, and so one mark each.
            await site.publish(frame)
            await site.wait_for(site.detections, before + number + 1)
    await site.publish(*frames, await site.frame(device, 99))
    async with site.run_workers(site.parts(settings=settings)):
        await site.wait_for(site.detections, before + count + 1)
    events = Counter(event.frame_id for event in await site.detections() if event.device_id == device)
    assert (len(events), set(events.values())) == (count + 1, {1})
    await site.close()
