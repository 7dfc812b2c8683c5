"""Path and commit of archived frames are noted, whether the row or the commit comes first."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from uuid import UUID

import pytest

from infra.database.pool import Database
from infra.failure.settings import RetrySettings
from infra.process.health import Health
from schemas.archive_events import ArchiveCommitted, ArchivedImage
from schemas.events import DetectionsMade
from schemas.ids import archive_commit_id, frame_batch_id
from sinks.postgres.archive import ArchiveCommits, PendingCommits
from sinks.postgres.sink import PostgresSink
from standgale.testing.factories import detections_made
from standgale.testing.waiting import until

pytestmark = pytest.mark.integration


def committed(*events: DetectionsMade, commit: str = "c" * 64) -> ArchiveCommitted:
    batch = frame_batch_id(event.frame_id for event in events)
    return ArchiveCommitted(
        id=archive_commit_id(batch, commit, 0),
        batch_id=batch,
        repository="bird-detection",
        branch="main",
        commit_id=commit,
        committed_at=datetime(2026, 5, 1, tzinfo=UTC),
        images=[ArchivedImage(frame_id=event.frame_id, path=f"images/{event.frame_id}.jpg") for event in events],
    )


async def noted(database: Database) -> dict[UUID, tuple[str | None, str | None]]:
    async with database.acquire() as connection:
        rows = await connection.fetch("SELECT id, lakefs_path, lakefs_commit_id FROM images")
    return {row["id"]: (row["lakefs_path"], row["lakefs_commit_id"]) for row in rows}


async def waiting(database: Database) -> int:
    async with database.acquire() as connection:
        return int(await connection.fetchval("SELECT count(*) FROM archive_pending"))


async def test_commit_after_the_rows_is_noted_at_once(database: Database) -> None:
    # C-S1-075
    events = [detections_made(number) for number in range(3)]
    sink, commits = PostgresSink(database), ArchiveCommits(database)
    await sink.open()
    await commits.open()
    await sink.write(events)
    assert set((await noted(database)).values()) == {(None, None)}
    await commits.write([committed(*events)])
    expected = {event.frame_id: (f"images/{event.frame_id}.jpg", "c" * 64) for event in events}
    assert await noted(database) == expected
    await commits.write([committed(*events, commit="d" * 64)])
    assert await noted(database) == expected, "the first commit stays"
    assert await waiting(database) == 0


async def test_commit_before_the_rows_is_noted_when_they_come(database: Database) -> None:
    # C-S1-075
    events = [detections_made(number) for number in range(6)]
    sink, commits = PostgresSink(database), ArchiveCommits(database)
    await sink.open()
    await commits.write([committed(*events[:5])])
    await sink.write(events[:4])
    assert await waiting(database) == 5
    stop, health = asyncio.Event(), Health().part("pending")
    pending = PendingCommits(database, 3_600, RetrySettings(), every_s=0.05)
    task = asyncio.create_task(pending.run(stop, health))

    async def done() -> bool:
        return await waiting(database) == 1

    await until(done, "the commits are not noted")
    found = await noted(database)
    assert {frame for frame, (path, _) in found.items() if path} == {event.frame_id for event in events[:4]}
    await until(lambda: health.reason is None, "it is not ready after a round")
    stop.set()
    await task


async def test_a_commit_waits_for_its_row_as_long_as_the_topic_keeps_detections(database: Database) -> None:
    commits = ArchiveCommits(database)
    events = [detections_made(number) for number in range(2)]
    await commits.write([committed(*events)])
    async with database.acquire(writing=True) as connection:
        statement = "UPDATE archive_pending SET noted_at = now() - interval '2 h' WHERE frame_id = $1"
        await connection.execute(statement, events[0].frame_id)
    stop = asyncio.Event()
    pending = PendingCommits(database, 3_600, RetrySettings(), every_s=0.05)
    task = asyncio.create_task(pending.run(stop, Health().part("pending")))

    async def done() -> bool:
        return await waiting(database) == 1

    await until(done, "nothing was forgotten")
    stop.set()
    await task


async def test_two_writers_at_once_note_each_frame(database: Database) -> None:
    events = [detections_made(number) for number in range(60)]
    sink, commits = PostgresSink(database), ArchiveCommits(database)
    await sink.open()
    batches = [events[first : first + 10] for first in range(0, 60, 10)]
    rows = [sink.write(batch) for batch in batches]
    await asyncio.gather(*rows, *(commits.write([committed(*batch)]) for batch in batches))
    await asyncio.gather(*(commits.write([committed(*batch)]) for batch in batches))
    assert all(path for path, _ in (await noted(database)).values())
    assert await waiting(database) == 0
