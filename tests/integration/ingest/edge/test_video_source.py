"""Videos as a source: every frame once, over restarts and a full spool."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr

from infra.errors import SettingsError
from ingest.edge.settings import EdgeSettings
from ingest.edge.spool.counts import Counts
from ingest.edge.spool.entry import Lane
from ingest.edge.spool.spool import Spool
from ingest.edge.video_source import VideoFrames
from ingest.settings import VideoSettings
from standgale.testing.waiting import until
from tests.videos import steady, write_video

START = datetime(2026, 5, 1, 12, tzinfo=UTC)


def settings(address: Path | str, **changes: object) -> EdgeSettings:
    given = {"video": SecretStr(str(address)), "video_start": START, "video_mode": "every", "min_free_bytes": 0}
    return EdgeSettings.model_validate({"first_delay_s": 0.01, **given, **changes})


async def captured(spool: Spool) -> list[datetime]:
    entries = spool.next_entries(Lane.BACKLOG, 1_000)
    headers = [await spool.header(entry) for entry in entries]
    return [header.captured_at for header in headers if header is not None]


async def test_frames_of_a_recording_have_their_times_and_are_taken_once(tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.mp4", steady(10, 5.0))
    given = settings(video)
    spool = Spool(tmp_path / "spool", given, Counts())
    for _ in range(2):
        # The second time as after a restart.
        source = VideoFrames(given, VideoSettings())
        await source.run(spool, asyncio.Event())
        assert source.problem is None
    assert await captured(spool) == [START + timedelta(seconds=number / 5) for number in range(10)]
    assert (spool.counts.spooled, spool.counts.known) == (10, 10)
    header = await spool.header(spool.next_entries(Lane.BACKLOG, 1)[0])
    assert header is not None
    assert header.metadata["video"] == {"source": str(video), "presentation_time_s": 0.0, "clock": "option"}
    spool.close()


async def test_recording_waits_while_the_spool_is_full(tmp_path: Path) -> None:
    given = settings(write_video(tmp_path / "a.mp4", steady(6, 5.0)), max_frames=2)
    spool = Spool(tmp_path / "spool", given, Counts())
    source = VideoFrames(given, VideoSettings())
    running = asyncio.create_task(source.run(spool, asyncio.Event()))
    times = []
    for _ in range(6):
        await until(lambda: spool.next_of(Lane.BACKLOG), timeout_s=10)
        entry = spool.next_of(Lane.BACKLOG)
        assert entry is not None
        found = await spool.open(entry)
        assert found is not None
        times.append(found.header.captured_at)
        await spool.finish(entry)
    await asyncio.wait_for(running, 10)
    assert times == [START + timedelta(seconds=number / 5) for number in range(6)]
    spool.close()


async def test_file_that_is_no_video_is_a_problem_that_the_status_shows(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"no video")
    given = settings(tmp_path / "a.mp4")
    spool = Spool(tmp_path / "spool", given, Counts())
    source = VideoFrames(given, VideoSettings())
    await source.run(spool, asyncio.Event())
    assert source.problem is not None
    assert str(tmp_path / "a.mp4") in source.problem
    spool.close()


def test_address_of_a_camera_is_named_without_its_password() -> None:
    source = VideoFrames(settings("rtsp://user:secret@camera.example/live"), VideoSettings())
    assert source.name == "rtsp://camera.example:554/live"
    with pytest.raises(SettingsError, match="no scheme for a video"):
        VideoFrames(settings("ftp://camera.example/live"), VideoSettings())
