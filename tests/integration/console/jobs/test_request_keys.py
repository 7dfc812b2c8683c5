"""Idempotency-Key: a request that is sent again, because its response was lost, makes no second job."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from infra.database.pool import Database
from tests.harnesses.job_site import JobSite, Upload, job_site
from tests.servers.console import ConsoleResponse

pytestmark = pytest.mark.integration


@pytest.fixture
async def site(tmp_path: Path, database: Database) -> AsyncIterator[JobSite]:
    async with job_site(tmp_path, database) as found:
        yield found


async def ask(site: JobSite, upload: Upload, key: str, confidence: float = 0.5, client: str = "") -> ConsoleResponse:
    body = {"upload_id": upload.upload_id, "config": {"confidence_threshold": confidence}}
    headers = {"Idempotency-Key": key}
    return await site.console.post("/api/v1/inference/predict", json=body, key=client, headers=headers)


async def count_jobs(site: JobSite) -> int:
    async with site.database.acquire() as connection:
        return int(await connection.fetchval("SELECT count(*) FROM jobs"))


async def test_a_request_that_is_sent_again_has_the_job_of_the_first_one(site: JobSite) -> None:
    upload = await site.upload(2)
    first = await ask(site, upload, "9b2f-1")
    again = await ask(site, upload, "9b2f-1")
    assert (first.status, again.status) == (202, 202)
    assert first.json["data"]["job_id"] == again.json["data"]["job_id"]
    assert again.json["data"]["file_count"] == 2
    other = await ask(site, upload, "9b2f-2")
    assert other.json["data"]["job_id"] != first.json["data"]["job_id"]
    assert await count_jobs(site) == 2


async def test_equal_requests_at_the_same_moment_make_one_job(site: JobSite) -> None:
    upload = await site.upload(2)
    responses = await asyncio.gather(*(ask(site, upload, "one") for _ in range(8)))
    assert {each.status for each in responses} == {202}
    assert len({each.json["data"]["job_id"] for each in responses}) == 1
    assert await count_jobs(site) == 1


async def test_a_request_that_is_sent_again_after_its_upload_was_removed_has_its_job(site: JobSite) -> None:
    upload = await site.upload(1)
    first = await ask(site, upload, "late")
    async with site.database.acquire(writing=True) as connection:
        await connection.execute("UPDATE uploads SET expires_at = now() - interval '1 day'")
    again = await ask(site, upload, "late")
    assert (again.status, again.json["data"]["job_id"]) == (202, first.json["data"]["job_id"])
    assert (await ask(site, upload, "new")).code == "UPLOAD_NOT_FOUND"


async def test_a_key_of_another_request_or_no_key_is_refused(site: JobSite) -> None:
    upload = await site.upload(1)
    first = await ask(site, upload, "same")
    changed = await ask(site, upload, "same", confidence=0.6)
    assert (changed.status, changed.code) == (409, "IDEMPOTENCY_KEY_REUSED")
    assert first.json["data"]["job_id"] in changed.json["message"]
    for wrong in ("x" * 256, "two words"):
        refused = await ask(site, upload, wrong)
        assert (refused.status, refused.code) == (400, "INVALID_CONFIG")
        assert refused.json["errors"][0]["field"] == "Idempotency-Key"
    assert await count_jobs(site) == 1


async def test_clients_choose_their_keys_by_themselves(site: JobSite) -> None:
    other = await site.console.other_client()
    assert (await ask(site, await site.upload(1), "1")).status == 202
    # Its own request, which fails for a reason of its own: the upload is of the first client.
    assert (await ask(site, await site.upload(1), "1", client=other)).code == "UPLOAD_NOT_FOUND"
