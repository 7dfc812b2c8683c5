"""Runs the worker on the embedded broker, a folder store and a real model: each frame once, in order."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
from prometheus_client import REGISTRY

from detectors.card.card import read_card
from detectors.settings import DetectorSettings
from infra.broker.port import OutRecord
from infra.storage.frames.folder import FolderFrameStore
from schemas import topics
from schemas.events import ImageRef
from schemas.geometry import CameraGeometry
from standgale.testing.graphs import write_model
from tests.harnesses.worker_site import TIMEOUT_S, WorkerSite, picture

pytestmark = pytest.mark.integration


async def test_every_frame_is_processed_once_in_order_of_its_device(site: WorkerSite) -> None:
    frames = [await site.frame(f"drone-{n % 3}", n) for n in range(30)]
    await site.publish(*frames)
    async with site.run_workers(site.parts(), site.parts()):
        await site.wait_for(site.detections, 30)
    events = await site.detections()
    assert len(events) == 30
    for device in ("drone-0", "drone-1", "drone-2"):
        wanted = [f.frame_id for f in frames if f.device_id == device]
        assert [a.frame_id for a in events if a.device_id == device] == wanted
    by_frame = {event.frame_id: event for event in events}
    for number, frame in enumerate(frames):
        (found,) = by_frame[frame.frame_id].detections
        left = 10 + number % 40 * 8
        assert found.label == "red"
        assert abs(found.box.x1 * 400 - left) <= 1
        assert abs(found.box.y2 * 300 - 130) <= 1
        assert by_frame[frame.frame_id].image == frame.image
        assert by_frame[frame.frame_id].options.confidence is not None
    admin = await site.broker.admin()
    lag = await admin.group_lag("detector", topics.FRAME_TOPICS)
    await admin.close()
    assert sum(lag.values()) == 0


async def test_frame_without_objects_gets_a_detections_event(site: WorkerSite) -> None:
    empty = cv2.imencode(".png", np.full((300, 400, 3), 90, np.uint8))[1].tobytes()
    await site.publish(await site.frame("drone", 1, empty))
    async with site.run_workers(site.parts()):
        await site.wait_for(site.detections, 1)
    assert (await site.detections())[0].detections == []


async def test_objects_dropped_for_size_are_in_event_and_metrics(site: WorkerSite, tmp_path: Path) -> None:
    names = [{"name": name, "max_size_m": 10.0} for name in ("red", "green", "blue")]
    site.card = write_model(tmp_path / "sized", classes=names)
    frame = await site.frame("drone", 1)
    wrong = frame.model_copy(update={"camera": CameraGeometry(gsd_m=2.0)})
    counted = partial(REGISTRY.get_sample_value, "standgale_detections_too_large_total", {"model": "rectangles"})
    before = counted() or 0.0
    await site.publish(wrong, await site.frame("drone", 2))
    async with site.run_workers(site.parts()):
        await site.wait_for(site.detections, 2)
    one, other = await site.detections()
    assert (one.detections, one.gsd_m) == ([], 2.0)
    assert one.too_large
    assert (len(other.detections), other.too_large) == (1, None)
    assert (counted() or 0.0) - before == one.too_large


async def test_duplicate_frame_is_processed_once_also_after_restart(site: WorkerSite) -> None:
    frame, marker = await site.frame("drone", 1), await site.frame("drone", 2)
    await site.publish(frame, frame)
    async with site.run_workers(site.parts()):
        await site.wait_for(site.detections, 1)
    await site.publish(frame, marker)
    async with site.run_workers(site.parts()):
        await site.wait_for(site.detections, 2)
    assert [event.frame_id for event in await site.detections()] == [frame.frame_id, marker.frame_id]


async def test_unreadable_records_become_dead_letters_and_others_continue(site: WorkerSite) -> None:
    good = await site.frame("drone", 5)
    await site.publish_records(OutRecord(topics.FRAMES_LIVE, "drone", b"\x00not an event"))
    await site.publish(
        await site.frame("drone", 1, stored=False),
        await site.frame("drone", 2, picture(50)[:-300]),
        good,
    )
    async with site.run_workers(site.parts()):
        await site.wait_for(site.detections, 1)
        await site.wait_for(site.dead_letters, 3)
    assert [event.frame_id for event in await site.detections()] == [good.frame_id]
    letters = await site.dead_letters()
    assert [letter.reason for letter in letters] == ["INVALID_EVENT", "IMAGE_MISSING", "IMAGE_CORRUPT"]
    assert letters[0].original.value == b"\x00not an event"
    assert all(letter.group == "detector" for letter in letters)


async def test_redriven_frame_is_processed_when_its_image_exists_again(site: WorkerSite) -> None:
    data = picture(70)
    frame = await site.frame("drone", 1, data)
    await site.store.delete(frame.image.uri)
    await site.publish(frame)
    async with site.run_workers(site.parts()):
        await site.wait_for(site.dead_letters, 1)
        await site.store.put(data, sha256=frame.image.sha256, media_type="image/png")
        await site.publish(frame)
        await site.wait_for(site.detections, 1)
    assert (await site.detections())[0].frame_id == frame.frame_id


async def test_unavailable_frame_store_delays_frames_and_loses_none(site: WorkerSite, tmp_path: Path) -> None:
    frames = [await site.frame("drone", n) for n in range(5)]
    await site.publish(*frames)
    store = UnavailableStore(site.store)
    async with site.run_workers(site.parts(store=store)):
        async with asyncio.timeout(TIMEOUT_S):
            await store.asked_often.wait()
        assert not site.health.report().ready
        assert "fetch frame" in (site.health.part("worker-0").report().reason or "")
        store.unavailable = False
        await site.wait_for(site.detections, 5)
        assert site.health.part("worker-0").report().reason is None
    assert [event.frame_id for event in await site.detections()] == [frame.frame_id for frame in frames]
    assert await site.dead_letters() == []


async def test_stop_while_frame_store_is_unavailable_commits_nothing(site: WorkerSite) -> None:
    frames = [await site.frame("drone", n) for n in range(3)]
    await site.publish(*frames)
    store = UnavailableStore(site.store)
    async with site.run_workers(site.parts(store=store)):
        async with asyncio.timeout(TIMEOUT_S):
            await store.asked_often.wait()
    assert await site.detections() == []
    async with site.run_workers(site.parts()):
        await site.wait_for(site.detections, 3)
    assert [event.frame_id for event in await site.detections()] == [frame.frame_id for frame in frames]


async def test_live_frames_come_before_backfill_which_does_not_starve(site: WorkerSite) -> None:
    backfill = [await site.frame("old", n) for n in range(40)]
    await site.publish(*backfill, topic=topics.FRAMES_BACKFILL)
    live = [await site.frame("drone", n) for n in range(40)]
    await site.publish(*live)
    settings = DetectorSettings(prefetch_frames=2)
    async with site.run_workers(site.parts(settings=settings)):
        await site.wait_for(site.detections, 80)
    finished = sorted(await site.detections(), key=lambda event: event.detected_at)
    first_half = [event.device_id for event in finished[:40]]
    assert first_half.count("drone") > 25
    assert first_half.count("old") > 0


class UnavailableStore:
    """A frame store that does not respond until a test lets it; in front of a real one."""

    def __init__(self, store: FolderFrameStore) -> None:
        self._store = store
        self.unavailable = True
        self.asked = 0
        self.asked_often = asyncio.Event()

    async def get(self, image: ImageRef) -> bytes:
        self.asked += 1
        if self.asked > 6:
            self.asked_often.set()
        if self.unavailable:
            raise ConnectionRefusedError("the store is unavailable")
        return await self._store.get(image)

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)


async def test_metrics_have_the_engine_time_of_each_picture_and_the_objects_of_each_class(site: WorkerSite) -> None:
    """C-S2-104, C-S2-106."""
    frames = [await site.frame("drone", number, picture(120)) for number in range(3)]
    name = read_card(site.card).name
    times = partial(REGISTRY.get_sample_value, "model_inference_time_seconds_count", {"model": name})
    found = partial(REGISTRY.get_sample_value, "detection_count_total", {"class": "red"})
    before = times() or 0.0, found() or 0.0
    await site.publish(*frames)
    async with site.run_workers(site.parts()):
        await site.wait_for(site.detections, 3)
    assert ((times() or 0.0) - before[0], (found() or 0.0) - before[1]) == (3, 3)
