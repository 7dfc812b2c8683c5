"""Frames of jobs get the model that they ask for, loaded beside the active one; live frames never wait for that."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from uuid import UUID, uuid4

import pytest

from detectors.settings import DetectorSettings
from detectors.worker.rollout.model_loader import ModelSource
from schemas.events import DetectOptions, FrameCaptured
from schemas.topics import FRAMES_JOBS
from tests.harnesses.model_versions import NAME
from tests.harnesses.worker_fleet import TIMEOUT_S, Fleet, SlowLoads, check_version, ref, versions

JOB = uuid4()


async def of_job(fleet: Fleet, number: int, version: str | None, job: UUID = JOB, **changes: object) -> FrameCaptured:
    frame = await fleet.site.frame("drone", number)
    asked = {"job_id": job, "model": None if version is None else ref(version)}
    return frame.model_copy(update={**asked, **changes})


async def test_each_frame_of_a_job_is_processed_by_the_version_it_asks_for(fleet: Fleet) -> None:
    site = fleet.site
    frames = [await of_job(fleet, number, f"{1 + number % 3}.0.0") for number in range(12)]
    live = [await site.frame("other", number) for number in range(4)]
    async with site.run_workers(fleet.parts("a")):
        await site.publish(*frames, topic=FRAMES_JOBS)
        await site.publish(*live)
        await site.wait_for(site.detections, 16)
    events = await site.detections()
    for event in events:
        check_version(event)
    assert versions([event for event in events if event.job_id]) == {"1.0.0": 4, "2.0.0": 4, "3.0.0": 4}
    assert versions([event for event in events if not event.job_id]) == {"1.0.0": 4}
    assert [event.frame_id for event in events if event.job_id] == [frame.frame_id for frame in frames]


async def test_no_more_models_are_loaded_at_once_than_set(fleet: Fleet) -> None:
    site, slow = fleet.site, SlowLoads(fleet)
    slow.go_on.set()
    source = ModelSource(fleet.store, fleet.folder / "cache", slow.load)
    settings = DetectorSettings(job_models=1, report_interval_s=0.5)
    async with site.run_workers(fleet.parts("a", models=source, settings=settings)):
        for number, version in enumerate(("2.0.0", "3.0.0", "2.0.0")):
            await site.publish(await of_job(fleet, number, version), topic=FRAMES_JOBS)
            await site.wait_for(site.detections, number + 1)
        assert slow.closed == ["2.0.0", "3.0.0"]
    assert slow.closed == ["2.0.0", "3.0.0", "2.0.0"]


async def test_live_frames_do_not_wait_for_the_model_of_a_job(fleet: Fleet) -> None:
    site, slow = fleet.site, SlowLoads(fleet)
    source = ModelSource(fleet.store, fleet.folder / "cache", slow.load)
    jobs = [await of_job(fleet, number, "2.0.0") for number in range(30)]
    live = [await site.frame("drone", number) for number in range(100, 140)]
    async with site.run_workers(fleet.parts("a", models=source)):
        await site.publish(*jobs, topic=FRAMES_JOBS)
        assert await asyncio.to_thread(slow.began.wait, TIMEOUT_S)
        # Time enough to take more of the job's frames, if that were done.
        await asyncio.sleep(1.0)
        # The same device, and so the same partition.
        await site.publish(*live)
        await site.wait_for(site.detections, len(live))
        assert versions(await site.detections()) == {"1.0.0": len(live)}
        assert site.health.part("worker-0").reason is None
        slow.go_on.set()
        await site.wait_for(site.detections, len(live) + len(jobs))
    assert versions(await site.detections()) == {"1.0.0": len(live), "2.0.0": len(jobs)}


async def test_a_version_that_is_not_there_fails_its_frames_alone(fleet: Fleet) -> None:
    site = fleet.site
    wrong = [await of_job(fleet, number, "9.0.0") for number in range(8)]
    right = [await of_job(fleet, number, None, uuid4()) for number in range(8)]
    async with site.run_workers(fleet.parts("a")):
        await site.publish(*wrong, *right, topic=FRAMES_JOBS)
        await site.wait_for(site.dead_letters, len(wrong))
        await site.wait_for(site.detections, len(right))
        assert site.health.part("worker-0").reason is None
    letters = await site.dead_letters()
    assert {letter.reason for letter in letters} == {"MODEL_LOAD_ERROR"}
    assert f"the model store has no {NAME} 9.0.0" in letters[0].message
    assert fleet.store.fetches == 1


@pytest.mark.parametrize("fault", ["nan", "corrupt"])
async def test_a_model_that_does_not_run_fails_its_job_and_nothing_else(fleet: Fleet, fault: str) -> None:
    from tests.harnesses.worker_fleet import break_version

    break_version(fleet, fault)
    site = fleet.site
    jobs = [await of_job(fleet, number, "3.0.0") for number in range(5)]
    live = [await site.frame("drone", number) for number in range(100, 110)]
    async with site.run_workers(fleet.parts("a")):
        await site.publish(*jobs, topic=FRAMES_JOBS)
        await site.publish(*live)
        await site.wait_for(site.dead_letters, len(jobs))
        await site.wait_for(site.detections, len(live))
        assert site.health.part("worker-0").reason is None


async def test_while_the_model_store_is_away_frames_of_jobs_wait_and_live_ones_do_not(fleet: Fleet) -> None:
    site = fleet.site
    fleet.store.unavailable = True
    jobs = [await of_job(fleet, number, "2.0.0") for number in range(5)]
    async with site.run_workers(fleet.parts("a")):
        await site.publish(*jobs, topic=FRAMES_JOBS)
        await asyncio.wait_for(fleet.store.fetch_failed.wait(), TIMEOUT_S)
        await site.publish(await site.frame("drone", 100))
        await site.wait_for(site.detections, 1)
        assert await site.dead_letters() == []
        fleet.store.unavailable = False
        await site.wait_for(site.detections, 6)
    assert versions(await site.detections()) == {"1.0.0": 1, "2.0.0": 5}


async def test_a_worker_stops_while_a_job_waits_for_its_model_and_the_next_one_goes_on(fleet: Fleet) -> None:
    site = fleet.site
    fleet.store.unavailable = True
    jobs = [await of_job(fleet, number, "2.0.0") for number in range(5)]
    began = time.monotonic()
    async with site.run_workers(fleet.parts("a")):
        await site.publish(*jobs, topic=FRAMES_JOBS)
        await asyncio.wait_for(fleet.store.fetch_failed.wait(), TIMEOUT_S)
    assert time.monotonic() - began < 10.0
    fleet.store.unavailable = False
    async with site.run_workers(fleet.parts("b")):
        await site.wait_for(site.detections, len(jobs))
    assert versions(await site.detections()) == {"2.0.0": len(jobs)}


async def test_a_prompt_for_a_model_without_text_is_the_reason_of_the_failure(fleet: Fleet) -> None:
    """C-S1-035."""
    from detectors.model.loading import LoadRequest, load_model

    site = fleet.site
    source = ModelSource(
        fleet.store,
        fleet.folder / "cache",
        fleet.load,
        load_prompted=lambda card, prompt: load_model(LoadRequest(card, "onnxruntime", 1, prompt=prompt)),
        own_card=fleet.models / NAME / "1.0.0" / "model.yaml",
    )
    asked = await of_job(fleet, 1, None, options=DetectOptions(prompt="bird . small boat"))
    own = partial(fleet.load, fleet.models / NAME / "1.0.0" / "model.yaml")
    async with site.run_workers(fleet.parts("a", models=source, load_model=own)):
        await site.publish(asked, topic=FRAMES_JOBS)
        await site.wait_for(site.dead_letters, 1)
    [letter] = await site.dead_letters()
    assert (letter.reason, "takes no prompt" in letter.message) == ("MODEL_LOAD_ERROR", True)
