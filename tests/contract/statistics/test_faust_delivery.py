"""Faust counts each event and commits behind it: while it starts, beside other members, beside a frozen broker."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from functools import partial
from typing import Any
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient

from infra.broker.kafka.adapter import KafkaBroker
from infra.broker.port import OutRecord
from infra.deploy.kafka import KafkaServer
from schemas.events import DetectionsMade
from schemas.topics import DETECTIONS
from standgale.testing.factories import detections_made, out_record
from standgale.testing.waiting import until
from tests.contract.statistics.test_counting import TOPICS, FaustSite, is_right, windows_of
from tests.servers.kafka import kafka_settings

pytestmark = pytest.mark.integration

pytest.importorskip("faust")


@pytest.fixture
async def site(kafka_server: KafkaServer) -> AsyncIterator[FaustSite]:
    settings = kafka_settings(kafka_server)
    broker = KafkaBroker(settings, TOPICS)
    admin = await broker.admin()
    await admin.apply(list(TOPICS.values()))
    await admin.close()
    site = FaustSite(broker, settings)
    yield site
    await site.close()


async def count(site: FaustSite, events: list[DetectionsMade]) -> None:
    """Publish ``events``, and count until their windows are published."""
    await site.publish([out_record(event) for event in events])
    async with site.counting() as health:
        await until(partial(is_right, site, windows_of(events)), lambda: str(health.report()), timeout_s=60.0)


def many_devices(site: FaustSite, count: int) -> list[DetectionsMade]:
    """Return events of so many devices that every partition has some."""
    return [detections_made(number, device=f"{site.prefix}-{number % 40}") for number in range(count)]


async def test_events_that_wait_while_faust_starts_are_counted(
    site: FaustSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each step at the end of a start takes long here, so that events come in between."""
    from sinks.statistics.on_faust.counting import FaustCounting
    from sinks.statistics.on_faust.transport import FaustConsumer

    # Faust reads its table at a start only when it is not empty.
    await count(site, site.events(3))
    other = FaustSite(site.broker, site.settings)
    events = many_devices(other, 80)
    mark, seek, count_one = FaustCounting.mark_all, FaustConsumer.perform_seek, FaustCounting._count_one

    async def slow_mark(counting: FaustCounting) -> None:
        await other.publish([out_record(event) for event in events[40:]])
        await asyncio.sleep(2.0)
        await mark(counting)

    async def slow_seek(consumer: Any) -> None:
        await seek(consumer)
        await asyncio.sleep(1.0)

    async def slow_count(counting: FaustCounting, event: Any) -> Any:
        await asyncio.sleep(0.05)
        return await count_one(counting, event)

    monkeypatch.setattr(FaustCounting, "mark_all", slow_mark)
    monkeypatch.setattr(FaustConsumer, "perform_seek", slow_seek)
    monkeypatch.setattr(FaustCounting, "_count_one", slow_count)
    await other.publish([out_record(event) for event in events[:40]])
    async with other.counting() as health:
        await until(partial(is_right, other, windows_of(events)), lambda: str(health.report()), timeout_s=60.0)
    await other.close()


async def test_the_commit_follows_the_last_event_beyond_the_marks_of_transactions(
    site: FaustSite, kafka_server: KafkaServer
) -> None:
    events = [detections_made(number, device=site.prefix) for number in range(40)]
    producer = AIOKafkaProducer(bootstrap_servers=kafka_server.bootstrap_servers, transactional_id=uuid4().hex)
    await producer.start()
    for event in events:
        record = out_record(event)
        async with producer.transaction():
            await producer.send(DETECTIONS, record.value, record.key.encode(), headers=list(record.headers))
    await producer.stop()
    admin = await site.broker.admin()

    async def is_committed() -> bool:
        # The mark of the last transaction stays.
        lag = await admin.group_lag(site.group, (DETECTIONS,))
        return max(lag.values()) <= 1

    async with site.counting() as health:
        await until(partial(is_right, site, windows_of(events)), lambda: str(health.report()), timeout_s=60.0)
        await until(is_committed, "the commits do not follow", timeout_s=10.0)
    await admin.close()


async def test_two_members_share_the_partitions_and_one_takes_over(site: FaustSite, kafka_server: KafkaServer) -> None:
    events = many_devices(site, 120)
    parts = [events[:40], events[40:80], events[80:]]
    records = [[out_record(event) for event in part] for part in parts]

    async def is_shared() -> bool:
        members = await members_of(kafka_server, site.group)
        return len(members) == 2 and first.report().ready and second.report().ready

    async with site.counting() as first:
        await site.publish(records[0])
        await until(partial(is_right, site, windows_of(parts[0])), lambda: str(first.report()), timeout_s=60.0)
        async with site.counting() as second:
            await until(is_shared, lambda: f"{first.report()} {second.report()}", timeout_s=30.0)
            members = await members_of(kafka_server, site.group)
            await site.publish(records[1])
            right = windows_of(parts[0] + parts[1])
            await until(partial(is_right, site, right), lambda: f"{first.report()} {second.report()}", timeout_s=60.0)
            assert await members_of(kafka_server, site.group) == members
        await site.publish(records[2])
        await until(partial(is_right, site, windows_of(events)), lambda: str(first.report()), timeout_s=60.0)
        (left,) = await members_of(kafka_server, site.group)
        assert left in members
    assert await members_of(kafka_server, site.group) == set()


async def members_of(server: KafkaServer, group: str) -> set[str]:
    """Return the ids of the members of ``group``."""
    client = AIOKafkaAdminClient(bootstrap_servers=server.bootstrap_servers)
    await client.start()
    try:
        (response,) = await client.describe_consumer_groups([group])
    finally:
        await client.close()
    return {member[0] for member in response.groups[0][5]}


async def test_faust_stops_beside_a_frozen_broker_and_counts_on_at_the_next_start(
    site: FaustSite, kafka_server: KafkaServer
) -> None:
    events = site.events(60)
    records: list[OutRecord] = [out_record(event) for event in events]
    await site.publish(records[:30])
    async with site.counting() as health:
        await until(partial(is_right, site, windows_of(events[:30])), lambda: str(health.report()), timeout_s=60.0)
        await site.publish(records[30:50])
        kafka_server.freeze()
    kafka_server.thaw()
    await site.publish(records[50:])
    async with site.counting() as health:
        await until(partial(is_right, site, windows_of(events)), lambda: str(health.report()), timeout_s=60.0)
    await until(lambda: threading.active_count() == 1, "a thread of Faust goes on", timeout_s=30.0)
