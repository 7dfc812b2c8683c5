"""Media from their request to their last event, also when their process is killed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from infra.database.pool import Database
from infra.errors import ImageCorruptError
from standgale.testing.waiting import until
from tests.harnesses.media_site import MediaSite, media_site, running, video
from tests.harnesses.uploads import picture
from tests.videos import steady, write_video

pytestmark = pytest.mark.integration


@pytest.fixture
async def site(tmp_path: Path, database: Database) -> AsyncIterator[MediaSite]:
    async with media_site(tmp_path, database) as found:
        yield found


async def test_the_events_of_a_video_are_in_its_order_and_end(site: MediaSite, tmp_path: Path) -> None:
    """C-S3-003, C-S3-006, C-S3-007, C-S3-047."""
    response = await site.start("clip-1", video(tmp_path, 6))
    assert (response.status, response.json) == (202, {"mediaId": "clip-1", "status": "started"})
    async with running(*site.components()):
        events = await site.events("clip-1")
    assert [event["mediaStatus"] for event in events] == ["AIProcessing"] * 6 + ["AIProcessed"]
    assert [event["videoTime"] for event in events[:-1]] == pytest.approx([n / 25 for n in range(6)])
    percents = [event["mediaPercent"] for event in events]
    assert percents == sorted(percents)
    assert (percents[0], percents[-1]) == (0, 100)
    assert {event["mediaId"] for event in events} == {"clip-1"}
    [found] = events[0]["annotations"]
    assert found == {
        "centerX": 0.5,
        "centerY": 0.75,
        "width": 0.5,
        "height": 0.5,
        "classNum": 0,
        "label": "bird",
        "confidence": 0.5,
    }
    assert [frame.video.presentation_time_s for frame in site.detectors.frames if frame.video][1] == 0.04


async def test_a_picture_is_a_medium_with_one_frame(site: MediaSite) -> None:
    await site.start("photo", picture(), headers={"Content-Type": "image/jpeg"})
    async with running(*site.components()):
        events = await site.events("photo")
    assert [(event["mediaStatus"], event["videoTime"]) for event in events] == [
        ("AIProcessing", None),
        ("AIProcessed", None),
    ]
    assert site.detectors.frames[0].video is None


async def test_options_and_sampling_reach_the_frames(site: MediaSite, tmp_path: Path) -> None:
    """C-S3-005, C-S3-047."""
    config = (
        '{"options": {"confidence": 0.4}, "sampling": {"mode": "nth", "every": 3}, '
        '"model": {"name": "small", "version": "2"}}'
    )
    assert (await site.start("clip", video(tmp_path, 7), params={"config": config})).status == 202
    async with running(*site.components()):
        assert len(await site.events("clip")) == 4
    frame = site.detectors.frames[0]
    assert (frame.options.confidence, frame.model and frame.model.version) == (0.4, "2")
    assert {each.device_id for each in site.detectors.frames} == {"jobs-00", "jobs-01", "jobs-02"}


async def test_a_running_medium_is_refused_and_may_run_again_after_its_end(site: MediaSite, tmp_path: Path) -> None:
    """C-S3-003."""
    data = video(tmp_path, 2)
    await site.start("clip", data)
    again = await site.start("clip", data)
    assert (again.status, again.code) == (409, "MEDIA_RUNNING")
    other = await site.console.other_client()
    assert (await site.start("clip", data, key=other)).status == 202
    async with running(*site.components()):
        await site.events("clip")
        assert (await site.start("clip", data)).status == 202
        assert (await site.events("clip"))[-1]["mediaStatus"] == "AIProcessed"


async def test_two_media_run_at_once_and_others_wait(site: MediaSite, tmp_path: Path) -> None:
    """C-S3-009."""
    data = video(tmp_path, 2)
    site.detectors.paused = True
    for number in range(3):
        await site.start(f"clip-{number}", data)
    # Two processes: the limit is that of all.
    async with running(*site.components(), *site.components()):
        await until(lambda: len({frame.job_id for frame in site.detectors.frames}) == 2)
        await asyncio.sleep(0.5)
        states = await site.rows("SELECT media_id, state FROM media_runs ORDER BY media_id")
        assert [row["state"] for row in states] == ["processing", "processing", "waiting"]
        await site.detectors.answer()
        site.detectors.paused = False
        assert (await site.events("clip-2"))[-1]["mediaStatus"] == "AIProcessed"


async def test_a_video_goes_on_in_another_process_with_the_same_frames(site: MediaSite, tmp_path: Path) -> None:
    """Its process is killed with frames out; no event is lost or said twice."""
    site.window = 2
    site.detectors.paused = True
    await site.start("clip", video(tmp_path, 8))
    runner, publisher, _ = site.components()
    first = asyncio.create_task(site.runner(lease_s=0.5).work())
    await first
    async with running(publisher):
        await until(lambda: len(site.detectors.records) == 2)
    # A kill leaves its lease, and no task that could give it back.
    for task in asyncio.all_tasks():
        if task.get_name().startswith("media-"):
            task.cancel()
    async with site.console.database.acquire(writing=True) as connection:
        await connection.execute("UPDATE media_runs SET leased_until = now() + interval '1 s'")
    await site.detectors.answer()
    site.detectors.paused = False
    async with running(runner, publisher):
        events = await site.events("clip")
    assert [event["videoTime"] for event in events[:-1]] == pytest.approx([n / 25 for n in range(8)])
    frames = [frame.frame_id for frame in site.detectors.frames]
    assert (len(frames), len(set(frames))) == (8, 8)


async def test_the_event_of_a_frame_that_fails_has_its_code(site: MediaSite, tmp_path: Path) -> None:
    site.detectors.failing = ImageCorruptError("the JPEG ends early")
    await site.start("clip", video(tmp_path, 3))
    async with running(*site.components()):
        events = await site.events("clip")
    assert [event["error"]["code"] for event in events] == ["FILE_ERROR"] * 4
    assert events[-1]["mediaStatus"] == "Error"


async def test_a_text_ends_with_an_error_without_paths(site: MediaSite) -> None:
    await site.start("text", b"#EXTM3U\nfile:///etc/passwd\n" * 50)
    async with running(*site.components()):
        [event] = await site.events("text")
    assert (event["mediaStatus"], event["error"]["code"]) == ("Error", "INVALID_VIDEO")
    assert "/" not in event["error"]["message"].replace("…", "")


async def test_a_video_that_is_cut_off_has_the_events_of_its_begin_and_an_error(
    site: MediaSite, tmp_path: Path
) -> None:
    """C-S3-007."""
    path = write_video(tmp_path / "cut.mkv", steady(200), size=(160, 120))
    await site.start("clip", path.read_bytes()[: path.stat().st_size // 2])
    async with running(*site.components()):
        events = await site.events("clip")
    assert len(events) > 50
    assert (events[-1]["mediaStatus"], events[-1]["error"]["code"]) == ("Error", "INVALID_VIDEO")


async def test_a_medium_at_which_processes_end_again_and_again_is_given_up(site: MediaSite, tmp_path: Path) -> None:
    await site.start("clip", video(tmp_path, 2))
    async with site.console.database.acquire(writing=True) as connection:
        await connection.execute("UPDATE media_runs SET leased_until = now() - interval '1 s', takeovers = 5")
    async with running(*site.components()):
        [event] = await site.events("clip")
    assert (event["mediaStatus"], event["error"]["code"]) == ("Error", "INTERNAL_ERROR")
    assert site.detectors.records == []


async def test_a_lease_of_a_clock_that_was_set_back_keeps_no_medium_waiting(site: MediaSite, tmp_path: Path) -> None:
    """The clock of the database was a day ahead when a process took the medium, and was killed."""
    await site.start("clip", video(tmp_path, 2))
    async with site.console.database.acquire(writing=True) as connection:
        await connection.execute("UPDATE media_runs SET leased_until = now() + interval '1 day', owner = id")
    async with running(*site.components()):
        events = await site.events("clip")
    assert events[-1]["mediaStatus"] == "AIProcessed"


async def test_a_video_with_too_many_frames_ends_with_an_error(tmp_path: Path, database: Database) -> None:
    async with media_site(tmp_path, database, max_frames=3) as site:
        await site.start("clip", video(tmp_path, 6))
        async with running(*site.components()):
            last = (await site.events("clip"))[-1]
    assert (last["mediaStatus"], last["error"]["code"]) == ("Error", "MEDIA_TOO_LARGE")
    assert "media.max_frames" in last["error"]["message"]


async def test_wrong_requests_for_media_are_refused(site: MediaSite) -> None:
    post = site.console.post
    assert (await post("/detect/a b", data=b"")).status == 400
    assert (await post("/detect/clip", data=b"x", headers={"Content-Type": "text/plain"})).status == 415
    wrong = await post("/detect/clip", json={"options": {"confidence": "0.5"}})
    assert (wrong.status, wrong.json["field"]) == (400, "options.confidence")
    assert (await post("/detect/clip", json={"path": "/etc/passwd"})).status == 400
    assert (await post("/detect/clip", json={"source": "file:///etc/passwd"})).json["field"] == "source"
    assert (await post("/detect/clip", json={"source": "http://a:b@example.org/"})).status == 400
    assert (await post("/detect/clip", key=None)).status == 401
    broken = await site.start("photo", picture()[:300], headers={"Content-Type": "image/jpeg"})
    assert (broken.status, broken.code) == (400, "CORRUPTED_FILE")
    assert await site.rows("SELECT id FROM media_runs") == []
