"""K8: both ways to count give the same windows, those of the topic, after stops and with late events."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from aiokafka import AIOKafkaProducer

from infra.broker.embedded.adapter import EmbeddedBroker
from infra.broker.kafka.adapter import KafkaBroker
from infra.broker.port import Broker, OutRecord
from infra.broker.settings import BrokerSettings
from infra.consuming.consumer_loop import SinkRunner
from infra.consuming.settings import BatchSettings
from infra.database.embedded import EmbeddedPostgres
from infra.database.migrate import migrate_up
from infra.database.pool import Database
from infra.database.settings import DatabaseSettings
from infra.failure.dead_letters import list_dead
from infra.failure.settings import RetrySettings
from infra.process.components import Component
from infra.process.health import Health
from schemas.events import DetectionsMade
from schemas.statistics_events import StatisticsCounted
from schemas.topics import DETECTIONS, SINKS_DEAD, load_topics
from sinks.statistics.counter import StatisticsCounter
from sinks.statistics.counts import count_events
from sinks.statistics.publisher import StatisticsPublisher
from sinks.statistics.report import statistics_event
from sinks.statistics.settings import StatisticsSettings
from standgale.testing.factories import detections_made, out_record
from standgale.testing.waiting import until
from tests.harnesses.published_windows import PublishedWindows

pytestmark = pytest.mark.integration

RETRY = RetrySettings(first_delay_s=0.01, max_delay_s=0.1)
SETTINGS = StatisticsSettings(publish_s=0.1)
TOPICS = load_topics()


class Site:
    """A broker, and one way to count what is on it."""

    group = "sink.statistics"

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self._published: PublishedWindows | None = None
        # Topics of Kafka are those of all tests.
        self.prefix = f"drone-{uuid4().hex[:8]}"

    async def parts(self) -> Sequence[Component]:
        raise NotImplementedError

    @asynccontextmanager
    async def counting(self) -> AsyncIterator[Health]:
        """Count while the block runs."""
        stop, health = asyncio.Event(), Health()
        tasks = [asyncio.create_task(part.run(stop, health.part(part.name))) for part in await self.parts()]
        try:
            yield health
        finally:
            stop.set()
            await asyncio.wait_for(asyncio.gather(*tasks), 30.0)

    async def publish(self, records: Sequence[OutRecord]) -> None:
        publisher = await self.broker.publisher()
        await publisher.publish(records)
        await publisher.close()

    async def publish_aborted(self, records: Sequence[OutRecord]) -> None:
        """Publish records in a transaction that is aborted, where the broker has such."""

    async def published(self) -> dict[UUID, StatisticsCounted]:
        """Return the largest revision of each window of this test."""
        if self._published is None:
            self._published = PublishedWindows(await self.broker.reader(), self.prefix)
        return await self._published.read()

    async def close(self) -> None:
        """Close what reads the windows, and the broker."""
        if self._published is not None:
            await self._published.close()
        await self.broker.close()

    def events(self, count: int) -> list[DetectionsMade]:
        labels = ("car", "boat", "bird")
        return [
            detections_made(number, device=f"{self.prefix}-{number % 3}", labels=labels[: number % 4])
            for number in range(count)
        ]


class PlainSite(Site):
    """The embedded broker, with the state in a database."""

    def __init__(self, broker: Broker, database: Database) -> None:
        super().__init__(broker)
        self._database = database

    async def parts(self) -> Sequence[Component]:
        publisher = await self.broker.publisher()
        batches = BatchSettings(batch_records=20, batch_wait_s=0.0)
        return (
            SinkRunner(StatisticsCounter(self._database), self.broker, batches=batches, retry=RETRY),
            StatisticsPublisher(self._database, publisher, SETTINGS, RETRY),
        )


class FaustSite(Site):
    """Kafka, with the state in a table of Faust."""

    group = "sink.statistics.faust"

    def __init__(self, broker: Broker, settings: BrokerSettings) -> None:
        super().__init__(broker)
        self.settings = settings

    async def parts(self) -> Sequence[Component]:
        from sinks.statistics.on_faust.application import kafka_access
        from sinks.statistics.on_faust.component import StatisticsOnFaust

        return (StatisticsOnFaust(self.broker, lambda: kafka_access(self.settings, TOPICS), TOPICS, SETTINGS, RETRY),)

    async def publish_aborted(self, records: Sequence[OutRecord]) -> None:
        producer = AIOKafkaProducer(bootstrap_servers=self.settings.bootstrap_servers, transactional_id=uuid4().hex)
        await producer.start()
        await producer.begin_transaction()
        for record in records:
            await producer.send_and_wait(record.topic, record.value, record.key.encode(), headers=list(record.headers))
        await producer.abort_transaction()
        await producer.stop()


@pytest.fixture(params=["plain", "kafka"])
async def site(request: pytest.FixtureRequest, tmp_path: Path, server_dir: Path) -> AsyncIterator[Site]:
    if request.param == "kafka":
        pytest.importorskip("faust")
        from tests.servers.kafka import kafka_settings

        settings = kafka_settings(request.getfixturevalue("kafka_server"))
        broker = KafkaBroker(settings, TOPICS)
        admin = await broker.admin()
        await admin.apply(list(TOPICS.values()))
        await admin.close()
        faust = FaustSite(broker, settings)
        yield faust
        await faust.close()
        return
    server = EmbeddedPostgres(server_dir)
    dsn = await server.start()
    try:
        await asyncio.to_thread(migrate_up, dsn)
        database, embedded = (
            Database.open(DatabaseSettings(url=dsn), tmp_path),
            EmbeddedBroker(tmp_path / "b.db", TOPICS),
        )
        plain = PlainSite(embedded, database)
        yield plain
        await database.close()
        await plain.close()
    finally:
        await server.kill()


async def test_windows_are_those_of_the_topic_after_stops(site: Site) -> None:
    events = site.events(400)
    rng = random.Random(5)
    late = rng.sample(events, 60)
    first = [event for event in events if event not in late]
    parts = [first[:150], [*first[150:], *rng.sample(first, 50)], [*late, *rng.sample(events, 50)]]
    ghost = detections_made(777, device=f"{site.prefix}-9")
    await site.publish_aborted([out_record(ghost)])
    sent: list[DetectionsMade] = []
    for part in parts:
        sent += part
        right = windows_of(sent)
        await site.publish([out_record(event) for event in part])
        async with site.counting() as health:
            await until(partial(is_right, site, right), lambda: f"not counted: {health.report()}", timeout_s=60.0)
    async with site.counting():
        await asyncio.sleep(0.5)
    assert await site.published() == windows_of(events)


async def test_a_record_that_is_no_event_becomes_a_dead_letter(site: Site) -> None:
    events = site.events(12)
    records = [out_record(event) for event in events]
    broken = OutRecord(DETECTIONS, events[0].device_id, b'{"frame_id": 7}', records[0].headers)
    await site.publish([*records[:6], broken, *records[6:]])
    async with site.counting():
        await until(lambda: _frames(site, 12), "not all frames are counted", timeout_s=60.0)
    reader = await site.broker.reader()
    letters = [letter async for letter in list_dead(reader, SINKS_DEAD) if letter.original.key == events[0].device_id]
    await reader.close()
    (letter,) = letters
    assert letter.group == site.group
    assert letter.original.value == broken.value


def windows_of(events: Sequence[DetectionsMade]) -> dict[UUID, StatisticsCounted]:
    return {each.window_id: each for each in (statistics_event(*one) for one in count_events(events).items())}


async def is_right(site: Site, right: dict[UUID, StatisticsCounted]) -> bool:
    return await site.published() == right


async def _frames(site: Site, count: int) -> bool:
    return sum(event.frames for event in (await site.published()).values()) == count
