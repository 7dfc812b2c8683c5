"""A job is complete, and each of its files counted once, wherever its processes or the database are killed."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from console.jobs.config import KeptConfig
from console.jobs.creation import find_files, insert_job
from infra.auth.tokens import ApiKeys
from infra.broker.embedded.adapter import EmbeddedBroker
from infra.broker.port import GroupSpec
from infra.database.embedded import EmbeddedPostgres
from infra.database.migrate import migrate_up
from infra.database.pool import Database
from infra.database.settings import DatabaseSettings
from schemas.cloudevents import decode
from schemas.errors import StandgaleError
from schemas.job_events import JobFinished
from schemas.topics import JOBS, load_topics
from standgale.testing.waiting import until
from tests.faults.forked import ForkedProcess
from tests.faults.job_process import STEPS
from tests.harnesses.job_site import insert_upload

pytestmark = pytest.mark.faults

FILES = 6
FOUND = sum(range(FILES))


class Jobs:
    """A database with a server of its own, and jobs in it."""

    def __init__(self, server: EmbeddedPostgres, database: Database, data: Path) -> None:
        self.server = server
        self.database = database
        self.data = data

    async def make(self) -> str:
        upload = await insert_upload(self.database, FILES)
        async with self.database.acquire(writing=True) as connection, connection.transaction():
            row, files = await find_files(connection, "desktop", upload.upload_id, None)
            return (await insert_job(connection, "desktop", row, files, KeptConfig(), most_open=10)).job_id

    async def row(self, job_id: str) -> dict[str, Any]:
        async with self.database.acquire() as connection:
            return dict(await connection.fetchrow("SELECT * FROM jobs WHERE job_id = $1", job_id) or {})

    async def fetch(self, query: str, job: object) -> list[dict[str, Any]]:
        async with self.database.acquire() as connection:
            return [dict(row) for row in await connection.fetch(query, job)]

    async def is_complete(self, job_id: str) -> bool:
        """Whether it has ended; what its row says is compared with the rows of its files and detections."""
        row = await self.row(job_id)
        ended = await self.fetch("SELECT * FROM job_files WHERE job_id = $1 AND finished_at IS NOT NULL", row["id"])
        # Read later, so there may be more of them.
        assert row["processed_images"] <= len(ended)
        assert (row["finished_at"] is not None) == (row["processed_images"] == FILES)
        return row["finished_at"] is not None

    def process(self, folder: Path, step: str, victim: str) -> ForkedProcess:
        arguments = (self.server.dsn, str(self.data), str(folder), step, victim)
        return ForkedProcess(arguments, os.environ, folder / "process.log", module="tests.faults.job_process")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("jobs")


@pytest.fixture
async def jobs(data: Path, tmp_path: Path) -> AsyncIterator[Jobs]:
    server = EmbeddedPostgres(data)
    dsn = await server.start()
    await asyncio.to_thread(migrate_up, dsn)
    database = Database.open(DatabaseSettings(url=dsn), tmp_path)
    async with database.acquire(writing=True) as connection:
        await connection.execute("TRUNCATE api_clients, devices, outbox CASCADE")
    await ApiKeys(database).add("desktop")
    yield Jobs(server, database, data)
    await database.close()
    await server.stop()


async def check_end(jobs: Jobs, job_id: str, folder: Path) -> None:
    """Compare the rows of the job, its files, their detections, and the events about its end."""
    row = await jobs.row(job_id)
    counted = {name: row[name] for name in ("status", "processed_images", "failed_images", "total_detections")}
    assert counted == {
        "status": "completed",
        "processed_images": FILES,
        "failed_images": 1,
        "total_detections": FOUND,
    }
    query = "SELECT d.id FROM detections d JOIN inference_sessions s ON s.id = d.session_id WHERE s.job_id = $1"
    assert len(await jobs.fetch(query, row["id"])) == FOUND
    ends = await finished_events(folder)
    assert {event.job_id for event in ends} == {job_id}
    assert len({event.model_dump_json() for event in ends}) == 1
    assert ends[0].finished_at == row["finished_at"]


async def finished_events(folder: Path) -> list[JobFinished]:
    broker = EmbeddedBroker(folder / "broker.db", load_topics())
    consumer = await broker.consumer(GroupSpec("check", (JOBS,)))
    found: list[JobFinished] = []

    async def poll() -> bool:
        records = await consumer.poll(max_records=10, timeout_s=0.2)
        found.extend(decode(record.headers, record.value, JobFinished) for record in records)
        return bool(found) and not records

    await until(poll, "job.finished")
    await consumer.close()
    await broker.close()
    return found


@pytest.mark.parametrize("step", STEPS)
async def test_a_process_killed_at_a_step_leaves_a_job_that_is_completed_once(
    jobs: Jobs, tmp_path: Path, step: str
) -> None:
    job_id = await jobs.make()
    first = jobs.process(tmp_path, step, "process")
    assert await asyncio.to_thread(first.wait, 60) == -signal.SIGKILL
    await jobs.is_complete(job_id)
    second = jobs.process(tmp_path, "none", "process")
    await until(lambda: jobs.is_complete(job_id), "the job")
    await check_end(jobs, job_id, tmp_path)
    second.kill()


@pytest.mark.parametrize("step", [step for step in STEPS if not step.startswith("end removed")])
async def test_a_database_killed_at_a_step_leaves_a_job_that_is_completed_once(
    jobs: Jobs, tmp_path: Path, step: str
) -> None:
    job_id = await jobs.make()
    process = jobs.process(tmp_path, step, "database")

    async def is_complete() -> bool:
        try:
            return await jobs.is_complete(job_id)
        except (StandgaleError, OSError):
            return False

    await until(is_complete, "the job")
    await check_end(jobs, job_id, tmp_path)
    process.kill()
