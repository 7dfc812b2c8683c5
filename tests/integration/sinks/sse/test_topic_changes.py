"""The stream when its topic changes, on both brokers: created again, more partitions, and a leader that hangs."""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from infra.broker.event_records import event_record
from infra.broker.port import Broker, OutRecord
from infra.broker.settings import BrokerSettings
from infra.deploy.kafka import KafkaServer
from infra.failure.settings import RetrySettings
from infra.process.health import Health
from schemas.topics import DETECTIONS, TopicSpec
from sinks.sse import topic_follower
from sinks.sse.hub import DetectionHub
from standgale.testing.broker import BrokerHarness
from standgale.testing.waiting import until
from tests.harnesses.brokers import KafkaHarness, harness_of
from tests.harnesses.sse_topic import Page, connected, made, settings
from tests.servers.kafka import kafka_settings

pytestmark = pytest.mark.integration

DEVICES = [f"device-{number}" for number in range(6)]


@pytest.fixture
async def harness(broker_settings: BrokerSettings, tmp_path: Path) -> AsyncIterator[BrokerHarness]:
    harness = harness_of(broker_settings, tmp_path)
    if broker_settings.kind == "kafka":
        # Other tests use this name on this server too, with other partitions.
        await harness.remove(detections(harness))
    yield harness
    if broker_settings.kind == "kafka":
        await harness.remove(detections(harness))
    await harness.close()


def detections(harness: BrokerHarness, **changes: object) -> TopicSpec:
    return harness.topic(partitions=2).model_copy(update={"name": DETECTIONS, **changes})


async def publish(broker: Broker, *devices: str, frames: range) -> None:
    """Of each device the given frames, in order; their number is what the page sees as label."""
    records: list[OutRecord] = []
    for frame in frames:
        for device in devices:
            event = made(device, label=str(frame))
            records.append(
                event_record(
                    DETECTIONS, event, id=event.id, source="t", subject=None, time=event.detected_at, key=device
                )
            )
    publisher = await broker.publisher()
    await publisher.publish(records)
    await publisher.close()


@asynccontextmanager
async def running(broker: Broker, health: Health, grown_from: int | None = None) -> AsyncIterator[DetectionHub]:
    retry = RetrySettings(first_delay_s=0.05, max_delay_s=0.5)
    hub = DetectionHub(broker, settings(), retry, grown_from=grown_from)
    stop = asyncio.Event()
    task = asyncio.create_task(hub.run(stop, health.part("sse")))
    try:
        yield hub
    finally:
        stop.set()
        await task


def kinds(page: Page) -> list[str]:
    return [kind for kind, _, _ in page.events]


async def test_topic_created_again_sends_gap_and_all_events(harness: BrokerHarness) -> None:
    spec = detections(harness)
    broker = await harness.open(spec)
    health, page, late = Health(), Page(), Page()
    async with running(broker, health) as hub, connected(hub, page):
        await until(lambda: hub.started and page.last_id is not None)
        await publish(broker, "a", frames=range(3))
        await until(lambda: len(page.events) == 3)
        former = page.last_id
        await harness.remove(spec)
        await until(lambda: not health.report().ready)
        assert "topics apply" in str(health.report().parts["sse"])
        # Filled beyond where the former one was read.
        again = await harness.open(spec)
        await publish(again, "a", frames=range(6))
        await until(lambda: kinds(page)[3:] == ["gap"] + ["detections"] * 6)
        await until(lambda: health.report().ready)
        async with connected(hub, late, last_id=former):
            await until(lambda: kinds(late) == ["gap"] + ["detections"] * 6)
        assert late.last_id == page.last_id


async def test_clients_continue_after_topic_got_more_partitions(harness: BrokerHarness) -> None:
    spec = detections(harness)
    broker = await harness.open(spec)
    health, page = Health(), Page()
    async with running(broker, health) as hub:
        async with connected(hub, page):
            await until(lambda: hub.started and page.last_id is not None)
            await publish(broker, *DEVICES, frames=range(3))
            await until(lambda: len(page.events) == 3 * len(DEVICES))
        # Nobody reads what comes now before the process is started anew.
        await publish(broker, *DEVICES, frames=range(3, 5))
        grown = detections(harness, partitions=4, grown_from=2)
        grown_broker = harness.declare(grown)
        await (await grown_broker.admin()).apply([grown])
        await until(lambda: not health.report().ready)
        assert "More partitions" in str(health.report().parts["sse"])
    await publish(grown_broker, *DEVICES, frames=range(5, 9))
    health = Health()
    async with running(grown_broker, health, grown_from=2) as hub, connected(hub, page, last_id=page.last_id):
        await until(lambda: len(page.events) >= 9 * len(DEVICES))
        await until(lambda: health.report().ready)
    assert set(kinds(page)) == {"detections"}
    assert frames_of(page) == {device: list(range(9)) for device in DEVICES}


def frames_of(page: Page) -> dict[str, list[int]]:
    found: dict[str, list[int]] = defaultdict(list)
    for device, label in page.labels:
        found[device].append(int(label))
    return found


async def test_hanging_node_is_reported_and_stream_continues(
    kafka_server: KafkaServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(topic_follower, "_HANG_S", 3.0)
    harness = KafkaHarness(kafka_settings(kafka_server), tmp_path)
    spec = detections(harness)
    await harness.remove(spec)
    broker = await harness.open(spec)
    health, page = Health(), Page()
    async with running(broker, health) as hub, connected(hub, page):
        await until(lambda: hub.started and page.last_id is not None)
        kafka_server.freeze()
        try:
            await until(lambda: not health.report().ready)
            assert re.search("detections/[01]", str(health.report().parts["sse"]))
            assert health.report().live
        finally:
            kafka_server.thaw()
        await publish(broker, *DEVICES, frames=range(2))
        await until(lambda: len(page.events) == 2 * len(DEVICES))
        await until(lambda: health.report().ready)
    assert set(kinds(page)) == {"detections"}
    await harness.remove(spec)
    await harness.close()
