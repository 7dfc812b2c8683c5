"""Events leave with their transaction, in order, and are removed when they are durable."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest

from infra.broker.port import OutRecord
from infra.database.pool import Database
from infra.errors import BrokerUnavailableError, DatabaseUnavailableError
from infra.failure.settings import RetrySettings
from infra.outbox.outbox import add_event
from infra.outbox.relay import OutboxRelay
from infra.process.health import Health
from schemas.cloudevents import decode
from schemas.events import ProbeSent
from standgale.testing.waiting import until

pytestmark = pytest.mark.integration

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


class Topics:
    """Is a publisher that can be away; ``gate`` holds a publish back."""

    def __init__(self) -> None:
        self.records: list[OutRecord] = []
        self.away = False
        self.gate = asyncio.Event()
        self.gate.set()

    async def publish(self, records: Sequence[OutRecord]) -> None:
        if self.away:
            raise BrokerUnavailableError("the broker is away")
        await self.gate.wait()
        self.records.extend(records)

    def clock_ahead_s(self) -> float | None:
        return None

    async def close(self) -> None:
        """Close nothing."""


def relay(database: Database, topics: Topics) -> OutboxRelay:
    return OutboxRelay(database, topics, RetrySettings(first_delay_s=0.05, max_delay_s=0.1))


async def add(database: Database, name: str, event_id: UUID | None = None, *, fail: bool = False) -> None:
    async with database.acquire(writing=True) as connection, connection.transaction():
        event = ProbeSent(process=name, sent_at=NOW)
        await add_event(connection, "probes", event, id=event_id or uuid4(), source="/test", time=NOW, key=name)
        if fail:
            raise RuntimeError("the change is not kept")


def names(topics: Topics) -> list[str]:
    return [decode(record.headers, record.value, ProbeSent).process for record in topics.records]


async def test_events_leave_in_order_once_with_the_changes_that_are_kept(database: Database) -> None:
    topics, known = Topics(), uuid4()
    await add(database, "a")
    with pytest.raises(RuntimeError):
        await add(database, "lost", fail=True)
    await add(database, "b", known)
    await add(database, "b again", known)
    sender = relay(database, topics)
    assert await sender.publish_some() == 2
    assert names(topics) == ["a", "b"]
    assert await sender.publish_some() == 0


async def test_two_relays_never_publish_the_same_event(database: Database) -> None:
    first, second = Topics(), Topics()
    first.gate.clear()
    await add(database, "a")
    sending = asyncio.create_task(relay(database, first).publish_some())
    await asyncio.sleep(0.2)
    assert await relay(database, second).publish_some() == 0
    first.gate.set()
    assert await sending == 1
    assert (names(first), names(second)) == (["a"], [])


async def test_events_of_a_frozen_relay_go_to_the_other(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infra.database.transaction.IDLE_LIMIT_S", 0.3)
    first, second = Topics(), Topics()
    first.gate.clear()
    await add(database, "a")
    sending = asyncio.create_task(relay(database, first).publish_some())
    await asyncio.sleep(0.1)
    assert await relay(database, second).publish_some() == 0
    await until(relay(database, second).publish_some, "the event")
    assert names(second) == ["a"]
    first.gate.set()
    with pytest.raises(DatabaseUnavailableError):
        await sending


async def test_a_broker_that_does_not_acknowledge_is_named_and_not_the_database(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infra.outbox.relay._PUBLISH_TIMEOUT_S", 0.1)
    topics = Topics()
    topics.gate.clear()
    await add(database, "a")
    with pytest.raises(BrokerUnavailableError, match=r"did not acknowledge 1 record within 0\.1 s"):
        await relay(database, topics).publish_some()


async def test_events_wait_while_the_broker_is_away_and_the_part_is_not_ready(database: Database) -> None:
    topics, health, stop = Topics(), Health(), asyncio.Event()
    part = health.part("outbox")
    topics.away = True
    await add(database, "a")
    running = asyncio.create_task(relay(database, topics).run(stop, part))
    try:
        await until(lambda: part.reason is not None and "broker is away" in part.reason)
        topics.away = False
        await until(lambda: names(topics) == ["a"] and part.reason is None)
    finally:
        stop.set()
        await running
