"""A frame is answered once, also across a change of the model; replays and jobs ask again."""

from __future__ import annotations

from uuid import uuid4

from detectors.worker.frames.lateness import backfill_copy
from schemas import topics
from tests.benches.worker_fleet import Fleet


async def test_duplicate_frame_is_processed_once_across_a_model_swap(fleet: Fleet) -> None:
    world = fleet.world
    twice, marker = await world.frame("drone", 1), await world.frame("drone", 2)
    async with world.working(fleet.parts("a")):
        await world.publish(twice)
        await world.until(world.answers, 1)
        await fleet.until("done", await fleet.activate("2.0.0"))
        await world.publish(twice, marker)
        await world.until(world.answers, 2)
    # Another worker, which knows of the first answer only what stands in the topic.
    last = await world.frame("drone", 3)
    await world.publish(twice, last)
    async with world.working(fleet.parts("b")):
        await world.until(world.answers, 3)
    answers = await fleet.check([twice, marker, last])
    assert [answer.model.version for answer in answers] == ["1.0.0", "2.0.0", "2.0.0"]


async def test_replay_is_processed_again_by_the_new_version(fleet: Fleet) -> None:
    world = fleet.world
    frame = await world.frame("drone", 1)
    async with world.working(fleet.parts("a")):
        await world.publish(frame)
        await world.until(world.answers, 1)
        await fleet.until("done", await fleet.activate("2.0.0"))
        await world.publish(frame, topic=topics.FRAMES_BACKFILL)
        await world.until(world.answers, 2)
    answers = await world.answers()
    assert [answer.model.version for answer in answers] == ["1.0.0", "2.0.0"]
    assert len({answer.id for answer in answers}) == 2


async def test_live_frame_that_was_put_off_is_no_replay(fleet: Fleet) -> None:
    world = fleet.world
    frame, marker = await world.frame("drone", 1), await world.frame("drone", 2)
    async with world.working(fleet.parts("a")):
        await world.publish(frame)
        await world.until(world.answers, 1)
        await fleet.until("done", await fleet.activate("2.0.0"))
        live = (await world.read(topics.FRAMES_LIVE))[0]
        await world.publish_records(backfill_copy(live), world.record(marker, topics.FRAMES_BACKFILL))
        await world.until(world.answers, 2)
    assert [answer.model.version for answer in await fleet.check([frame, marker])] == ["1.0.0", "2.0.0"]


async def test_job_frame_is_no_duplicate_of_live_frame(fleet: Fleet) -> None:
    world = fleet.world
    frame, marker = await world.frame("drone", 1), await world.frame("drone", 2)
    async with world.working(fleet.parts("a")):
        await world.publish(frame.model_copy(update={"job_id": uuid4()}), topic=topics.FRAMES_JOBS)
        await world.until(world.answers, 1)
    async with world.working(fleet.parts("b")):
        await world.publish(frame, marker)
        await world.until(world.answers, 3)
    assert [answer.job_id is None for answer in await world.answers()] == [False, True, True]
