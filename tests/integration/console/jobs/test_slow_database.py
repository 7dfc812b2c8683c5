"""Requests about jobs while the database is slow or its connections are cut: errors in time, nothing half done."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from console.settings import ConsoleSettings
from infra.database.pool import Database
from tests.harnesses.job_site import JobSite, job_site

pytestmark = pytest.mark.integration

_CUT = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> $1"


@pytest.fixture
async def site(tmp_path: Path, database: Database) -> AsyncIterator[JobSite]:
    async with job_site(tmp_path, database, ConsoleSettings(database_timeout_s=0.5)) as found:
        yield found


async def test_a_cancel_that_waits_too_long_for_the_row_changes_nothing(site: JobSite) -> None:
    job_id = await site.job(2)
    async with site.database.acquire(writing=True) as other, other.transaction():
        await other.execute("SELECT FROM jobs FOR UPDATE")
        responses = await asyncio.gather(*(site.console.post(f"/api/v1/jobs/{job_id}/cancel") for _ in range(8)))
        assert {(each.status, each.code) for each in responses} == {(503, "DATABASE_UNAVAILABLE")}
        assert {"Retry-After" in each.headers for each in responses} == {True}
    assert (await site.status(job_id))["status"] == "queued"
    assert (await site.console.post(f"/api/v1/jobs/{job_id}/cancel")).json["data"]["status"] == "cancelled"


async def test_a_job_is_kept_whole_or_not_at_all_while_connections_are_cut(site: JobSite) -> None:
    upload = await site.upload(20)

    admin = await asyncpg.connect(await site.database.dsn())
    own = await admin.fetchval("SELECT pg_backend_pid()")

    async def cut() -> None:
        for _ in range(10):
            await admin.fetch(_CUT, own)
            await asyncio.sleep(0.02)

    async def ask() -> list[int]:
        return [(await site.ask(upload)).status for _ in range(20)]

    _, first, second = await asyncio.gather(cut(), ask(), ask())
    await admin.close()
    known = [*first, *second]
    assert set(known) <= {202, 503}
    rows = await site.rows(
        "SELECT j.total_images, count(f.*) AS files FROM jobs j LEFT JOIN job_files f ON f.job_id = j.id GROUP BY j.id"
    )
    assert len(rows) >= known.count(202) > 0
    assert {(row["total_images"], row["files"]) for row in rows} == {(20, 20)}
