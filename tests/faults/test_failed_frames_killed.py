"""C-S1-059: frames that fail, are sent again and are detected have their rows once, however often sinks are killed."""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from infra.broker.embedded.adapter import EmbeddedBroker
from infra.database.embedded import EmbeddedPostgres
from infra.database.migrate import migrate_up
from infra.database.pool import Database
from infra.database.settings import DatabaseSettings
from infra.errors import ImageCorruptError
from infra.failure.dead_letter_records import dead_letter
from schemas.cloudevents import decode
from schemas.events import DeadLetter
from schemas.topics import FRAMES_DEAD, load_topics
from standgale.testing.factories import detections_made, frame_captured, in_record, out_record
from standgale.testing.waiting import until
from tests.faults.forked import ForkedProcess

pytestmark = pytest.mark.faults

KILLS, FRAMES, SEED = 20, 900, 5
MOST_BETWEEN = 25
"""Sessions between two kills; batches are of 10 events, so a process is killed during one of them."""
DETECTED = range(0, FRAMES, 3)
"""The frames that failed first, and were detected when they were sent again."""


def letter(number: int) -> DeadLetter:
    sent = out_record(frame_captured(number))
    record = in_record(number, value=sent.value, headers=sent.headers)
    error = ImageCorruptError("the JPEG ends early")
    made = dead_letter(record, group="detector", error=error, attempts=1, topic=FRAMES_DEAD)
    return decode(made.headers, made.value, DeadLetter)


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[tuple[Database, str]]:
    server = EmbeddedPostgres(tmp_path / "data")
    dsn = await server.start()
    await asyncio.to_thread(migrate_up, dsn)
    opened = Database.open(DatabaseSettings(url=dsn), tmp_path)
    yield opened, dsn
    await opened.close()
    await server.kill()


def start(dsn: str, folder: Path) -> ForkedProcess:
    log = folder / "process.log"
    return ForkedProcess((dsn, str(folder)), os.environ, log, module="tests.faults.table_writers")


async def count(database: Database, query: str) -> Counter[object]:
    async with database.acquire() as connection:
        return Counter(row[0] for row in await connection.fetch(query))


async def has_sessions(database: Database, least: int) -> bool:
    return sum((await count(database, "SELECT status FROM inference_sessions")).values()) >= least


async def test_sinks_killed_20_times_write_each_failure_and_detection_once(
    database: tuple[Database, str], tmp_path: Path
) -> None:
    opened, dsn = database
    broker = EmbeddedBroker(tmp_path / "broker.db", load_topics())
    publisher = await broker.publisher()
    await publisher.publish([out_record(letter(number)) for number in range(FRAMES)])
    await publisher.publish([out_record(detections_made(number)) for number in DETECTED])
    numbers, goal = random.Random(SEED), 0
    for _ in range(KILLS):
        process = start(dsn, tmp_path)
        goal += numbers.randint(1, MOST_BETWEEN)
        await until(partial(has_sessions, opened, goal), f"{goal} sessions", timeout_s=90)
        process.kill()
        await asyncio.to_thread(process.wait, 10)
    sessions = sum((await count(opened, "SELECT status FROM inference_sessions")).values())
    assert sessions < FRAMES + len(DETECTED), "the last kills came after everything was written"
    process = start(dsn, tmp_path)

    async def all_written() -> bool:
        sessions = await count(opened, "SELECT status FROM inference_sessions")
        return sessions == {"failed": FRAMES, "success": len(DETECTED)}

    await until(all_written, "a session for each failure and each detected frame", timeout_s=120)
    process.terminate()
    await asyncio.to_thread(process.wait, 10)
    states = await count(opened, "SELECT processing_status FROM images")
    assert states == {"failed": FRAMES - len(DETECTED), "completed": len(DETECTED)}
    assert await count(opened, "SELECT failure_reason FROM images WHERE processing_status = 'completed'") == {
        None: len(DETECTED)
    }
    found = await count(opened, "SELECT image_id FROM detections")
    assert set(found.values()) == {2}
    assert len(found) == len(DETECTED)
    await publisher.close()
    await broker.close()
