"""Checks late live frames under each policy: processed, put off to the backfill, or dead letters; none is lost."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pytest

from detectors.model.loading import LoadRequest, load_model
from detectors.model.predict import Model
from detectors.settings import DetectorSettings
from detectors.worker.rollout import rollout
from detectors.worker.rollout.model_loader import ModelSource
from infra.broker.embedded.publisher import EmbeddedPublisher
from schemas import topics
from schemas.events import FrameCaptured
from schemas.timestamps import utc_now
from tests.harnesses.model_versions import CopyStore
from tests.harnesses.worker_site import WorkerSite

pytestmark = pytest.mark.integration

LATE, IN_TIME = timedelta(minutes=10), timedelta(0)


async def frames(site: WorkerSite, *ages: timedelta) -> list[FrameCaptured]:
    """Frames of one device that were received so long ago."""
    made = [await site.frame("drone", number) for number in range(len(ages))]
    return [frame.model_copy(update={"received_at": utc_now() - age}) for frame, age in zip(made, ages, strict=True)]


def settings(policy: str) -> DetectorSettings:
    return DetectorSettings(late_policy=policy, live_deadline_s=60)


async def test_late_frames_without_deadline_are_processed_in_order(site: WorkerSite) -> None:
    sent = await frames(site, LATE, LATE, IN_TIME)
    await site.publish(*sent)
    async with site.run_workers(site.parts()):
        await site.wait_for(site.detections, 3)
    assert [event.frame_id for event in await site.detections()] == [frame.frame_id for frame in sent]


async def test_late_frames_put_off_are_processed_once_after_the_newest(site: WorkerSite) -> None:
    late, later, new = sent = await frames(site, LATE, LATE, IN_TIME)
    # A late frame that is in the topic twice is put off twice, and processed once.
    await site.publish(late, later, late, new)
    async with site.run_workers(site.parts(settings=settings("put_off"))):
        await site.wait_for(site.detections, 3)
    assert [event.frame_id for event in await site.detections()] == [new.frame_id, late.frame_id, later.frame_id]
    moved = await site.read(topics.FRAMES_BACKFILL)
    assert [record.value for record in moved] == [frame.to_bytes() for frame in (late, later, late)]
    assert {header for record in moved for header in record.headers} >= {
        ("ce_id", str(frame.frame_id).encode()) for frame in sent[:2]
    }
    assert await site.dead_letters() == []


async def test_late_frames_given_up_are_dead_letters_that_can_be_redriven(site: WorkerSite) -> None:
    late, new = await frames(site, LATE, IN_TIME)
    await site.publish(late, new)
    async with site.run_workers(site.parts(settings=settings("give_up"))):
        await site.wait_for(site.detections, 1)
        await site.wait_for(site.dead_letters, 1)
    (letter,) = await site.dead_letters()
    assert (letter.reason, letter.frame_id, letter.attempts) == ("DEADLINE_EXCEEDED", late.frame_id, 1)
    # The 540 seconds it was late when it was sent, and those it took to come here.
    assert re.search(r"\b5[4-9]\d\.\d s after its deadline of 60 s", letter.message)
    assert letter.original.value == late.to_bytes()


async def test_worker_clock_days_ahead_gives_up_no_frame(
    site: WorkerSite, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ahead = timedelta(days=3)
    monkeypatch.setattr(rollout, "utc_now", lambda: utc_now() + ahead)
    monkeypatch.setattr(EmbeddedPublisher, "clock_ahead_s", lambda publisher: -ahead.total_seconds())
    late, new = await frames(site, LATE, IN_TIME)
    await site.publish(late, new)

    def load(card: Path, busy: bool) -> Model:
        return load_model(LoadRequest(card, "onnxruntime", 1))

    models = ModelSource(CopyStore(tmp_path / "store"), tmp_path / "cache", load)
    async with site.run_workers(site.parts(settings=settings("give_up"), models=models)):
        await site.wait_for(site.detections, 1)
        await site.wait_for(site.dead_letters, 1)
    assert [event.frame_id for event in await site.detections()] == [new.frame_id]
    assert [letter.frame_id for letter in await site.dead_letters()] == [late.frame_id]


async def test_late_duplicate_is_dropped_and_no_dead_letter(site: WorkerSite) -> None:
    (frame,) = await frames(site, LATE)
    await site.publish(frame)
    async with site.run_workers(site.parts()):
        await site.wait_for(site.detections, 1)
    marker = (await frames(site, IN_TIME, IN_TIME))[1]
    await site.publish(frame, marker)
    async with site.run_workers(site.parts(settings=settings("give_up"))):
        await site.wait_for(site.detections, 2)
    assert [event.frame_id for event in await site.detections()] == [frame.frame_id, marker.frame_id]
    assert await site.dead_letters() == []


async def test_only_live_frames_have_a_deadline(site: WorkerSite) -> None:
    job, backfill = await frames(site, LATE, LATE)
    await site.publish(job, topic=topics.FRAMES_JOBS)
    await site.publish(backfill, topic=topics.FRAMES_BACKFILL)
    async with site.run_workers(site.parts(settings=settings("give_up"))):
        await site.wait_for(site.detections, 2)
    assert await site.dead_letters() == []
