"""Counting with Faust, on a table in memory: what is counted, acknowledged, forgotten, published and held."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from infra.broker.port import OutRecord, Publisher
from infra.errors import BrokerUnavailableError
from infra.failure.redrive import GROUP_HEADER
from infra.failure.retry import ConsumerContext, StoppedError
from infra.failure.settings import RetrySettings
from infra.process.health import Health
from schemas.cloudevents import decode
from schemas.events import DeadLetter, DetectionsMade
from schemas.statistics_events import StatisticsCounted
from schemas.topics import REDRIVE, SINKS_DEAD, STATS
from sinks.statistics.counts import count_events
from sinks.statistics.on_faust.counting import FaustCounting
from sinks.statistics.report import statistics_event
from standgale.testing.factories import detections_made, out_record

GROUP = "sink.statistics.faust"


class Table(dict[bytes, bytes]):
    """Keeps the parts, and makes each change durable when the test says so."""

    last_change: asyncio.Future[None]

    def __setitem__(self, key: bytes, value: bytes) -> None:
        super().__setitem__(key, value)
        self.last_change = asyncio.get_running_loop().create_future()


class KeptPublisher:
    """Keeps what is published; it can be unavailable."""

    def __init__(self) -> None:
        self.records: list[OutRecord] = []
        self.is_away = False

    async def publish(self, records: Sequence[OutRecord]) -> None:
        if self.is_away:
            raise BrokerUnavailableError("no broker")
        self.records += records

    def clock_ahead_s(self) -> float | None:
        return None

    async def close(self) -> None:
        """Nothing is open."""


class Stream:
    """Gives the events of a test, and says which are acknowledged."""

    def __init__(self, records: Sequence[OutRecord]) -> None:
        self.acknowledged: list[int] = []
        self._records = records

    def noack(self) -> Stream:
        return self

    async def events(self) -> AsyncIterator[Any]:
        for offset, record in enumerate(self._records):
            message = SimpleNamespace(
                topic=record.topic,
                partition=3,
                offset=offset,
                timestamp=1.0,
                key=record.key.encode(),
                value=record.value,
                headers=list(record.headers),
            )
            yield SimpleNamespace(message=message, ack=lambda offset=offset: self.acknowledged.append(offset))


class Site:
    """A member that counts."""

    def __init__(self) -> None:
        self.table, self.publisher, self.stop = Table(), KeptPublisher(), asyncio.Event()
        self.health = Health().part(GROUP)
        self.now_s = 1_000.0
        retry = RetrySettings(first_delay_s=0.001, max_delay_s=0.002)
        context = ConsumerContext(retry, self.stop, self.health, GROUP)
        publisher: Publisher = self.publisher
        self.counting = FaustCounting(
            self.table, context, publisher, partitions=8, remember_s=100.0, clock=lambda: self.now_s
        )

    async def count(self, *records: OutRecord) -> Stream:
        stream = Stream(records)
        await asyncio.wait_for(self.counting.count(stream), 5.0)
        return stream

    def published(self) -> list[StatisticsCounted]:
        return [decode(each.headers, each.value, StatisticsCounted) for each in self.publisher.records]


@pytest.fixture
async def site() -> Site:
    return Site()


def right(events: Sequence[DetectionsMade]) -> list[StatisticsCounted]:
    return [statistics_event(*each) for each in count_events(events).items()]


async def test_an_event_is_acknowledged_when_its_change_is_durable(site: Site) -> None:
    stream = await site.count(out_record(detections_made(1)), out_record(detections_made(1)))
    task = asyncio.create_task(site.counting.acknowledge())
    await asyncio.sleep(0.01)
    assert stream.acknowledged == []
    site.table.last_change.set_result(None)
    await asyncio.sleep(0.01)
    assert stream.acknowledged == [0, 1]
    task.cancel()


async def test_a_change_that_cannot_be_durable_ends_the_run_without_acknowledging(site: Site) -> None:
    stream = await site.count(out_record(detections_made(1)))
    site.table.last_change.set_exception(RuntimeError("refused"))
    with pytest.raises(RuntimeError, match="refused"):
        await asyncio.wait_for(site.counting.acknowledge(), 5.0)
    assert stream.acknowledged == []


async def test_windows_are_published_again_after_an_error_of_the_broker(site: Site) -> None:
    events = [detections_made(number) for number in range(5)]
    await site.count(*map(out_record, events))
    site.publisher.is_away = True
    with pytest.raises(BrokerUnavailableError):
        await site.counting.publish_changed()
    site.publisher.is_away = False
    assert await site.counting.publish_changed() == 1
    assert await site.counting.publish_changed() == 0
    assert site.published() == right(events)


async def test_all_windows_are_published_after_the_table_was_read(site: Site) -> None:
    events = [detections_made(60 * number) for number in range(3)]
    await site.count(*map(out_record, events))
    again = Site()
    again.table.update(site.table)
    await again.counting.mark_all()
    assert await again.counting.publish_changed() == 3
    assert sorted(again.published(), key=lambda each: each.minute) == right(events)


async def test_parts_are_forgotten_when_they_did_not_change_for_long_and_are_published(site: Site) -> None:
    await site.count(*(out_record(detections_made(number)) for number in range(5)))
    site.now_s += 101.0
    await site.count(out_record(detections_made(600)))
    assert len(site.table) > 1
    await site.counting.publish_changed()
    await site.count(out_record(detections_made(601)), out_record(detections_made(602)))
    assert {statistics.minute.minute for statistics in site.published()} == {0, 10}
    site.publisher.records.clear()
    await site.counting.mark_all()
    await site.counting.publish_changed()
    assert [(event.minute.minute, event.frames) for event in site.published()] == [(10, 3)]


async def test_records_sent_again_to_other_groups_are_not_counted(site: Site) -> None:
    record = out_record(detections_made(1))
    for group, count in (("sink.postgres", 0), (GROUP, 1)):
        headers = (*record.headers, (GROUP_HEADER, group.encode()))
        stream = await site.count(OutRecord(REDRIVE, record.key, record.value, headers))
        assert len(site.table) == count, stream


async def test_a_record_that_is_no_event_is_a_dead_letter_with_its_original(site: Site) -> None:
    record = out_record(detections_made(1))
    site.publisher.is_away = True
    task = asyncio.create_task(site.count(OutRecord(record.topic, record.key, b"{", record.headers), record))
    await asyncio.sleep(0.02)
    assert "publishing a dead letter" in str(site.health.reason)
    site.publisher.is_away = False
    await task
    (letter,) = site.publisher.records
    assert letter.topic == SINKS_DEAD
    assert decode(letter.headers, letter.value, DeadLetter).group == GROUP
    await site.counting.publish_changed()
    assert [record.topic for record in site.publisher.records] == [SINKS_DEAD, STATS]


async def test_an_event_that_is_too_new_holds_until_the_process_stops(site: Site) -> None:
    record = out_record(detections_made(1))
    headers = tuple(
        (name, value.replace(b".v1", b".v2") if name == "ce_type" else value) for name, value in record.headers
    )
    task = asyncio.create_task(site.count(OutRecord(record.topic, record.key, record.value, headers), record))
    await asyncio.sleep(0.01)
    assert "counting is held at detections/3:0" in str(site.health.reason)
    site.stop.set()
    with pytest.raises(StoppedError):
        await site.counting.failed
    task.cancel()
    assert site.table == {}
