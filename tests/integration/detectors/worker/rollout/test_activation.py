"""Activated versions, roll-backs and canaries are used for the frames that they are meant for."""

from __future__ import annotations

import asyncio

import pytest

from detectors.settings import DetectorSettings
from detectors.worker.pipeline.serving import frame_fraction
from detectors.worker.rollout.activation import (
    ActivationRequest,
    activate_model,
    roll_back_activation,
)
from detectors.worker.rollout.model_loader import ModelSource
from schemas.model_events import ModelActivated
from tests.harnesses.worker_fleet import ORDER, TIMEOUT_S, Fleet, SlowLoads, ref, swaps, versions

pytestmark = pytest.mark.integration


async def test_roll_out_under_load_loses_doubles_and_mislabels_no_frame(any_fleet: Fleet) -> None:
    fleet, site = any_fleet, any_fleet.site
    frames = [await site.frame(f"drone-{n % 6}", n) for n in range(300)]
    async with site.run_workers(fleet.parts("a"), fleet.parts("b")):
        publisher = await site.broker.publisher()
        activation: ModelActivated | None = None
        for number, frame in enumerate(frames):
            if number == 120:
                # On a busy machine workers may still be joining; what waits then would be the new version's to event.
                await site.wait_for(site.detections, 100)
                activation = await fleet.activate("2.0.0")
            await publisher.publish([site.record(frame)])
            await asyncio.sleep(0.01)
            if number == 250:
                assert activation is not None
                await fleet.wait_for_outcome("done", activation, workers=2)
        await publisher.close()
        await site.wait_for(site.detections, len(frames))
    events = await fleet.check(frames)
    assert versions(events)["1.0.0"] >= 100
    assert versions(events)["2.0.0"] >= 45
    # The partitions of a worker change over at one moment; within a device no frame goes back.
    for device in {frame.device_id for frame in frames}:
        order = [event.model.version for event in events if event.device_id == device]
        assert order == sorted(order), device


async def test_rolling_back_returns_to_the_version_before(fleet: Fleet) -> None:
    site = fleet.site
    frames = [await site.frame("drone", number) for number in range(3)]
    async with site.run_workers(fleet.parts("a")):
        await fleet.wait_for_outcome("done", await fleet.activate("2.0.0"))
        await site.publish(frames[0])
        await site.wait_for(site.detections, 1)
        # There was no activation before, so the model of the worker's own setting is used again.
        await fleet.wait_for_outcome("done", await fleet.publish_activation(roll_back_activation(ORDER, fleet.current)))
        await site.publish(frames[1])
        await site.wait_for(site.detections, 2)
        await fleet.wait_for_outcome("done", await fleet.publish_activation(roll_back_activation(ORDER, fleet.current)))
        await site.publish(frames[2])
        await site.wait_for(site.detections, 3)
    events = await fleet.check(frames)
    assert [event.model.version for event in events] == ["2.0.0", "1.0.0", "2.0.0"]


async def test_canary_on_devices_is_promoted_without_a_second_load(fleet: Fleet) -> None:
    site = fleet.site
    frames = [await site.frame(f"drone-{n % 3}", n) for n in range(12)]
    async with site.run_workers(fleet.parts("a")):
        await fleet.wait_for_outcome("done", await fleet.start_canary("2.0.0", devices=["drone-1"]))
        await site.publish(*frames[:6])
        await site.wait_for(site.detections, 6)
        asked = fleet.store.fetches
        await fleet.wait_for_outcome("done", await fleet.activate("2.0.0"))
        assert fleet.store.fetches == asked
        await site.publish(*frames[6:])
        await site.wait_for(site.detections, 12)
    by_frame = {event.frame_id: event for event in await fleet.check(frames)}
    for number, frame in enumerate(frames):
        wanted = "2.0.0" if number >= 6 or frame.device_id == "drone-1" else "1.0.0"
        assert by_frame[frame.frame_id].model == ref(wanted), number


async def test_canary_share_takes_always_the_same_frames(fleet: Fleet) -> None:
    site = fleet.site
    frames = [await site.frame(f"drone-{n % 3}", n) for n in range(200)]
    async with site.run_workers(fleet.parts("a")):
        await fleet.wait_for_outcome("done", await fleet.start_canary("2.0.0", share=0.25))
        await site.publish(*frames)
        await site.wait_for(site.detections, 200)
    events = await fleet.check(frames)
    expected = {frame.frame_id for frame in frames if frame_fraction(frame.frame_id, ref("2.0.0")) < 0.25}
    assert {event.frame_id for event in events if event.model.version == "2.0.0"} == expected
    # Four standard deviations of 200 draws at 0.25.
    assert 26 <= len(expected) <= 74


async def test_newest_activation_replaces_one_in_progress(fleet: Fleet) -> None:
    site = fleet.site
    slow = SlowLoads(fleet)
    before = swaps("done")
    first, frame = await site.frame("drone", 0), await site.frame("drone", 1)
    async with site.run_workers(fleet.parts("a", models=ModelSource(fleet.store, fleet.folder / "cache", slow.load))):
        await site.publish(first)
        await site.wait_for(site.detections, 1)
        await fleet.activate("2.0.0")
        await asyncio.to_thread(slow.began.wait, TIMEOUT_S)
        last = await fleet.activate("3.0.0")
        await asyncio.sleep(0.3)
        slow.go_on.set()
        await fleet.wait_for_outcome("done", last)
        await site.publish(frame)
        await site.wait_for(site.detections, 2)
    assert [event.model.version for event in await fleet.check([first, frame])] == ["1.0.0", "3.0.0"]
    assert swaps("done") - before == 1, "the overtaken version never came into service"
    assert slow.closed == ["2.0.0", "3.0.0"], "a model that no task waits for is closed when it is loaded"


async def test_activation_leaves_other_rollout_lanes_unchanged(fleet: Fleet) -> None:
    site = fleet.site
    settings = DetectorSettings(lane="sea", report_interval_s=0.5)
    async with site.run_workers(fleet.parts("a", settings=settings)):
        await fleet.activate("2.0.0")
        sea = activate_model(ActivationRequest("sea"), None, ref("3.0.0"), None)
        await fleet.wait_for_outcome("done", await fleet.publish_activation(sea))
        frame = await site.frame("drone", 1)
        await site.publish(frame)
        await site.wait_for(site.detections, 1)
    assert versions(await fleet.check([frame])) == {"3.0.0": 1}
