"""Checks that frames are held, with the reason in health, when the frame may not be the cause, and processed later."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest

from detectors.settings import DetectorSettings
from infra.broker.embedded.adapter import EmbeddedBroker
from infra.broker.partitioning import partition_for
from infra.broker.port import OutRecord
from infra.failure.dead_letters import list_dead
from infra.storage.frames.folder import FolderFrameStore
from schemas import topics
from schemas.events import ImageRef
from schemas.topics import TopicSpec
from standgale.testing.waiting import until
from tests.benches.worker_site import TIMEOUT_S, WorkerWorld, picture
from tests.graphs.failing import broken_while, model_with

pytestmark = pytest.mark.integration

SMALL = (topics.DETECTIONS, topics.FRAMES_DEAD)


def reason(world: WorkerWorld) -> str:
    return world.health.part("worker-0").report().reason or ""


async def test_engine_that_fails_on_every_frame_holds_all_until_it_works(world: WorkerWorld) -> None:
    broken = threading.Event()
    broken.set()
    frames = [await world.frame(f"drone-{n % 4}", n) for n in range(40)]
    await world.publish(*frames)
    async with world.working(world.parts(load_model=partial(broken_while, world.card, broken))):
        await until(lambda: "a record fails and no other record succeeds" in reason(world), lambda: reason(world))
        assert "CUDA error 719" in reason(world)
        await asyncio.sleep(0.5)
        assert (await world.answers(), await world.letters()) == ([], [])
        broken.clear()
        await world.until(world.answers, 40)
        assert world.health.report().ready
    assert await world.letters() == []
    answers = await world.answers()
    for device in {frame.device_id for frame in frames}:
        wanted = [frame.frame_id for frame in frames if frame.device_id == device]
        assert [answer.frame_id for answer in answers if answer.device_id == device] == wanted


async def test_stop_while_frames_are_held_commits_none(world: WorkerWorld) -> None:
    broken = threading.Event()
    broken.set()
    frames = [await world.frame("drone", n) for n in range(3)]
    await world.publish(*frames)
    async with world.working(world.parts(load_model=partial(broken_while, world.card, broken))):
        await until(lambda: "process frames with" in reason(world))
    assert (await world.answers(), await world.letters()) == ([], [])
    async with world.working(world.parts()):
        await world.until(world.answers, 3)


async def test_frame_that_fails_alone_is_dead_without_other_frames(world: WorkerWorld) -> None:
    def fail_on_white(tiles: np.ndarray) -> None:
        if tiles.mean() > 200:
            raise RuntimeError("overflow")

    white = await world.frame("drone", 1, cv2.imencode(".png", np.full((300, 400, 3), 255, np.uint8))[1].tobytes())
    await world.publish(white)
    async with world.working(world.parts(load_model=partial(model_with, world.card, fail_on_white))):
        await world.until(world.letters, 1)
    (letter,) = await world.letters()
    assert (letter.reason, letter.frame_id) == ("INFERENCE_ERROR", white.frame_id)
    assert letter.attempts >= 3


async def test_event_of_newer_version_holds_only_its_partition(world: WorkerWorld) -> None:
    newer, usual = await world.frame("drone-1", 1), await world.frame("drone-2", 2)
    after = await world.frame("drone-1", 3)
    assert partition_for("drone-1", 8) != partition_for("drone-2", 8)
    record = world.record(newer)
    version = b"standgale.frame.captured.v2"
    headers = tuple((name, version if name == "ce_type" else value) for name, value in record.headers)
    await world.publish_records(replace(record, headers=headers), world.record(after), world.record(usual))
    async with world.working(world.parts()):
        await world.until(world.answers, 1)
        await until(lambda: "update" in reason(world), lambda: reason(world))
    assert [answer.frame_id for answer in await world.answers()] == [usual.frame_id]
    assert await world.letters() == []


async def test_missing_dead_letter_topic_holds_only_one_partition(tmp_path: Path) -> None:
    def without_dead_letters(declared: dict[str, TopicSpec]) -> EmbeddedBroker:
        known = {name: spec for name, spec in declared.items() if name != topics.FRAMES_DEAD}
        return EmbeddedBroker(tmp_path / "broker.sqlite", known)

    world = WorkerWorld(tmp_path, without_dead_letters)
    poison = OutRecord(topics.FRAMES_LIVE, "drone-1", b"no event")
    behind = [await world.frame("drone-1", n) for n in range(30)]
    others = [await world.frame(f"drone-{n}", n) for n in range(2, 60)]
    held = partition_for("drone-1", 8)
    free = [frame for frame in others if partition_for(frame.device_id, 8) != held]
    await world.publish_records(poison, *map(world.record, behind), *map(world.record, others))
    settings = DetectorSettings(prefetch_frames=4)
    async with world.working(world.parts(settings=settings)):
        await world.until(world.answers, len(free))
        await until(lambda: topics.FRAMES_DEAD in reason(world), lambda: reason(world))
        assert {answer.frame_id for answer in await world.answers()} == {frame.frame_id for frame in free}
        mended = EmbeddedBroker(tmp_path / "broker.sqlite", world.topics)
        admin = await mended.admin()
        await admin.apply(list(world.topics.values()))
        await admin.close()
        await world.until(world.answers, len(behind) + len(others))
        await until(lambda: world.health.report().ready, lambda: reason(world))
        assert len([letter async for letter in list_dead(await mended.reader(), topics.FRAMES_DEAD)]) == 1
        await mended.close()
    await world.close()


async def test_detections_event_near_max_record_size_becomes_dead_letter(tmp_path: Path) -> None:
    limit = 65_536

    def smaller(declared: dict[str, TopicSpec]) -> EmbeddedBroker:
        changed = {name: declared[name].model_copy(update={"max_message_bytes": limit}) for name in SMALL}
        return EmbeddedBroker(tmp_path / "broker.sqlite", declared | changed)

    world = WorkerWorld(tmp_path, smaller)
    frames = [
        (await world.frame("drone", n)).model_copy(update={"metadata": {"pad": "x" * (limit - 2_400 + 150 * n)}})
        for n in range(16)
    ]
    after = await world.frame("drone", 99)
    await world.publish(*frames, after)
    # As if the broker took less than is declared: then its refusal is what tells.
    async with world.working(world.parts(max_event_bytes=10 * limit)):
        await world.until(world.answers, 1)
        await until_all_settled(world, len(frames) + 1)
    answered = {answer.frame_id for answer in await world.answers()}
    dead = {letter.frame_id: letter for letter in await world.letters()}
    assert after.frame_id in answered
    assert answered | dead.keys() == {frame.frame_id for frame in [*frames, after]}
    assert not answered & dead.keys()
    assert {letter.reason for letter in dead.values()} == {"RECORD_TOO_LARGE"}
    assert any(letter.original.omitted for letter in dead.values()), "the letter itself was too large"
    await world.close()


async def until_all_settled(world: WorkerWorld, count: int) -> None:
    async def settled() -> list[object]:
        return [*await world.answers(), *await world.letters()]

    await world.until(settled, count)


class SlowStore(FolderFrameStore):
    """A store whose answer for one object takes until it is let go."""

    def __init__(self, folder: Path, slow: str) -> None:
        super().__init__(folder)
        self._slow = slow
        self.asked, self.go_on = asyncio.Event(), asyncio.Event()

    async def get(self, image: ImageRef) -> bytes:
        if image.sha256 == self._slow:
            self.asked.set()
            await self.go_on.wait()
        return await super().get(image)


@pytest.mark.parametrize("taken_over", [False, True])
async def test_redriven_frame_is_processed_after_its_partition_changed_owner(
    world: WorkerWorld, tmp_path: Path, *, taken_over: bool
) -> None:
    first, missing = await world.frame("drone", 0), await world.frame("drone", 1, picture(333))
    await world.store.delete(missing.image.uri)
    store = SlowStore(tmp_path / "frames", first.image.sha256)
    world.store = store
    async with world.working(world.parts(store=store)):
        await world.publish(first, missing)
        await asyncio.wait_for(store.asked.wait(), TIMEOUT_S)
        if taken_over:
            # The first record of another topic makes the lane read its window again.
            await world.publish(await world.frame("drone", 2), topic=topics.FRAMES_BACKFILL)
            await world.until(world.answers, 1)
        store.go_on.set()
        await world.until(world.letters, 1)
        await world.store.put(picture(333), sha256=missing.image.sha256, media_type="image/png")
        await world.publish(missing)
        await world.until(world.answers, 2 + taken_over)
    assert missing.frame_id in {answer.frame_id for answer in await world.answers()}
