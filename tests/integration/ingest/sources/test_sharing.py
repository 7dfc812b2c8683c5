"""Pulls cameras with real processes that join, freeze, are killed, and lose their database."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path

import psutil
import pytest

from infra.database.embedded import EmbeddedPostgres
from infra.database.migrate import migrate_up
from tests.harnesses.source_site import SourceSite, source_site
from tests.servers.mjpeg import JpegCameras, jpeg_cameras

pytestmark = pytest.mark.integration

LEASE_S = 2.0


@pytest.fixture
async def cameras() -> AsyncIterator[JpegCameras]:
    async with jpeg_cameras() as found:
        yield found


@pytest.fixture
async def site(migrated_dsn: str, tmp_path: Path) -> AsyncIterator[SourceSite]:
    async with source_site(tmp_path, migrated_dsn) as found:
        yield found


async def accepted(site: SourceSite, name: str) -> int:
    return next(each.counts.get("accepted", 0) for each in await site.table.list() if each.name == name)


async def wait_for_more(site: SourceSite, name: str, more: int = 5) -> None:
    wanted = await accepted(site, name) + more
    await site.wait_for(
        lambda rows: any(each.name == name and each.counts.get("accepted", 0) >= wanted for each in rows)
    )


async def wait_for_shares(site: SourceSite, shares: list[int]) -> None:
    async with asyncio.timeout(20):
        while sorted(len(names) for names in (await site.held()).values()) != shares:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def wait_for_pullers(site: SourceSite, count: int) -> None:
    """Wait until so many processes have joined; starting one takes long on a busy machine."""
    async with asyncio.timeout(30), site.database.acquire() as connection:
        while await connection.fetchval("SELECT count(*) FROM video_pullers") < count:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def require_order(site: SourceSite) -> None:
    for frames in (await site.frames()).values():
        assert len({frame.frame_id for frame in frames}) == len(frames)
        for before, after in pairwise(frames):
            assert before.captured_at < after.captured_at
            assert before.video is not None
            assert after.video is not None
            assert before.video.presentation_time_s < after.video.presentation_time_s


async def test_processes_share_cameras_and_a_killed_one_is_replaced(cameras: JpegCameras, site: SourceSite) -> None:
    for number in range(4):
        await site.add(f"c{number}", f"{cameras.url}/cam{number}")
    first = site.start()
    await wait_for_shares(site, [4])
    await wait_for_more(site, "c3")
    site.start()
    await wait_for_shares(site, [2, 2])
    # Cameras that moved were left by one process before the other connected.
    assert max(cameras.most.values()) == 1
    await site.table.remove("c0")
    assert await site.wait_for(lambda rows: all(each.name != "c0" for each in rows), 5.0) < 3.0
    first.end()
    await wait_for_shares(site, [3])
    for name in ("c1", "c2", "c3"):
        await wait_for_more(site, name)
    assert cameras.connected["cam0"] == 0
    await require_order(site)


async def test_a_frozen_process_publishes_nothing_after_its_lease(cameras: JpegCameras, site: SourceSite) -> None:
    await site.add("gate", f"{cameras.url}/cam")
    frozen = site.start()
    await site.wait_for(lambda rows: rows[0].counts.get("accepted", 0) > 3)
    holder = (await site.table.list())[0].holder
    site.start()
    await wait_for_pullers(site, 2)
    frozen.send(signal.SIGSTOP)
    took_s = await site.wait_for(lambda rows: rows[0].is_held and rows[0].holder != holder)
    # The frozen one counts as there until its lease ends; the other one has no share before.
    assert took_s < LEASE_S + 5
    await wait_for_more(site, "gate", 10)
    frozen.send(signal.SIGCONT)
    await wait_for_more(site, "gate", 15)
    assert "is pulled here no longer" in frozen.log.read_text() or "its lease ended" in frozen.log.read_text()
    await require_order(site)
    assert frozen.end(signal.SIGTERM) == 0


def _processes_in(folder: Path) -> list[psutil.Process]:
    """Return the processes of the PostgreSQL in ``folder``."""
    return [
        process
        for process in psutil.process_iter(["name", "cwd"])
        if process.info["name"] == "postgres" and str(process.info["cwd"] or "").startswith(str(folder))
    ]


async def test_with_a_frozen_database_a_camera_is_pulled_until_the_lease_ends(
    cameras: JpegCameras, tmp_path: Path, server_dir: Path
) -> None:
    server_dir.chmod(0o755)
    postgres = EmbeddedPostgres(server_dir)
    dsn = await postgres.start()
    await asyncio.to_thread(migrate_up, dsn)
    try:
        async with source_site(tmp_path, dsn) as site:
            await site.add("gate", f"{cameras.url}/cam")
            site.start()
            await site.wait_for(lambda rows: rows[0].counts.get("accepted", 0) > 3)
            stopped = _processes_in(server_dir)
            assert stopped
            for process in stopped:
                process.suspend()
            before = len((await site.frames())["cam-gate"])
            await asyncio.sleep(0.8)
            during = len((await site.frames())["cam-gate"])
            assert during > before
            async with asyncio.timeout(10):
                while cameras.connected["cam"]:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            for process in stopped:
                process.resume()
            async with asyncio.timeout(15):
                while not cameras.connected["cam"]:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            await wait_for_more(site, "gate")
            await require_order(site)
    finally:
        await postgres.kill()
