"""GET /api/v1/jobs, /jobs/{job_id} and /jobs/{job_id}/files: a client's jobs and their files, by pages."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from console.jobs.bodies import AcceptedBody, FilesBody, JobBody, JobsBody
from infra.database.pool import Database
from tests.harnesses.job_site import JobSite, job_site

pytestmark = pytest.mark.integration

JOBS = "/api/v1/jobs"


@pytest.fixture
async def site(tmp_path: Path, database: Database) -> AsyncIterator[JobSite]:
    async with job_site(tmp_path, database) as found:
        yield found


async def listed(site: JobSite, query: str = "", key: str = "") -> dict[str, Any]:
    response = await site.console.get(JOBS + query, key=key)
    assert response.status == 200, response.body
    return dict(response.json["data"])


async def test_pages_have_each_job_once_from_the_newest(site: JobSite) -> None:
    made = [await site.job() for _ in range(5)]
    found: list[str] = []
    before = ""
    while True:
        page = await listed(site, f"?limit=2{before}")
        found += [job["job_id"] for job in page["jobs"]]
        if page["next_before"] is None:
            break
        before = f"&before={page['next_before']}"
    assert found == made[::-1]
    assert (await listed(site))["next_before"] is None


async def test_jobs_made_at_the_same_time_are_on_pages_once(site: JobSite) -> None:
    made = {await site.job() for _ in range(5)}
    async with site.database.acquire(writing=True) as connection:
        await connection.execute("UPDATE jobs SET created_at = '2026-11-30'")
    first = await listed(site, "?limit=3")
    second = await listed(site, f"?limit=3&before={first['next_before']}")
    found = [job["job_id"] for job in (*first["jobs"], *second["jobs"])]
    assert len(found) == 5 and set(found) == made


async def test_filters_of_status_upload_and_time(site: JobSite) -> None:
    upload = await site.upload(1)
    first = (await site.ask(upload)).json["data"]
    await site.answer(*await site.publish())
    second, third = await site.job(), await site.job()
    await site.console.post(f"{JOBS}/{third}/cancel")

    async def ids(query: str) -> list[str]:
        return [job["job_id"] for job in (await listed(site, query))["jobs"]]

    assert await ids("?status=completed") == [first["job_id"]]
    assert await ids("?status=queued&status=cancelled") == [third, second]
    assert await ids(f"?upload_id={upload.upload_id}") == [first["job_id"]]
    at = (await site.status(second))["created_at"]
    assert await ids(f"?created_to={at}") == [first["job_id"]]
    assert await ids(f"?created_from={at}") == [third, second]
    assert await ids("?upload_id=none") == []


async def test_a_client_lists_only_its_own_jobs(site: JobSite) -> None:
    job_id, key = await site.job(), await site.console.other_client("tablet")
    assert await listed(site, key=key) == {"jobs": [], "next_before": None}
    assert (await site.console.get(f"{JOBS}?before={job_id}", key=key)).code == "INVALID_CONFIG"
    for path in (f"{JOBS}/{job_id}", f"{JOBS}/{job_id}/files"):
        assert (await site.console.get(path, key=key)).code == "JOB_NOT_FOUND"


@pytest.mark.parametrize(
    ("query", "field", "error"),
    [
        ("limit=0", "limit", "Must be between 1 and 100"),
        ("limit=101", "limit", "Must be between 1 and 100"),
        ("limit=ten", "limit", "Must be a whole number"),
        ("status=done", "status", "Must be one of"),
        ("created_from=yesterday", "created_from", "Must be a time with its zone"),
        ("created_from=2026-11-30T12:00:00", "created_from", "Must be a time with its zone"),
        ("created_to=0.5", "created_to", "Must be a time with its zone"),
        ("before=job_none", "before", "Must be the id of a job of yours"),
        ("page=2", "page", "Is not known"),
    ],
)
async def test_wrong_queries_are_refused_by_parameter(site: JobSite, query: str, field: str, error: str) -> None:
    response = await site.console.get(f"{JOBS}?{query}")
    assert (response.status, response.code, response.json["field"]) == (400, "INVALID_CONFIG", field)
    assert response.json["errors"][0]["error"].startswith(error)


async def test_files_of_a_job_have_their_results_and_errors(site: JobSite) -> None:
    job_id = await site.job(4)
    frames = sorted(await site.publish(), key=lambda frame: str(frame.original_filename))
    await site.answer(frames[0], scores=(0.5, 0.6))
    await site.fail(frames[1])
    first = (await site.console.get(f"{JOBS}/{job_id}/files?limit=2")).json["data"]
    assert [file["status"] for file in first["files"]] == ["completed", "failed"]
    assert [file["detection_count"] for file in first["files"]] == [2, None]
    assert first["files"][1]["error"] == {"code": "FILE_ERROR", "message": "the JPEG ends early"}
    second = (await site.console.get(f"{JOBS}/{job_id}/files?after={first['next_after']}")).json["data"]
    assert [file["status"] for file in second["files"]] == ["processing", "processing"]
    assert second["next_after"] is None
    (failure,) = (await site.status(job_id))["failures"]
    assert (failure["filename"], failure["code"]) == ("picture1.jpg", "FILE_ERROR")


async def test_a_job_is_described_with_the_options_that_were_asked(site: JobSite) -> None:
    config = {"confidence_threshold": 0.4, "sahi": {"enabled": False}}
    job_id = await site.job(1, config=config)
    assert (await site.console.get(f"{JOBS}/{job_id}")).json["data"]["config"] == config


async def test_real_responses_are_as_the_document_describes_them(site: JobSite) -> None:
    """C-S2-072."""
    upload = await site.upload(2)
    AcceptedBody.model_validate_json((await site.ask(upload)).body)
    frames = await site.publish()
    await site.fail(frames[0])
    failed = await site.job(1)
    await site.fail(*await site.publish())
    await site.answer(frames[1])
    AcceptedBody.model_validate_json((await site.console.post(f"{JOBS}/{failed}/retry")).body)
    body = JobsBody.model_validate_json((await site.console.get(JOBS)).body)
    assert [job.status for job in body.data.jobs] == ["queued", "failed", "completed"]
    for job in body.data.jobs:
        for path in (f"{JOBS}/{job.job_id}", f"{JOBS}/{job.job_id}/status"):
            JobBody.model_validate_json((await site.console.get(path)).body)
        FilesBody.model_validate_json((await site.console.get(f"{JOBS}/{job.job_id}/files")).body)
    paths = (await site.console.get("/openapi.json")).json["paths"]
    assert "requestBody" in paths["/api/v1/inference/predict"]["post"]
    assert {"/api/v1/jobs/{job_id}/status", "/api/v1/jobs/{job_id}/retry"} <= set(paths)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("upload_id=%00", "upload_id"),
        ("before=job_%00", "before"),
        ("created_from=0001-01-01T00:00:00%2B14:00", "created_from"),
        ("created_to=9999-12-31T23:59:59-12:00", "created_to"),
    ],
)
async def test_filters_that_no_database_can_compare_are_wrong_fields(site: JobSite, query: str, field: str) -> None:
    response = await site.console.get(f"{JOBS}?{query}")
    assert (response.status, response.code, response.json["field"]) == (400, "INVALID_CONFIG", field)
