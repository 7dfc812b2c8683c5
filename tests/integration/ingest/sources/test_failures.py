"""Checks that sources which cannot be read say why, and that they disturb neither the others nor the process."""

from __future__ import annotations

from pathlib import Path

import aiohttp
import pytest

from infra.deploy.ports import free_port
from tests.harnesses.source_site import source_site
from tests.servers.mjpeg import jpeg_cameras
from tests.videos import steady, write_video

pytestmark = pytest.mark.integration

REASONS = {
    "text": "is no video that can be read",
    "around": "more than 5 redirects",
    "noise": "video",
    "gone": "the server answered 404",
    "list": "is a playlist",
    "cloud": "is not allowed",
    "file": "is in none of the folders whose files may be sources",
    "off": "no connection",
}


async def test_wrong_sources_give_reasons_and_leave_the_right_ones_alone(migrated_dsn: str, tmp_path: Path) -> None:
    video = write_video(
        tmp_path / "a.mp4", steady(20), size=(320, 256), metadata={"creation_time": "2026-05-01T10:00:00Z"}
    )
    port = free_port()
    async with (
        jpeg_cameras() as cameras,
        source_site(tmp_path, migrated_dsn, STANDGALE_SOURCES__FOLDERS=str(tmp_path)) as site,
    ):
        for name in ("text", "around", "noise", "gone"):
            await site.add(name, f"{cameras.url}/{name}")
        await site.add("list", f"{cameras.url}/cam.m3u8")
        await site.add("cloud", "http://169.254.169.254/latest")
        await site.add("file", "/etc/passwd")
        await site.add("off", f"rtsp://127.0.0.1:{port}/cam")
        await site.add("right", f"{cameras.url}/cam")
        await site.add("recording", str(video))
        site.start()
        await site.wait_for(
            lambda rows: (
                all(
                    REASONS.get(each.name, "") in (each.reason or "")
                    and each.state in ({"failed", "waiting"} if each.name in REASONS else {"pulling", "ended"})
                    for each in rows
                )
                and {each.state for each in rows if each.name == "recording"} == {"ended"}
            )
        )
        frames = await site.frames()
        # A recording is read whole, with the times of the file, and once.
        assert len(frames["cam-recording"]) == 20
        assert [frame.video.presentation_time_s for frame in frames["cam-recording"] if frame.video] == pytest.approx(
            steady(20), abs=1e-6
        )
        assert len(frames["cam-right"]) > 0
        assert set(frames) == {"cam-recording", "cam-right"}


async def test_the_process_is_ready_while_its_cameras_are_off(migrated_dsn: str, tmp_path: Path) -> None:
    port, health = free_port(), free_port()
    async with source_site(tmp_path, migrated_dsn) as site:
        await site.add("off", f"rtsp://127.0.0.1:{port}/cam")
        process = site.start(health)
        await site.wait_for(lambda rows: rows[0].state == "waiting" and bool(rows[0].reason))
        async with aiohttp.ClientSession() as session:
            async with session.get(f"http://127.0.0.1:{health}/health/ready") as response:
                assert response.status == 200
                assert (await response.json())["parts"]["sources"] == "ready: 1 source (1 waiting)"
            async with session.get(f"http://127.0.0.1:{health}/metrics") as response:
                assert 'standgale_video_sources{state="waiting"} 1.0' in await response.text()
        assert "no connection" in process.log.read_text()
