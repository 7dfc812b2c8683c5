"""Addresses of `source`: only those that may be reached, within limits of size and time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from infra.database.pool import Database
from tests.harnesses.media_site import MediaSite, media_site, running, video
from tests.servers.http import serving

pytestmark = pytest.mark.integration


@pytest.fixture
async def inside(tmp_path: Path, database: Database) -> AsyncIterator[MediaSite]:
    """A console that may reach this machine."""
    async with media_site(tmp_path, database, networks=("127.0.0.1/32",), max_bytes=50_000, fetch_timeout_s=2) as found:
        yield found


async def error_of(site: MediaSite, source: str) -> str:
    response = await site.start("clip", json={"source": source})
    assert response.status == 202, response.body
    async with running(*site.components()):
        [event] = await site.events("clip")
    assert event["mediaStatus"] == "Error"
    rows = await site.rows("SELECT source FROM media_runs")
    assert {row["source"] for row in rows} == {None}
    return f"{event['error']['code']}: {event['error']['message']}"


async def test_a_video_at_an_allowed_address_is_detected(inside: MediaSite, tmp_path: Path) -> None:
    """C-S3-004; the caller's token does not go to the address."""
    seen: list[str | None] = []
    data = video(tmp_path, 2)

    async def handle(request: web.Request) -> web.StreamResponse:
        seen.append(request.headers.get("Authorization"))
        if request.path == "/moved":
            return web.Response(status=302, headers={"Location": "/clip.mp4?sign=secret"})
        return web.Response(body=data)

    async with serving(handle) as url:
        response = await inside.start(
            "clip", json={"source": f"{url}/moved"}, headers={"Authorization": "Bearer caller"}
        )
        assert response.status == 202
        async with running(*inside.components()):
            assert (await inside.events("clip"))[-1]["mediaStatus"] == "AIProcessed"
    assert seen == [None, None]


@pytest.mark.parametrize(
    "source",
    [
        "http://127.0.0.1:9/clip.mp4",
        "http://localhost:9/clip.mp4",
        "http://[::1]:9/clip.mp4",
        "http://[::ffff:127.0.0.1]:9/clip.mp4",
        "http://169.254.169.254/latest/meta-data",
        "http://10.0.0.1/clip.mp4",
        "http://2130706433:9/clip.mp4",
        "http://0.0.0.0:9/",
    ],
)
async def test_addresses_inside_are_refused(source: str, tmp_path: Path, database: Database) -> None:
    async with media_site(tmp_path, database) as site:
        assert "MEDIA_FETCH_FAILED" in (text := await error_of(site, source))
        assert "media.networks" in text or "the address cannot be read" in text


async def test_a_redirect_to_another_address_inside_is_refused(inside: MediaSite) -> None:
    no_address = ("file:///etc/passwd", "gopher://127.0.0.1/", "http://[bad", "//[::1")
    targets = iter(("http://127.0.0.2:9/", "http://[::1]:9/", *no_address, "http://[fe80::1%25none]/", "//[::1%25no]/"))

    async def handle(_: web.Request) -> web.StreamResponse:
        return web.Response(status=307, headers={"Location": next(targets)})

    async with serving(handle) as url:
        for said in ("media.networks",) * 2 + ("no address of http",) * 4 + ("no address that can be reached",) * 2:
            assert said in (text := await error_of(inside, url))
            assert text.startswith("MEDIA_FETCH_FAILED: ")


async def test_redirects_in_a_circle_end(inside: MediaSite) -> None:
    async def handle(_: web.Request) -> web.StreamResponse:
        return web.Response(status=302, headers={"Location": "/again"})

    async with serving(handle) as url:
        assert "more than 5 times" in await error_of(inside, url)


async def test_endless_slow_and_empty_content_ends_with_an_error(inside: MediaSite) -> None:
    async def handle(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        if request.path == "/declared":
            response.content_length = 10**12
        await response.prepare(request)
        while request.path == "/endless":
            await response.write(bytes(10_000))
        if request.path in ("/slow", "/declared"):
            await asyncio.sleep(10)
        return response

    async with serving(handle) as url:
        assert "media.max_bytes" in await error_of(inside, f"{url}/endless")
        assert "media.max_bytes" in await error_of(inside, f"{url}/declared")
        assert "no bytes" in await error_of(inside, f"{url}/empty")
        assert "media.fetch_timeout_s" in await error_of(inside, f"{url}/slow")


async def test_secrets_in_an_address_are_in_no_error(inside: MediaSite) -> None:
    async def handle(_: web.Request) -> web.StreamResponse:
        return web.Response(status=403)

    async with serving(handle) as url:
        assert "hush" not in await error_of(inside, f"{url}/clip.mp4?signature=hush")
