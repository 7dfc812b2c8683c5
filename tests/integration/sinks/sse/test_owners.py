"""Jobs and runs of media are found for the client that they belong to, by its names and by their ids."""

from __future__ import annotations

from uuid import uuid4

import pytest

from infra.auth.tokens import ApiKeys
from infra.database.pool import Database
from sinks.sse.access.owners import DatabaseOwners

pytestmark = pytest.mark.integration

_JOB = "INSERT INTO jobs (id, job_id, client_id, config, total_images) VALUES ($1, $2, $3, '{}', 1)"
_RUN = """
INSERT INTO media_runs (id, client_id, media_id, config, finished_at, state) VALUES ($1, $2, $3, '{}', now(), 'error')
"""


async def test_find_shows_nothing_of_another_client(database: Database) -> None:
    job, first, second, of_guest = uuid4(), uuid4(), uuid4(), uuid4()
    for client in ("desk", "guest"):
        await ApiKeys(database).add(client)
    async with database.acquire() as connection:
        await connection.execute(_JOB, job, "job_abcd1234", "desk")
        for run, client in ((first, "desk"), (second, "desk"), (of_guest, "guest")):
            await connection.execute(_RUN, run, client, "film")
    owners = DatabaseOwners(database)
    assert set(await owners.find("desk", ["job_abcd1234"], [], ["film"])) == {
        (job, "job_abcd1234"),
        (first, "film"),
        (second, "film"),
    }
    assert set(await owners.find("desk", [], [job, first, of_guest], [])) == {(job, "job_abcd1234"), (first, "film")}
    assert set(await owners.find("guest", ["job_abcd1234"], [job], ["film"])) == {(of_guest, "film")}
    assert await owners.media_of([job, first, of_guest]) == {first: ("desk", "film"), of_guest: ("guest", "film")}
    assert not await owners.find("nobody", ["job_abcd1234"], [job], ["film"])
