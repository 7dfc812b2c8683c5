"""Bodies of media: too large, cut off, slow; nothing of them stays."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from console.settings import ConsoleSettings
from infra.database.pool import Database
from standgale.testing.waiting import until
from tests.harnesses.media_site import MediaSite, media_site
from tests.servers.console import running_console

pytestmark = pytest.mark.integration


@pytest.fixture
async def site(tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[MediaSite]:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    async with media_site(tmp_path, database, max_bytes=100_000, receive_timeout_s=1) as found:
        yield found
    assert list((tmp_path / "temporary").iterdir()) == []


async def pieces(count: int, pause_s: float = 0.0) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield bytes(10_000)
        await asyncio.sleep(pause_s)


async def test_a_body_that_is_too_large_is_refused_with_or_without_its_length(site: MediaSite) -> None:
    declared = await site.start("clip", bytes(100_001))
    undeclared = await site.console.post("/detect/clip", data=pieces(20), headers={"Content-Type": "video/mp4"})
    for response in (declared, undeclared):
        assert (response.status, response.code) == (400, "FILE_TOO_LARGE")
        assert "media.max_bytes" in response.json["error"]["message"]
    assert await site.rows("SELECT id FROM media_runs") == []


async def test_a_slow_body_ends_in_time(site: MediaSite) -> None:
    slow = await site.console.post("/detect/clip", data=pieces(9, 0.5), headers={"Content-Type": "video/mp4"})
    assert (slow.status, slow.code) == (408, "UPLOAD_TIMEOUT")


async def test_nothing_stays_of_a_body_that_is_cut_off(site: MediaSite, tmp_path: Path) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", site.console.port)
    head = f"POST /detect/clip HTTP/1.1\r\nHost: x\r\nX-API-Key: {site.console.key}\r\nContent-Type: video/mp4\r\n"
    writer.write(f"{head}Content-Length: 50000\r\n\r\n".encode() + bytes(1_000))
    await until(lambda: any((tmp_path / "temporary").iterdir()))
    writer.close()
    await until(lambda: not any((tmp_path / "temporary").iterdir()))
    assert await site.rows("SELECT id FROM media_runs") == []
    assert list((tmp_path / "frames").rglob("*.bin")) == []


async def test_web_pages_may_send_the_headers_of_media(tmp_path: Path, database: Database) -> None:
    settings = ConsoleSettings(cors_origins=("https://map.example",))
    async with running_console(tmp_path, database, settings=settings) as console:
        asked = {
            "Origin": "https://map.example",
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "x-refresh-token, last-event-id, x-api-key, authorization",
        }
        assert (await console.request("OPTIONS", "/detect/clip", headers=asked)).status == 200
