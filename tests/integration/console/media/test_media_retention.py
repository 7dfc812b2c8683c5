"""Bytes of videos are removed some hours after their end, and media are forgotten after some days."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from console.media.retention import MediaRetention
from infra.database.pool import Database
from tests.harnesses.media_site import RETRY, MediaSite, media_site, running, video

pytestmark = pytest.mark.integration


@pytest.fixture
async def site(tmp_path: Path, database: Database) -> AsyncIterator[MediaSite]:
    async with media_site(tmp_path, database) as found:
        yield found


def retention(site: MediaSite) -> MediaRetention:
    return MediaRetention(site.console.database, site.console.store, 7.0, RETRY)


async def age(site: MediaSite, hours: float, media_id: str = "clip") -> None:
    async with site.console.database.acquire(writing=True) as connection:
        await connection.execute(
            "UPDATE media_runs SET finished_at = finished_at - make_interval(hours => $1::int) WHERE media_id = $2",
            int(hours),
            media_id,
        )


def videos(folder: Path) -> list[Path]:
    """The stored videos, made old."""
    found = list((folder / "frames").rglob("*.bin"))
    for path in found:
        os.utime(path, (time.time() - 86_400,) * 2)
    return found


async def test_bytes_of_a_video_are_removed_after_its_end_and_its_events_later(site: MediaSite, tmp_path: Path) -> None:
    data = video(tmp_path, 2)
    await site.start("clip", data)
    assert await retention(site).work() == 0
    async with running(*site.components()):
        await site.events("clip")
        # Another client's, or the same medium again: it needs the same bytes.
        await site.start("again", data)
        await age(site, 3)
        assert len(videos(tmp_path)) == 1
        assert await retention(site).work() == 1
        assert len(videos(tmp_path)) == 1
        await site.events("again")
    await age(site, 3, "again")
    assert await retention(site).work() == 1
    assert videos(tmp_path) == []
    assert len(await site.events("clip")) == 3
    await age(site, 24 * 7)
    assert await retention(site).work() == 1
    assert (await site.console.get("/detect/clip/stream")).code == "MEDIA_NOT_FOUND"
    assert (
        await site.rows(
            "SELECT position FROM media_frames f JOIN media_runs r ON r.id = f.run_id WHERE r.media_id = 'clip'"
        )
        == []
    )
    assert await retention(site).work() == 0
