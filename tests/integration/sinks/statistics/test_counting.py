"""Windows are counted, published and kept in tables, with late events and after errors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from infra.broker.port import OutRecord, Publisher
from infra.database.pool import Database
from infra.errors import BrokerUnavailableError
from infra.failure.settings import RetrySettings
from schemas.cloudevents import decode
from schemas.events import DetectionsMade
from schemas.statistics_events import StatisticsCounted
from sinks.statistics.counter import StatisticsCounter
from sinks.statistics.counts import count_events
from sinks.statistics.forgetting import StatisticsForgetting
from sinks.statistics.publisher import StatisticsPublisher
from sinks.statistics.report import statistics_event
from sinks.statistics.settings import StatisticsSettings
from sinks.statistics.table import StatisticsTable
from standgale.testing.factories import START, detections_made

pytestmark = pytest.mark.integration

RETRY = RetrySettings()
WINDOWS = "SELECT * FROM statistics_windows ORDER BY device_id, minute"
CLASSES = "SELECT label, detections, frames, mean_confidence FROM statistics_classes ORDER BY window_id, label"


class KeptPublisher:
    """Keeps what is published; it can be unavailable."""

    def __init__(self) -> None:
        self.records: list[OutRecord] = []
        self.is_away = False

    async def publish(self, records: list[OutRecord]) -> None:
        if self.is_away:
            raise BrokerUnavailableError("no broker")
        self.records += records

    def clock_ahead_s(self) -> float | None:
        return None

    async def close(self) -> None:
        """Nothing is open."""

    def events(self) -> list[StatisticsCounted]:
        return [decode(record.headers, record.value, StatisticsCounted) for record in self.records]


class Site:
    """A database, and the parts that count, publish and keep."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.counter = StatisticsCounter(database)
        self.table = StatisticsTable(database)
        self.broker = KeptPublisher()
        publisher: Publisher = self.broker  # type: ignore[assignment]
        self.publisher = StatisticsPublisher(database, publisher, StatisticsSettings(), RETRY)

    async def fetch(self, statement: str) -> list[Any]:
        async with self.database.acquire() as connection:
            return list(await connection.fetch(statement))

    async def run(self, statement: str) -> None:
        async with self.database.acquire() as connection:
            await connection.execute(statement)


@pytest.fixture
async def site(database: Database) -> AsyncIterator[Site]:
    found = Site(database)
    await found.run("TRUNCATE statistics_counted, statistics_state, statistics_windows CASCADE")
    await found.counter.open()
    await found.table.open()
    yield found


def right(events: list[DetectionsMade]) -> list[StatisticsCounted]:
    return [statistics_event(*each) for each in sorted(count_events(events).items())]


async def test_a_late_event_is_counted_in_its_window_which_comes_again(site: Site) -> None:
    events = [detections_made(number) for number in range(0, 130, 10)]
    late = events.pop(2)
    await site.counter.write(events)
    await site.publisher.publish_some()
    assert sorted(site.broker.events(), key=lambda each: each.minute) == right(events)
    await site.table.write(site.broker.events())
    site.broker.records.clear()
    await site.counter.write([late])
    assert await site.publisher.publish_some() == 1
    (again,) = site.broker.events()
    assert (again.minute, again.revision, again.frames) == (START, 6, 6)
    assert again == right([*events, late])[0]
    await site.table.write([again])
    rows = await site.fetch(WINDOWS)
    assert [(row["minute"], row["frames"], row["revision"]) for row in rows] == [
        (START + timedelta(minutes=minute), *2 * (frames,)) for minute, frames in enumerate((6, 6, 1))
    ]


async def test_no_window_is_published_twice_without_a_change(site: Site) -> None:
    await site.counter.write([detections_made(1)])
    assert await site.publisher.publish_some() == 1
    await site.counter.write([detections_made(1)])
    assert await site.publisher.publish_some() == 0


async def test_windows_wait_while_the_broker_is_away(site: Site) -> None:
    await site.counter.write([detections_made(1)])
    site.broker.is_away = True
    with pytest.raises(BrokerUnavailableError):
        await site.publisher.publish_some()
    site.broker.is_away = False
    await site.counter.write([detections_made(2)])
    assert await site.publisher.publish_some() == 1
    assert [each.frames for each in site.broker.events()] == [2]


async def test_more_windows_than_one_round_takes_are_all_published(site: Site) -> None:
    events = [detections_made(60 * number, device=f"drone-{number % 5}") for number in range(120)]
    await site.counter.write(events)
    assert [await site.publisher.publish_some() for _ in range(3)] == [100, 20, 0]
    assert sorted(site.broker.events(), key=lambda each: (each.device_id, each.minute)) == right(events)


async def test_the_largest_revision_stays_in_the_table_in_any_order(site: Site) -> None:
    events = [detections_made(number, labels=("car", "boat")[: number + 1]) for number in range(3)]
    revisions = [right(events[: number + 1])[0] for number in range(3)]
    await site.table.write([revisions[1]])
    await site.table.write([revisions[2], revisions[0]])
    await site.table.write([revisions[0], revisions[1]])
    (row,) = await site.fetch(WINDOWS)
    assert (row["frames"], row["detections"], row["revision"]) == (3, 5, 3)
    assert [tuple(row) for row in await site.fetch(CLASSES)] == [("boat", 2, 2, 0.3333), ("car", 3, 3, 0.5)]


async def test_writers_of_the_same_windows_at_once_lose_no_count(site: Site) -> None:
    """A process that was frozen may write beside the one that has its partition now."""
    events = [detections_made(number) for number in range(40)]
    batches = [events[start : start + 12] for start in range(0, 40, 7)]
    await asyncio.gather(*(StatisticsCounter(site.database).write(batch) for batch in batches))
    await site.publisher.publish_some()
    assert site.broker.events() == right(events)


async def test_a_label_with_nul_is_stored_without_it(site: Site) -> None:
    await site.counter.write([detections_made(1, labels=("quote\"'", "nul\0"))])
    await site.publisher.publish_some()
    await site.table.write(site.broker.events())
    assert [row["label"] for row in await site.fetch(CLASSES)] == ["nul\ufffd", "quote\"'"]


async def test_outdated_rows_are_forgotten_and_no_others(site: Site) -> None:
    await site.counter.write([detections_made(1)])
    await site.publisher.publish_some()
    await site.table.write(site.broker.events())
    forgetting = StatisticsForgetting(site.database, StatisticsSettings(keep_days=30), 86_400, RETRY)
    assert await forgetting.forget_some() == 0
    await site.run("UPDATE statistics_counted SET counted_at = now() - interval '9 days 1 minute'")
    await site.run("UPDATE statistics_windows SET changed_at = now() - interval '31 days'")
    await site.run("UPDATE statistics_state SET changed_at = now() - interval '31 days', published = 0")
    # The state of a window that is not published yet stays.
    assert await forgetting.forget_some() == 2
    await site.publisher.publish_some()
    assert await forgetting.forget_some() == 1
    assert await site.fetch(WINDOWS) == await site.fetch(CLASSES) == []


async def test_the_reading_role_sees_windows_and_classes_only(site: Site) -> None:
    async with site.database.acquire() as connection, connection.transaction():
        await connection.execute("SET LOCAL ROLE standgale_reader")
        for table in ("statistics_windows", "statistics_classes"):
            assert await connection.fetchval(f"SELECT count(*) FROM {table}") == 0
        for table in ("statistics_state", "statistics_counted"):
            assert not await connection.fetchval("SELECT has_table_privilege($1, 'SELECT')", table)


async def test_statistics_go_down_and_up_again(tmp_path: Path, migrated_dsn: str) -> None:
    from infra.database import migrate
    from infra.database.settings import DatabaseSettings

    database = Database.open(DatabaseSettings(url=migrated_dsn), tmp_path)
    site = Site(database)
    await site.counter.write([detections_made(1)])
    await site.publisher.publish_some()
    await site.table.write(site.broker.events())
    await database.close()
    await asyncio.to_thread(migrate.migrate_down, migrated_dsn, "0011")
    await asyncio.to_thread(migrate.migrate_up, migrated_dsn, "head")
    database = Database.open(DatabaseSettings(url=migrated_dsn), tmp_path)
    site = Site(database)
    assert await site.fetch(WINDOWS) == []
    await site.counter.write([detections_made(1)])
    assert await site.publisher.publish_some() == 1
    await database.close()
