"""POST /api/v1/jobs/{job_id}/cancel and /retry: a job ends once, and failed files are done again as a new job."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from console.settings import ConsoleSettings
from infra.database.pool import Database
from tests.harnesses.job_site import JobSite, job_site
from tests.servers.console import ConsoleResponse

pytestmark = pytest.mark.integration


@pytest.fixture
async def site(tmp_path: Path, database: Database) -> AsyncIterator[JobSite]:
    async with job_site(tmp_path, database, ConsoleSettings(job_window=2)) as found:
        yield found


async def post(site: JobSite, job_id: str, verb: str, key: str = "") -> ConsoleResponse:
    return await site.console.post(f"/api/v1/jobs/{job_id}/{verb}", key=key)


async def test_a_cancelled_job_sends_nothing_more_and_stays_cancelled(site: JobSite) -> None:
    """C-S2-129: results of files that are with a detector are still written."""
    job_id = await site.job(5)
    frames = await site.publish()
    await site.answer(frames[0])
    response = await post(site, job_id, "cancel")
    data = response.json["data"]
    assert (response.status, data["status"]) == (200, "cancelled")
    assert data["cancelled_at"] >= data["started_at"]
    assert await site.publish() == []
    await site.answer(frames[1])
    late = await site.status(job_id)
    assert (late["status"], late["progress"]["processed_images"]) == ("cancelled", 2)
    files = await site.rows("SELECT status, count(*) FROM job_files GROUP BY status ORDER BY status")
    assert [(row["status"], row["count"]) for row in files] == [("cancelled", 3), ("completed", 2)]
    (event,) = await site.finished()
    assert (event.status, event.processed_images) == ("cancelled", 1)
    assert len(await site.rows("SELECT * FROM detections")) == 2


async def test_a_job_is_cancelled_once(site: JobSite) -> None:
    job_id = await site.job(2)
    responses = await asyncio.gather(*(post(site, job_id, "cancel") for _ in range(4)))
    assert {response.status for response in responses} == {200}
    assert len(await site.finished()) == 1
    done = await site.job(1)
    await site.answer(*await site.publish())
    assert (await post(site, done, "cancel")).code == "JOB_ENDED"
    assert (await site.status(done))["status"] == "completed"


async def test_jobs_of_others_are_neither_cancelled_nor_retried(site: JobSite) -> None:
    job_id, key = await site.job(), await site.console.other_client("tablet")
    for verb in ("cancel", "retry"):
        for name in (job_id, "job_none"):
            assert (await post(site, name, verb, key)).code == "JOB_NOT_FOUND"
    assert (await site.status(job_id))["status"] == "queued"


async def test_retry_makes_a_job_of_the_failed_files_with_the_same_options(site: JobSite) -> None:
    job_id = await site.job(4, config={"confidence_threshold": 0.3})
    first = await site.publish()
    await site.fail(first[0])
    await site.answer(first[1])
    second = await site.publish()
    await site.fail(*second)
    assert (await site.status(job_id))["status"] == "completed"
    response = await post(site, job_id, "retry")
    assert (response.status, response.json["data"]["file_count"]) == (202, 3)
    again = response.json["data"]["job_id"]
    assert (await post(site, job_id, "retry")).json["data"]["job_id"] == again
    frames = await site.publish()
    assert frames[0].options.confidence == 0.3
    while frames:
        await site.answer(*frames)
        frames = await site.publish()
    done = await site.status(again)
    assert (done["status"], done["retry_of"], done["summary"]["total_detections"]) == ("completed", job_id, 3)
    assert (await site.status(job_id))["progress"]["failed_images"] == 3


async def test_retry_needs_an_ended_job_with_failed_files_that_are_still_there(site: JobSite) -> None:
    job_id = await site.job(1)
    assert (await post(site, job_id, "retry")).code == "NOTHING_TO_RETRY"
    await site.answer(*await site.publish())
    assert (await post(site, job_id, "retry")).code == "NOTHING_TO_RETRY"
    failed = await site.job(1)
    await site.fail(*await site.publish())
    async with site.database.acquire(writing=True) as connection:
        await connection.execute("UPDATE uploads SET expires_at = now()")
    assert (await post(site, failed, "retry")).code == "UPLOAD_NOT_FOUND"


async def test_retry_of_a_cancelled_job_does_the_files_that_were_with_a_detector(site: JobSite) -> None:
    job_id = await site.job(3)
    first, second = await site.publish()
    await site.answer(first)
    await post(site, job_id, "cancel")
    response = await post(site, job_id, "retry")
    assert (response.status, response.json["data"]["file_count"]) == (202, 2)
    await site.answer(second)
    await site.answer(*await site.publish())
    assert (await site.status(response.json["data"]["job_id"]))["summary"]["total_detections"] == 2


async def test_cancel_while_results_come_leaves_one_end_and_true_counts(site: JobSite) -> None:
    for _ in range(5):
        job_id = await site.job(2)
        frames = await site.publish()
        await site.answer(frames[0])
        await asyncio.gather(site.answer(frames[1]), post(site, job_id, "cancel"))
        done = await site.status(job_id)
        assert done["status"] in ("completed", "cancelled")
        assert done["progress"]["processed_images"] == 2
    assert len(await site.finished()) == 5


WRONG_COUNTS = """
SELECT job_id FROM jobs AS j JOIN LATERAL (
    SELECT count(*) FILTER (WHERE status IN ('completed', 'failed')) AS ended,
        count(*) FILTER (WHERE status = 'completed') AS done, sum(num_detections) AS detections
    FROM job_files AS f WHERE f.job_id = j.id
) AS files ON true
WHERE ended <> processed_images OR ended - done <> failed_images OR detections <> total_detections
    OR (j.status = 'completed' AND ended <> total_images)
"""
OPEN_RETRIES = "SELECT retry_of FROM jobs WHERE finished_at IS NULL GROUP BY retry_of HAVING count(*) > 1"


async def test_twenty_clients_at_one_job_leave_true_counts_and_one_retry(site: JobSite) -> None:
    """They cancel and retry it, and the jobs that come of that, while frames are published and answered."""
    jobs, chosen, odd, done = [await site.job(4)], random.Random(7), set[str](), asyncio.Event()
    accepted = {"JOB_ENDED", "NOTHING_TO_RETRY"}

    async def click() -> None:
        for _ in range(12):
            response = await post(site, chosen.choice(jobs), chosen.choice(("cancel", "retry")))
            if response.status == 202 and response.json["data"]["job_id"] not in jobs:
                jobs.append(response.json["data"]["job_id"])
            elif response.status >= 400 and response.code not in accepted:
                odd.add(f"{response.status} {response.code}")

    async def work() -> None:
        while not done.is_set() or await site.rows("SELECT FROM jobs WHERE finished_at IS NULL LIMIT 1"):
            for frame in await site.publish():
                await (site.fail(frame) if chosen.random() < 0.3 else site.answer(frame))
            assert await site.rows(OPEN_RETRIES) == []

    working = asyncio.create_task(work())
    await asyncio.gather(*(click() for _ in range(20)))
    done.set()
    async with asyncio.timeout(30):
        await working
    assert (odd, await site.rows(WRONG_COUNTS)) == (set(), [])
    assert len(await site.finished()) == len(jobs) > 2
