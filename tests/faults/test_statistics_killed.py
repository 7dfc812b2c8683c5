"""The statistics are those of the topic, however often the process that counts is killed."""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from pathlib import Path

import pytest

from infra.broker.embedded.adapter import EmbeddedBroker
from infra.broker.port import Reader, TopicPartition
from infra.broker.reading import read_between
from infra.database.embedded import EmbeddedPostgres
from infra.database.migrate import migrate_up
from infra.database.pool import Database
from infra.database.settings import DatabaseSettings
from schemas.cloudevents import decode
from schemas.events import DetectionsMade
from schemas.statistics_events import StatisticsCounted
from schemas.topics import DETECTIONS, STATS, load_topics
from sinks.statistics.counts import count_events
from sinks.statistics.report import statistics_event
from standgale.testing.factories import detections_made, out_record
from standgale.testing.waiting import until
from tests.faults.forked import ForkedProcess

pytestmark = pytest.mark.faults

KILLS = 8
SEED = 11
TABLE = "SELECT id, revision, detections FROM statistics_windows"
CLASSES = "SELECT label, sum(detections)::int AS detections FROM statistics_classes GROUP BY label"


def some_events(rng: random.Random) -> list[DetectionsMade]:
    """Events of five devices; a tenth comes minutes late, and a fifth comes twice."""
    labels = ("car", "boat", "bird")
    events = [
        detections_made(number, device=f"drone-{number % 5}", labels=labels[: number % 4]) for number in range(1_200)
    ]
    order = sorted(enumerate(events), key=lambda each: each[0] + (300 * rng.random() if rng.random() < 0.1 else 0))
    sent = [event for _, event in order]
    for again in rng.sample(events, 240):
        sent.insert(rng.randrange(len(sent)), again)
    return sent


async def read_all(reader: Reader, topic: str) -> list[StatisticsCounted]:
    found: list[StatisticsCounted] = []
    for partition, (first, end) in (await reader.bounds(topic)).items():
        records = read_between(reader, TopicPartition(topic, partition), first, end)
        found += [decode(record.headers, record.value, StatisticsCounted) async for record in records]
    return found


async def test_windows_equal_those_of_the_topic_after_kills(tmp_path: Path, server_dir: Path) -> None:
    rng = random.Random(SEED)
    server = EmbeddedPostgres(server_dir)
    dsn = await server.start()
    try:
        await asyncio.to_thread(migrate_up, dsn)
        await _count_with_kills(dsn, tmp_path, rng)
    finally:
        await server.kill()


async def _count_with_kills(dsn: str, folder: Path, rng: random.Random) -> None:
    sent = some_events(rng)
    right = {event.window_id: event for event in _right(sent)}
    broker, database = (
        EmbeddedBroker(folder / "broker.db", load_topics()),
        Database.open(DatabaseSettings(url=dsn), folder),
    )
    publisher, reader, admin = await broker.publisher(), await broker.reader(), await broker.admin()

    def start() -> ForkedProcess:
        return ForkedProcess((dsn, str(folder)), os.environ, None, module="tests.faults.statistics_process")

    process = start()
    try:
        share = len(sent) // KILLS + 1
        for kill in range(KILLS):
            await publisher.publish([out_record(event) for event in sent[kill * share : (kill + 1) * share]])
            await asyncio.sleep(rng.uniform(0.02, 0.3))
            process.kill()
            await asyncio.to_thread(process.wait)
            process = start()

        async def is_complete() -> bool:
            lag = await admin.group_lag("sink.statistics", (DETECTIONS,))
            async with database.acquire() as connection:
                rows = await connection.fetch(TABLE)
            return not sum(lag.values()) and {row["id"]: row["revision"] for row in rows} == {
                id_: event.revision for id_, event in right.items()
            }

        await until(is_complete, "the windows are not complete", timeout_s=90.0)
        last: dict[object, StatisticsCounted] = {}
        for event in sorted(await read_all(reader, STATS), key=lambda each: each.revision):
            last[event.window_id] = event
        assert last == right
        async with database.acquire() as connection:
            labels = {row["label"]: row["detections"] for row in await connection.fetch(CLASSES)}
        assert labels == Counter(
            label for event in right.values() for one in event.classes for label in [one.label] * one.detections
        )
    finally:
        process.kill()
        await asyncio.to_thread(process.wait)
        for client in (publisher, reader, admin, database, broker):
            await client.close()


def _right(events: list[DetectionsMade]) -> list[StatisticsCounted]:
    return [statistics_event(*each) for each in count_events(events).items()]
