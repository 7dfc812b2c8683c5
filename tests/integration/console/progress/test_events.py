"""GET /api/v1/jobs/{job_id}/events: what a client that watches a job sees, and what watchers cost."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from console.settings import ConsoleSettings
from infra.auth.tokens import ApiKeys
from infra.database.pool import Database
from infra.errors import DatabaseUnavailableError
from infra.process.health import Health
from standgale.testing.waiting import until
from tests.harnesses.job_site import JobSite, job_site

pytestmark = pytest.mark.integration

SETTINGS = ConsoleSettings(watch_interval_s=0.1, heartbeat_s=0.2, max_watchers=6, max_client_watchers=4)


@pytest.fixture
async def site(tmp_path: Path, database: Database) -> AsyncIterator[JobSite]:
    async with job_site(tmp_path, database, SETTINGS) as found:
        yield found


@dataclass(frozen=True)
class Event:
    name: str
    id: str
    data: dict[str, Any]

    @property
    def processed(self) -> int:
        return int(self.data["progress"]["processed_images"])


class Stream:
    """One open stream; ``next`` skips heartbeats."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response
        self.comments = 0

    async def next(self) -> Event | None:
        """Return the next event; None at the end."""
        fields: dict[str, str] = {}
        async with asyncio.timeout(10):
            async for line in self.response.content:
                name, _, value = line.decode().rstrip("\n").partition(": ")
                if name:
                    fields[name] = value
                elif "data" in fields:
                    return Event(fields["event"], fields["id"], json.loads(fields["data"]))
                else:
                    self.comments += "" in fields or (line == b"\n" and "retry" not in fields)
                    fields = {}
        return None


@asynccontextmanager
async def watching(site: JobSite, job_id: str, *, key: str = "", last: str | None = None) -> AsyncIterator[Stream]:
    headers = {"X-API-Key": key or site.console.key} | ({"Last-Event-ID": last} if last else {})
    url = f"{site.console.url}/api/v1/jobs/{job_id}/events"
    async with site.console.http.get(url, headers=headers) as response:
        yield Stream(response)


async def test_a_watcher_sees_the_job_at_once_each_change_and_its_end(site: JobSite) -> None:
    """C-S2-127: the data are those of the status; the stream ends with the job."""
    job_id = await site.job(3)
    async with watching(site, job_id) as stream:
        assert stream.response.status == 200
        assert stream.response.headers["Content-Type"].startswith("text/event-stream")
        first = await stream.next()
        assert first is not None
        assert (first.name, first.data) == ("progress", await site.status(job_id))
        frames = await site.publish()
        begun = await stream.next()
        assert begun is not None and begun.data["status"] == "processing"
        await site.answer(frames[0])
        one = await stream.next()
        assert one is not None and one.processed == 1
        await site.answer(frames[1])
        await site.fail(frames[2])
        seen = []
        while event := await stream.next():
            seen.append(event)
    assert [event.name for event in seen[:-1]] == ["progress"] * (len(seen) - 1)
    end = seen[-1]
    assert (end.name, end.data["status"], end.processed) == ("end", "completed", 3)
    assert end.data["summary"] == (await site.status(job_id))["summary"]


async def test_a_cancelled_job_ends_its_streams(site: JobSite) -> None:
    job_id = await site.job(2)
    async with watching(site, job_id) as stream:
        assert await stream.next()
        await site.console.post(f"/api/v1/jobs/{job_id}/cancel")
        end = await stream.next()
        assert end is not None and (end.name, end.data["status"]) == ("end", "cancelled")
        assert await stream.next() is None


async def test_a_watcher_that_connects_again_gets_only_what_it_has_not_seen(site: JobSite) -> None:
    job_id = await site.job(2)
    frames = await site.publish()
    async with watching(site, job_id) as stream:
        seen = await stream.next()
        assert seen is not None
    async with watching(site, job_id, last=seen.id) as stream:
        next_one = asyncio.create_task(stream.next())
        await until(lambda: stream.comments > 0, "a heartbeat")
        assert not next_one.done()
        await site.answer(frames[0])
        event = await next_one
        assert event is not None and event.processed == 1
    await site.answer(frames[1])
    async with watching(site, job_id, last=event.id) as stream:
        end = await stream.next()
        assert end is not None and end.name == "end"
    async with watching(site, job_id, last=end.id) as stream:
        assert stream.response.status == 204
    response = await site.console.get(f"/api/v1/jobs/{job_id}/events?last_event_id={end.id}")
    assert response.status == 204
    async with watching(site, job_id, last="none of ours") as stream:
        assert await stream.next() == end


async def test_jobs_of_others_and_wrong_requests_have_errors(site: JobSite) -> None:
    job_id, key = await site.job(1), await site.console.other_client("tablet")
    path = f"/api/v1/jobs/{job_id}/events"
    assert (await site.console.get(path, key=key)).code == "JOB_NOT_FOUND"
    assert (await site.console.get("/api/v1/jobs/job_none/events")).code == "JOB_NOT_FOUND"
    assert (await site.console.get(path, key=None)).status == 401
    for wrong in ("?last_event_id=" + "x" * 300, "?from=0"):
        assert (await site.console.get(path + wrong)).code == "INVALID_CONFIG"
    assert (await site.console.get(path, headers={"Last-Event-ID": "x" * 300})).code == "INVALID_CONFIG"


async def test_streams_are_limited_for_a_client_and_for_all(site: JobSite) -> None:
    job_id, key = await site.job(1), await site.console.other_client("tablet")
    upload = await site.upload(1, client="tablet")
    other = (await site.ask(upload, key=key)).json["data"]["job_id"]
    streams = [watching(site, job_id) for _ in range(4)]
    try:
        for stream in streams:
            await (await stream.__aenter__()).next()
        refused = await site.console.get(f"/api/v1/jobs/{job_id}/events")
        assert (refused.status, refused.code) == (503, "TOO_MANY_WATCHERS")
        assert refused.headers["Retry-After"] == "5"
        assert "console.max_client_watchers" in refused.json["error"]["message"]
        for _ in range(2):
            streams.append(watching(site, other, key=key))
            await (await streams[-1].__aenter__()).next()
        refused = await site.console.get(f"/api/v1/jobs/{other}/events", key=key)
        assert "console.max_watchers" in refused.json["error"]["message"]
    finally:
        for stream in streams:
            await stream.__aexit__(None, None, None)

    async def has_room() -> bool:
        async with watching(site, job_id) as stream:
            return stream.response.status == 200

    # Those that have gone no longer count.
    await until(has_room, "room")


async def test_many_watchers_of_many_jobs_cost_one_query_at_a_time(
    site: JobSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_ids = [await site.job(1) for _ in range(2)]
    queries, acquire = 0, Database.acquire

    def counted(self: Database, **options: Any) -> Any:
        nonlocal queries
        queries += 1
        return acquire(self, **options)

    async with (
        watching(site, job_ids[0]) as one,
        watching(site, job_ids[0]) as two,
        watching(site, job_ids[1]) as three,
    ):
        for stream in (one, two, three):
            await stream.next()
        monkeypatch.setattr(site.console.watch._database, "acquire", counted.__get__(site.database))
        await asyncio.sleep(0.55)
        monkeypatch.undo()
    # Beside the keys, which are read every 0.1 s only on demand.
    assert 2 <= queries <= 7


async def test_a_row_read_earlier_never_makes_progress_fall(site: JobSite) -> None:
    job_id = await site.job(2)
    frames = await site.publish()
    async with watching(site, job_id) as old, watching(site, job_id) as new:
        assert await old.next() and await new.next()
        (job,) = site.console.watch._jobs.values()
        earlier = job.row
        await site.answer(frames[0])
        event = await old.next()
        assert event is not None and event.processed == 1
        site.console.watch._update(job, earlier)
        assert job.row.processed_images == 1


async def test_a_database_that_is_away_makes_the_watch_wait(
    site: JobSite, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = await site.job(1)
    (frame,) = await site.publish()
    async with watching(site, job_id) as stream:
        assert await stream.next()
        watch, health, stop = site.console.watch, Health().part("watch"), asyncio.Event()
        real = watch.read

        async def away() -> None:
            raise DatabaseUnavailableError("it is away")

        monkeypatch.setattr(watch, "read", away)
        task = asyncio.create_task(watch.run(stop, health))
        await until(lambda: health.reason == "it is away", "not ready")
        await site.answer(frame)
        monkeypatch.setattr(watch, "read", real)
        end = await stream.next()
        assert end is not None and end.name == "end"
        await until(lambda: health.reason is None, "ready")
        stop.set()
        await task


async def test_a_revoked_key_ends_its_streams_and_no_others(site: JobSite) -> None:
    console = site.console
    job_id, keys = await site.job(1), ApiKeys(site.database)
    (first,) = await keys.list()
    second = await keys.rotate("desktop")
    await console.keys.refresh()
    async with watching(site, job_id) as revoked, watching(site, job_id, key=second) as valid:
        assert await revoked.next() and await valid.next()
        await keys.revoke("desktop", first.token_id)
        await console.keys.refresh()
        assert await revoked.next() is None
        await console.post(f"/api/v1/jobs/{job_id}/cancel", key=second)
        end = await valid.next()
        assert end is not None and end.name == "end"


async def test_a_stop_ends_all_streams(tmp_path: Path, database: Database) -> None:
    async with job_site(tmp_path, database, SETTINGS) as site:
        job_id = await site.job(1)
        async with watching(site, job_id) as stream:
            assert await stream.next()
            stop, health = asyncio.Event(), Health().part("watch")
            task = asyncio.create_task(site.console.watch.run(stop, health))
            await until(lambda: health.reason is None, "ready")
            stop.set()
            await task
            assert await stream.next() is None
