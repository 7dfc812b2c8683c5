"""A frame is processed once, also across a change of the model; replays and jobs ask again."""

from __future__ import annotations

from uuid import uuid4

from detectors.worker.frames.lateness import backfill_copy
from schemas import topics
from tests.harnesses.worker_fleet import Fleet


async def test_duplicate_frame_is_processed_once_across_a_model_swap(fleet: Fleet) -> None:
    site = fleet.site
    twice, marker = await site.frame("drone", 1), await site.frame("drone", 2)
    async with site.run_workers(fleet.parts("a")):
        await site.publish(twice)
        await site.wait_for(site.detections, 1)
        await fleet.wait_for_outcome("done", await fleet.activate("2.0.0"))
        await site.publish(twice, marker)
        await site.wait_for(site.detections, 2)
    # Another worker, which knows of the first event only what is in the topic.
    last = await site.frame("drone", 3)
    await site.publish(twice, last)
    async with site.run_workers(fleet.parts("b")):
        await site.wait_for(site.detections, 3)
    events = await fleet.check([twice, marker, last])
    assert [event.model.version for event in events] == ["1.0.0", "2.0.0", "2.0.0"]


async def test_replay_is_processed_again_by_the_new_version(fleet: Fleet) -> None:
    site = fleet.site
    frame = await site.frame("drone", 1)
    async with site.run_workers(fleet.parts("a")):
        await site.publish(frame)
        await site.wait_for(site.detections, 1)
        await fleet.wait_for_outcome("done", await fleet.activate("2.0.0"))
        await site.publish(frame, topic=topics.FRAMES_BACKFILL)
        await site.wait_for(site.detections, 2)
    events = await site.detections()
    assert [event.model.version for event in events] == ["1.0.0", "2.0.0"]
    assert len({event.id for event in events}) == 2


async def test_live_frame_that_was_put_off_is_no_replay(fleet: Fleet) -> None:
    site = fleet.site
    frame, marker = await site.frame("drone", 1), await site.frame("drone", 2)
    async with site.run_workers(fleet.parts("a")):
        await site.publish(frame)
        await site.wait_for(site.detections, 1)
        await fleet.wait_for_outcome("done", await fleet.activate("2.0.0"))
        live = (await site.read(topics.FRAMES_LIVE))[0]
        await site.publish_records(backfill_copy(live), site.record(marker, topics.FRAMES_BACKFILL))
        await site.wait_for(site.detections, 2)
    assert [event.model.version for event in await fleet.check([frame, marker])] == ["1.0.0", "2.0.0"]


async def test_job_frame_is_no_duplicate_of_live_frame(fleet: Fleet) -> None:
    site = fleet.site
    frame, marker = await site.frame("drone", 1), await site.frame("drone", 2)
    async with site.run_workers(fleet.parts("a")):
        await site.publish(frame.model_copy(update={"job_id": uuid4()}), topic=topics.FRAMES_JOBS)
        await site.wait_for(site.detections, 1)
    async with site.run_workers(fleet.parts("b")):
        await site.publish(frame, marker)
        await site.wait_for(site.detections, 3)
    assert [event.job_id is None for event in await site.detections()] == [False, True, True]
