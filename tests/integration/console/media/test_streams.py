"""Streams of events: what a client gets that is slow, comes again, or watches all its media."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from console.media.streams import PAGE
from infra.auth.tokens import ApiKeys
from infra.database.pool import Database
from standgale.testing.waiting import until
from tests.harnesses.media_site import MediaSite, media_site, read_events, running, video

pytestmark = pytest.mark.integration


@pytest.fixture
async def site(tmp_path: Path, database: Database) -> AsyncIterator[MediaSite]:
    async with media_site(tmp_path, database, send_timeout_s=2, max_streams=2) as found:
        yield found


async def test_a_client_that_comes_again_gets_what_it_has_not_seen(site: MediaSite, tmp_path: Path) -> None:
    """C-S3-006."""
    await site.start("clip", video(tmp_path, 4))
    async with running(*site.components()):
        seen = [(event_id, event) async for event_id, event in site.stream("/detect/clip/stream")]
    rest = await site.events("clip", headers={"Last-Event-ID": seen[1][0]})
    assert rest == [event for _, event in seen[2:]]
    # An id of another run, or none at all, is not known.
    for other in ("0" * 32 + "-3", "x", "-", "1-" + "9" * 50):
        assert len(await site.events("clip", headers={"Last-Event-ID": other})) == 5


async def test_the_stream_of_all_media_has_those_of_the_client_only(site: MediaSite, tmp_path: Path) -> None:
    """C-S3-006."""
    other = await site.console.other_client()
    found: list[dict[str, Any]] = []

    async def watch() -> None:
        async for _, event in site.stream("/detect/stream"):
            found.append(event)

    async with running(*site.components()):
        await site.start("before", video(tmp_path, 1))
        await site.events("before")
        task = asyncio.create_task(watch())
        await asyncio.sleep(0.3)
        for media_id, key in (("one", ""), ("two", ""), ("foreign", other)):
            await site.start(media_id, video(tmp_path, 2), key=key)
        await until(lambda: len(found) == 6)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert {event["mediaId"] for event in found} == {"one", "two"}
    assert [event["mediaStatus"] for event in found if event["mediaId"] == "one"][-1] == "AIProcessed"


async def test_media_of_others_and_unknown_ones_are_not_found(site: MediaSite, tmp_path: Path) -> None:
    await site.start("clip", video(tmp_path, 1))
    other = await site.console.other_client()
    for media_id, key in (("clip", other), ("unknown", "")):
        response = await site.console.get(f"/detect/{media_id}/stream", key=key)
        assert (response.status, response.code) == (404, "MEDIA_NOT_FOUND")
    assert (await site.console.get("/detect/stream", key=None)).status == 401


async def test_more_streams_than_there_may_be_are_refused(site: MediaSite) -> None:
    headers = {"X-API-Key": site.console.key}
    async with (
        site.console.http.get(f"{site.console.url}/detect/stream", headers=headers),
        site.console.http.get(f"{site.console.url}/detect/stream", headers=headers),
    ):
        refused = await site.console.get("/detect/stream")
        assert (refused.status, refused.code) == (503, "OVERLOADED")


async def add_events(site: MediaSite, count: int) -> None:
    """Give a medium ``count`` events with long texts."""
    async with site.console.database.acquire(writing=True) as connection:
        await connection.execute(
            "INSERT INTO media_frames (run_id, position, frame_id, device_id, captured_at, video_time_s, image_uri, "
            "sha256, size_bytes, media_type, width, height, status, error_code, error_message, event, percent) "
            "SELECT id, n, gen_random_uuid(), 'jobs-00', now(), n, '-', '-', 1, 'image/jpeg', 1, 1, 'failed', "
            "'FILE_ERROR', repeat('x', 4000), n, 0 FROM media_runs, generate_series(1, $1::int) AS n",
            count,
        )
        await connection.execute("UPDATE media_runs SET events = $1", count)


async def test_a_slow_client_loses_nothing_and_one_that_does_not_read_is_disconnected(
    site: MediaSite, tmp_path: Path
) -> None:
    """C-S3-008: at most a hundred events wait in memory; the others wait in the database."""
    assert PAGE == 100
    await site.start("clip", video(tmp_path, 1))
    await add_events(site, 1_000)
    headers = {"X-API-Key": site.console.key}
    url = f"{site.console.url}/detect/clip/stream"
    async with aiohttp.ClientSession(read_bufsize=2_048) as http:
        async with http.get(url, headers=headers) as response:
            events = read_events(response)
            last = (await anext(events))[0]
            # It takes nothing any more; the buffers of the kernel are full after some hundred events.
            await asyncio.sleep(4)
            with pytest.raises((aiohttp.ClientError, ConnectionError, StopAsyncIteration)):
                while True:
                    last = (await anext(events))[0]
        number = int(last.rpartition("-")[2])
        assert number < 1_000
        async with http.get(url, headers={**headers, "Last-Event-ID": last}) as response:
            rest = read_events(response)
            numbers = [int((await anext(rest))[0].rpartition("-")[2]) for _ in range(1_000 - number)]
    assert numbers == list(range(number + 1, 1_001))


async def test_streams_end_when_the_process_stops(tmp_path: Path, database: Database) -> None:
    async with media_site(tmp_path, database) as site:
        response = await site.console.http.get(
            f"{site.console.url}/detect/stream", headers={"X-API-Key": site.console.key}
        )
        began = asyncio.get_running_loop().time()
    assert asyncio.get_running_loop().time() - began < 3
    response.close()


@pytest.mark.parametrize("path", ["/detect/stream", "/detect/clip/stream"])
async def test_a_revoked_key_ends_its_streams(site: MediaSite, tmp_path: Path, path: str) -> None:
    await site.start("clip", video(tmp_path, 1))
    async with site.console.http.get(site.console.url + path, headers={"X-API-Key": site.console.key}) as response:
        assert response.status == 200
        reading = asyncio.create_task(response.content.read())
        await asyncio.sleep(0.3)
        assert not reading.done()
        await ApiKeys(site.console.database).revoke("desktop")
        await site.console.keys.refresh()
        async with asyncio.timeout(5):
            await reading
