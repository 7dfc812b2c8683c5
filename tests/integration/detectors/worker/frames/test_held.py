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
from tests.graphs.failing import broken_while, model_with_fault
from tests.harnesses.worker_site import TIMEOUT_S, WorkerSite, picture

pytestmark = pytest.mark.integration

SMALL = (topics.DETECTIONS, topics.FRAMES_DEAD)


def reason(site: WorkerSite) -> str:
    return site.health.part("worker-0").report().reason or ""


async def test_engine_that_fails_on_every_frame_holds_all_until_it_works(site: WorkerSite) -> None:
    broken = threading.Event()
    broken.set()
    frames = [await site.frame(f"drone-{n % 4}", n) for n in range(40)]
    await site.publish(*frames)
    async with site.run_workers(site.parts(load_model=partial(broken_while, site.card, broken))):
        await until(lambda: "a record fails and no other record succeeds" in reason(site), lambda: reason(site))
        assert "CUDA error 719" in reason(site)
        await asyncio.sleep(0.5)
        assert (await site.detections(), await site.dead_letters()) == ([], [])
        broken.clear()
        await site.wait_for(site.detections, 40)
        assert site.health.report().ready
    assert await site.dead_letters() == []
    events = await site.detections()
    for device in {frame.device_id for frame in frames}:
        wanted = [frame.frame_id for frame in frames if frame.device_id == device]
        assert [event.frame_id for event in events if event.device_id == device] == wanted


async def test_stop_while_frames_are_held_commits_none(site: WorkerSite) -> None:
    broken = threading.Event()
    broken.set()
    frames = [await site.frame("drone", n) for n in range(3)]
    await site.publish(*frames)
    async with site.run_workers(site.parts(load_model=partial(broken_while, site.card, broken))):
        await until(lambda: "process frames with" in reason(site))
    assert (await site.detections(), await site.dead_letters()) == ([], [])
    async with site.run_workers(site.parts()):
        await site.wait_for(site.detections, 3)


async def test_frame_that_fails_alone_is_dead_without_other_frames(site: WorkerSite) -> None:
    def fail_on_white(tiles: np.ndarray) -> None:
        if tiles.mean() > 200:
            raise RuntimeError("overflow")

    white = await site.frame("drone", 1, cv2.imencode(".png", np.full((300, 400, 3), 255, np.uint8))[1].tobytes())
    await site.publish(white)
    async with site.run_workers(site.parts(load_model=partial(model_with_fault, site.card, fail_on_white))):
        await site.wait_for(site.dead_letters, 1)
    (letter,) = await site.dead_letters()
    assert (letter.reason, letter.frame_id) == ("INFERENCE_ERROR", white.frame_id)
    assert letter.attempts >= 3


async def test_event_of_newer_version_holds_only_its_partition(site: WorkerSite) -> None:
    newer, usual = await site.frame("drone-1", 1), await site.frame("drone-2", 2)
    after = await site.frame("drone-1", 3)
    assert partition_for("drone-1", 8) != partition_for("drone-2", 8)
    record = site.record(newer)
    version = b"standgale.frame.captured.v2"
    headers = tuple((name, version if name == "ce_type" else value) for name, value in record.headers)
    await site.publish_records(replace(record, headers=headers), site.record(after), site.record(usual))
    async with site.run_workers(site.parts()):
        await site.wait_for(site.detections, 1)
        await until(lambda: "update" in reason(site), lambda: reason(site))
    assert [event.frame_id for event in await site.detections()] == [usual.frame_id]
    assert await site.dead_letters() == []


async def test_missing_dead_letter_topic_holds_only_one_partition(tmp_path: Path) -> None:
    def without_dead_letters(declared: dict[str, TopicSpec]) -> EmbeddedBroker:
        known = {name: spec for name, spec in declared.items() if name != topics.FRAMES_DEAD}
        return EmbeddedBroker(tmp_path / "broker.sqlite", known)

    site = WorkerSite(tmp_path, without_dead_letters)
    poison = OutRecord(topics.FRAMES_LIVE, "drone-1", b"no event")
    behind = [await site.frame("drone-1", n) for n in range(30)]
    others = [await site.frame(f"drone-{n}", n) for n in range(2, 60)]
    held = partition_for("drone-1", 8)
    free = [frame for frame in others if partition_for(frame.device_id, 8) != held]
    await site.publish_records(poison, *map(site.record, behind), *map(site.record, others))
    settings = DetectorSettings(prefetch_frames=4)
    async with site.run_workers(site.parts(settings=settings)):
        await site.wait_for(site.detections, len(free))
        await until(lambda: topics.FRAMES_DEAD in reason(site), lambda: reason(site))
        assert {event.frame_id for event in await site.detections()} == {frame.frame_id for frame in free}
        mended = EmbeddedBroker(tmp_path / "broker.sqlite", site.topics)
        admin = await mended.admin()
        await admin.apply(list(site.topics.values()))
        await admin.close()
        await site.wait_for(site.detections, len(behind) + len(others))
        await until(lambda: site.health.report().ready, lambda: reason(site))
        assert len([letter async for letter in list_dead(await mended.reader(), topics.FRAMES_DEAD)]) == 1
        await mended.close()
    await site.close()


async def test_detections_event_near_max_record_size_becomes_dead_letter(tmp_path: Path) -> None:
    limit = 65_536

    def smaller(declared: dict[str, TopicSpec]) -> EmbeddedBroker:
        changed = {name: declared[name].model_copy(update={"max_message_bytes": limit}) for name in SMALL}
        return EmbeddedBroker(tmp_path / "broker.sqlite", declared | changed)

    site = WorkerSite(tmp_path, smaller)
    frames = [
        (await site.frame("drone", n)).model_copy(update={"metadata": {"pad": "x" * (limit - 2_400 + 150 * n)}})
        for n in range(16)
    ]
    after = await site.frame("drone", 99)
    await site.publish(*frames, after)
    # As if the broker took less than is declared: then its refusal decides.
    async with site.run_workers(site.parts(max_event_bytes=10 * limit)):
        await site.wait_for(site.detections, 1)
        await until_all_settled(site, len(frames) + 1)
    processed = {event.frame_id for event in await site.detections()}
    dead = {letter.frame_id: letter for letter in await site.dead_letters()}
    assert after.frame_id in processed
    assert processed | dead.keys() == {frame.frame_id for frame in [*frames, after]}
    assert not processed & dead.keys()
    assert {letter.reason for letter in dead.values()} == {"RECORD_TOO_LARGE"}
    assert any(letter.original.omitted for letter in dead.values()), "the letter itself was too large"
    await site.close()


async def until_all_settled(site: WorkerSite, count: int) -> None:
    async def finished() -> list[object]:
        return [*await site.detections(), *await site.dead_letters()]

    await site.wait_for(finished, count)


class SlowStore(FolderFrameStore):
    """A store whose response for one object waits until it is released."""

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
    site: WorkerSite, tmp_path: Path, *, taken_over: bool
) -> None:
    first, missing = await site.frame("drone", 0), await site.frame("drone", 1, picture(333))
    await site.store.delete(missing.image.uri)
    store = SlowStore(tmp_path / "frames", first.image.sha256)
    site.store = store
    async with site.run_workers(site.parts(store=store)):
        await site.publish(first, missing)
        await asyncio.wait_for(store.asked.wait(), TIMEOUT_S)
        if taken_over:
            # The first record of another topic makes the partition read its window again.
            await site.publish(await site.frame("drone", 2), topic=topics.FRAMES_BACKFILL)
            await site.wait_for(site.detections, 1)
        store.go_on.set()
        await site.wait_for(site.dead_letters, 1)
        await site.store.put(picture(333), sha256=missing.image.sha256, media_type="image/png")
        await site.publish(missing)
        await site.wait_for(site.detections, 2 + taken_over)
    assert missing.frame_id in {event.frame_id for event in await site.detections()}
