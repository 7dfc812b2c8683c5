"""A worker starts with the activated version, waits for the store, and stops at any moment."""

from __future__ import annotations

import asyncio
import logging
import threading
import time

import pytest

from detectors.errors import ModelLoadError
from detectors.model.predict import Model
from detectors.worker.rollout.activation import (
    roll_back_activation,
)
from infra.broker.port import OutRecord
from schemas import topics
from tests.harnesses.model_versions import NAME
from tests.harnesses.worker_fleet import ORDER, TIMEOUT_S, Fleet, break_version, ref, versions


async def test_worker_starts_with_activated_version_or_falls_back(fleet: Fleet) -> None:
    site = fleet.site
    frames = [await site.frame("drone", number) for number in range(3)]
    await fleet.activate("2.0.0")
    async with site.run_workers(fleet.parts("a")):
        await site.publish(frames[0])
        await site.wait_for(site.detections, 1)
    break_version(fleet, "nan")
    third = await fleet.activate("3.0.0")
    async with site.run_workers(fleet.parts("b")):
        await fleet.wait_for_outcome("refused", third)
        await site.publish(frames[1])
        await site.wait_for(site.detections, 2)
    break_version(fleet, "checksum")
    (fleet.models / NAME / "2.0.0").rename(fleet.folder / "moved")
    async with site.run_workers(fleet.parts("c")):
        await fleet.wait_for_outcome("refused", third)
        await site.publish(frames[2])
        await site.wait_for(site.detections, 3)
    events = await fleet.check(frames)
    assert [event.model.version for event in events] == ["2.0.0", "2.0.0", "1.0.0"]


async def test_unavailable_model_store_delays_roll_out_and_no_frames(
    fleet: Fleet, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    site = fleet.site
    frames = [await site.frame("drone", number) for number in range(3)]
    async with site.run_workers(fleet.parts("a")):
        await site.publish(frames[2])
        await site.wait_for(site.detections, 1)
        fleet.store.unavailable = True
        activation = await fleet.activate("2.0.0")
        async with asyncio.timeout(TIMEOUT_S):
            await fleet.store.fetch_failed.wait()
        await site.publish(frames[0])
        await site.wait_for(site.detections, 2)
        report = await fleet.report("a")
        (target,) = (one for one in report.models if one.model == ref("2.0.0"))
        assert (target.state, target.detail) == ("downloading", "the model store does not respond")
        assert site.health.report().ready
        fleet.store.unavailable = False
        await fleet.wait_for_outcome("done", activation)
        await site.publish(frames[1])
        await site.wait_for(site.detections, 3)
    rolled_out = [vars(record)["stable"] for record in caplog.records if record.message == "rolling out"]
    assert rolled_out == [f"{NAME} 1.0.0", f"{NAME} 2.0.0"]
    events = await fleet.check([frames[2], *frames[:2]])
    assert [event.model.version for event in events] == ["1.0.0", "1.0.0", "2.0.0"]


async def test_starting_worker_waits_for_unavailable_model_store(fleet: Fleet) -> None:
    site = fleet.site
    await fleet.activate("2.0.0")
    fleet.store.unavailable = True
    frame = await site.frame("drone", 1)
    await site.publish(frame)
    async with site.run_workers(fleet.parts("a")):
        async with asyncio.timeout(TIMEOUT_S):
            await fleet.store.fetch_failed.wait()
        assert not site.health.report().ready
        fleet.store.unavailable = False
        await site.wait_for(site.detections, 1)
    assert versions(await fleet.check([frame])) == {"2.0.0": 1}


async def test_worker_waiting_for_model_store_follows_a_roll_back(fleet: Fleet) -> None:
    site = fleet.site
    second = await fleet.activate("2.0.0")
    fleet.store.unavailable = True
    frame = await site.frame("drone", 1)
    await site.publish(frame)
    async with site.run_workers(fleet.parts("a")):
        async with asyncio.timeout(TIMEOUT_S):
            await fleet.store.fetch_failed.wait()
        await fleet.wait_for_report("a", lambda report: report.activation == second.id and not report.settled)
        await fleet.wait_for_outcome("done", await fleet.publish_activation(roll_back_activation(ORDER, fleet.current)))
        await site.wait_for(site.detections, 1)
    assert fleet.store.unavailable
    assert versions(await fleet.check([frame])) == {"1.0.0": 1}


async def test_invalid_records_in_models_topic_are_skipped_and_worker_deletes_its_report(fleet: Fleet) -> None:
    site = fleet.site
    await site.publish_records(OutRecord(topics.MODELS, "default", b"\x00 no event"))
    async with site.run_workers(fleet.parts("a")):
        await site.publish_records(OutRecord(topics.MODELS, "default", b"\x00 no event"))
        await fleet.wait_for_outcome("done", await fleet.activate("2.0.0"))
        assert (await fleet.report("a")).worker == "a"
    assert (await fleet.state()).workers == {}


async def test_worker_stops_at_any_moment_of_its_start(fleet: Fleet) -> None:
    site = fleet.site
    await fleet.activate("2.0.0")
    frames = [await site.frame("drone", number) for number in range(16)]
    for number, frame in enumerate(frames):
        await site.publish(frame)
        async with asyncio.timeout(TIMEOUT_S), site.run_workers(fleet.parts("a")):
            await asyncio.sleep(number * 0.01)
    async with site.run_workers(fleet.parts("a")):
        await site.wait_for(site.detections, len(frames))
    await fleet.check(frames)


async def test_worker_stops_while_its_model_is_being_loaded(fleet: Fleet) -> None:
    loads, go_on = threading.Event(), threading.Event()

    def load() -> Model:
        loads.set()
        assert go_on.wait(TIMEOUT_S)
        raise ModelLoadError("not needed any more")

    try:
        async with fleet.site.run_workers(fleet.parts("a", load_model=load)):
            assert await asyncio.to_thread(loads.wait, TIMEOUT_S)
            start = time.monotonic()
        assert time.monotonic() - start < 5
        assert (await fleet.state()).workers == {}
    finally:
        go_on.set()
