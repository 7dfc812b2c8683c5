"""Metrics of jobs, by the names of the seed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from console.jobs.job_gauges import JobGauges
from infra.database.pool import Database
from infra.database.settings import DatabaseSettings
from infra.failure.settings import RetrySettings
from infra.process.health import Health
from standgale.testing.waiting import until
from tests.harnesses.job_site import JobSite, job_site

pytestmark = pytest.mark.integration


@pytest.fixture
async def site(tmp_path: Path, database: Database) -> AsyncIterator[JobSite]:
    async with job_site(tmp_path, database) as found:
        yield found


def value(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(name, labels)


def counted(status: str) -> float:
    return value("inference_jobs_total", status=status) or 0.0


async def test_counters_have_each_status_that_a_job_reaches_once(site: JobSite) -> None:
    """C-S2-102, C-S2-103."""
    statuses = ("queued", "processing", "completed", "failed", "cancelled")
    before = {status: counted(status) for status in statuses}
    durations = value("inference_job_duration_seconds_count", status="completed") or 0.0
    done, failed, cancelled = await site.job(2), await site.job(1), await site.job(1)
    await site.console.post(f"/api/v1/jobs/{cancelled}/cancel")
    frames = await site.publish()
    uuids = {row["job_id"]: row["id"] for row in await site.rows("SELECT job_id, id FROM jobs")}
    for _ in range(2):
        await site.fail(*(frame for frame in frames if frame.job_id == uuids[failed]))
        await site.answer(*(frame for frame in frames if frame.job_id == uuids[done]))
    assert {status: counted(status) - before[status] for status in statuses} == {
        "queued": 3,
        "processing": 2,
        "completed": 1,
        "failed": 1,
        "cancelled": 1,
    }
    assert value("inference_job_duration_seconds_count", status="completed") == durations + 1


async def test_gauges_have_the_jobs_that_have_not_ended(site: JobSite) -> None:
    """C-S2-108, C-S2-109."""
    gauges = JobGauges(site.database, RetrySettings())
    await site.job(1)
    await site.publish()
    await site.job(1), await site.job(1)
    await gauges.count()
    assert value("active_jobs", status="queued") == value("queue_length", queue="inference") == 2
    assert value("active_jobs", status="processing") == 1


async def test_gauges_have_no_numbers_while_the_database_is_away(tmp_path: Path) -> None:
    away = Database.open(DatabaseSettings(url="postgresql://nobody@127.0.0.1:1/none", command_timeout_s=1), tmp_path)
    stop = asyncio.Event()
    task = asyncio.create_task(JobGauges(away, RetrySettings(), every_s=0.1).run(stop, Health().part("gauges")))
    await until(lambda: value("active_jobs", status="queued") is None, "the gauge")
    stop.set()
    await task
    await away.close()
