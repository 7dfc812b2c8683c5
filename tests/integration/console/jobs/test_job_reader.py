"""Many requests for the status of jobs share one query, and none gets a row that is older than itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from console.jobs.errors import JobNotFoundError
from console.jobs.job_reader import JobReader
from infra.database.pool import Database
from infra.errors import DatabaseUnavailableError
from tests.harnesses.job_site import JobSite, job_site

pytestmark = pytest.mark.integration


@pytest.fixture
async def site(tmp_path: Path, database: Database) -> AsyncIterator[JobSite]:
    async with job_site(tmp_path, database) as found:
        yield found


@pytest.fixture
def reader(site: JobSite) -> JobReader:
    return JobReader(site.console.parts)


def count_queries(monkeypatch: pytest.MonkeyPatch, *errors: Exception) -> list[int]:
    """Count each use of the database in the list's one number; the first ones fail with ``errors``."""
    used, acquire, failing = [0], Database.acquire, list(errors)

    def counted(self: Database, **options: Any) -> Any:
        used[0] += 1
        if failing:
            raise failing.pop(0)
        return acquire(self, **options)

    monkeypatch.setattr(Database, "acquire", counted)
    return used


async def test_requests_at_the_same_time_need_two_queries(
    site: JobSite, reader: JobReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_ids = [await site.job(1) for _ in range(3)]
    used = count_queries(monkeypatch)
    first = asyncio.create_task(reader.find("desktop", job_ids[0]))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    rows = await asyncio.gather(*(reader.find("desktop", job_ids[number % 3]) for number in range(100)))
    assert [row.job_id for row in rows] == [job_ids[number % 3] for number in range(100)]
    assert (await first).job_id == job_ids[0]
    assert used[0] <= 2


async def test_a_job_of_another_client_in_the_same_query_is_not_found(site: JobSite, reader: JobReader) -> None:
    await site.console.other_client("tablet")
    job_id = await site.job(1)
    own, other, unknown, none = await asyncio.gather(
        *(reader.find("desktop", job_id), reader.find("tablet", job_id)),
        *(reader.find("desktop", "job_unknown"), reader.find("desktop", "../x")),
        return_exceptions=True,
    )
    assert not isinstance(own, BaseException) and own.job_id == job_id
    assert {type(each) for each in (other, unknown, none)} == {JobNotFoundError}


async def test_a_request_after_a_change_never_gets_the_row_before_it(site: JobSite, reader: JobReader) -> None:
    job_id = await site.job(20)
    frames = await site.publish()
    for number, frame in enumerate(frames, start=1):
        before = [asyncio.create_task(reader.find("desktop", job_id)) for _ in range(3)]
        await asyncio.sleep(0)
        await site.answer(frame)
        assert (await reader.find("desktop", job_id)).processed_images == number
        await asyncio.gather(*before)


async def test_an_error_of_the_database_is_that_of_its_requests_only(
    site: JobSite, reader: JobReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = await site.job(1)
    count_queries(monkeypatch, DatabaseUnavailableError("it is away"))
    found = await asyncio.gather(*(reader.find("desktop", job_id) for _ in range(3)), return_exceptions=True)
    assert {type(each) for each in found} == {DatabaseUnavailableError}
    assert (await reader.find("desktop", job_id)).job_id == job_id


async def test_a_request_that_is_given_up_keeps_no_other_from_its_job(site: JobSite, reader: JobReader) -> None:
    job_id = await site.job(1)
    gone, stays = (asyncio.create_task(reader.find("desktop", job_id)) for _ in range(2))
    await asyncio.sleep(0)
    gone.cancel()
    assert (await stays).job_id == job_id
