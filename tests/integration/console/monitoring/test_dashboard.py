"""GET /api/v1/monitoring/dashboard: the jobs of a client, and the work of all."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from console.monitoring.bodies import DashboardBody
from console.monitoring.workload import WorkloadReader, read_workload
from infra.database.pool import Database
from tests.harnesses.job_site import JobSite, job_site

pytestmark = pytest.mark.integration

PATH = "/api/v1/monitoring/dashboard"


@pytest.fixture
async def site(tmp_path: Path, database: Database) -> AsyncIterator[JobSite]:
    async with job_site(tmp_path, database) as found:
        yield found


async def test_a_dashboard_has_the_jobs_of_the_client_and_the_work_of_all(site: JobSite) -> None:
    """C-S2-071."""
    key = await site.console.other_client("tablet")
    done = await site.job(2)
    await site.answer(*await site.publish())
    running = await site.job(4)
    frames = await site.publish()
    await site.answer(frames[0])
    failed = await site.job(1)
    await site.fail(*await site.publish())
    await site.job(1)
    await site.ask(await site.upload(3, client="tablet"), key=key)
    data = (await site.console.get(PATH)).json["data"]
    assert data["jobs"] == {"queued": 1, "processing": 1, "completed": 1, "failed": 1, "cancelled": 0}
    assert data["current_job"]["job_id"] == running
    assert data["current_job"]["progress"]["processed_images"] == 1
    assert (data["queue_length"], data["waiting_files"]) == (1 + 1, 3 + 1 + 3)
    assert data["completed_per_minute"] == pytest.approx(3 / 5)
    assert data["average_inference_seconds"] > 0
    assert data["active_workers"] is None
    assert [point["queue_length"] for point in data["queue_history"]] == [0] * 60 + [2]
    other = (await site.console.get(PATH, key=key)).json["data"]
    assert (other["jobs"]["queued"], other["current_job"], other["queue_length"]) == (1, None, 2)
    assert {done, failed}.isdisjoint(str(other))


async def test_the_response_fits_its_schema_in_the_document(site: JobSite) -> None:
    for _ in range(2):
        DashboardBody.model_validate((await site.console.get(PATH)).json)
        await site.job(1)
        await site.publish()


async def test_a_console_without_jobs_has_a_dashboard(site: JobSite) -> None:
    data = (await site.console.get(PATH)).json["data"]
    assert (data["current_job"], data["average_inference_seconds"]) == (None, None)
    assert (data["queue_length"], data["waiting_files"]) == (0, 0)
    assert (await site.console.get(PATH, key=None)).status == 401


async def test_the_history_goes_back_from_the_jobs_that_are_queued_now(site: JobSite) -> None:
    """Five jobs came before 3.5 minutes: one began 2.5 minutes ago, one has ended, one was cancelled, two wait."""
    jobs = [await site.job(1) for _ in range(5)]
    async with site.database.acquire(writing=True) as connection:
        await connection.execute("UPDATE jobs SET created_at = now() - interval '3 min 30 s'")
        moved = "UPDATE jobs SET status = $1, started_at = now() - $2::interval, finished_at = now() - $3::interval "
        for job, status, began, ended in (
            (jobs[0], "processing", timedelta(seconds=150), None),
            (jobs[1], "completed", timedelta(seconds=150), timedelta(seconds=30)),
            (jobs[2], "cancelled", None, timedelta(seconds=90)),
        ):
            await connection.execute(moved + "WHERE job_id = $4", status, began, ended, job)
        workload = await read_workload(connection)
    assert [count for _, count in workload.history[-6:]] == [0, 0, 5, 3, 2, 2]
    times = [at for at, _ in workload.history]
    assert {later - earlier for earlier, later in pairwise(times)} == {timedelta(minutes=1)}


async def test_the_workload_is_kept_for_some_seconds(site: JobSite) -> None:
    reader = WorkloadReader()
    async with site.database.acquire() as connection:
        before = await reader.read(connection)
        await site.job(2)
        assert await reader.read(connection) is before
