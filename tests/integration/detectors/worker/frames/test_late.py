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
from tests.benches.model_versions import ShelfStore
from tests.benches.worker_site import WorkerWorld

pytestmark = pytest.mark.integration

LATE, IN_TIME = timedelta(minutes=10), timedelta(0)


async def frames(world: WorkerWorld, *ages: timedelta) -> list[FrameCaptured]:
    """Frames of one device that were received so long ago."""
    made = [await world.frame("drone", number) for number in range(len(ages))]
    return [frame.model_copy(update={"received_at": utc_now() - age}) for frame, age in zip(made, ages, strict=True)]


def settings(policy: str) -> DetectorSettings:
    return DetectorSettings(late_policy=policy, live_deadline_s=60)


async def test_late_frames_without_deadline_are_processed_in_order(world: WorkerWorld) -> None:
    sent = await frames(world, LATE, LATE, IN_TIME)
    await world.publish(*sent)
    async with world.working(world.parts()):
        await world.until(world.answers, 3)
    assert [answer.frame_id for answer in await world.answers()] == [frame.frame_id for frame in sent]


async def test_late_frames_put_off_are_processed_once_after_the_newest(world: WorkerWorld) -> None:
    late, later, new = sent = await frames(world, LATE, LATE, IN_TIME)
    # A late frame that stands twice is put off twice, and answered once.
    await world.publish(late, later, late, new)
    async with world.working(world.parts(settings=settings("put_off"))):
        await world.until(world.answers, 3)
    assert [answer.frame_id for answer in await world.answers()] == [new.frame_id, late.frame_id, later.frame_id]
    moved = await world.read(topics.FRAMES_BACKFILL)
    assert [record.value for record in moved] == [frame.to_bytes() for frame in (late, later, late)]
    assert {header for record in moved for header in record.headers} >= {
        ("ce_id", str(frame.frame_id).encode()) for frame in sent[:2]
    }
    assert await world.letters() == []


async def test_late_frames_given_up_are_dead_letters_that_can_be_redriven(world: WorkerWorld) -> None:
    late, new = await frames(world, LATE, IN_TIME)
    await world.publish(late, new)
    async with world.working(world.parts(settings=settings("give_up"))):
        await world.until(world.answers, 1)
        await world.until(world.letters, 1)
    (letter,) = await world.letters()
    assert (letter.reason, letter.frame_id, letter.attempts) == ("DEADLINE_EXCEEDED", late.frame_id, 1)
    # The 540 seconds it was late when it was sent, and those it took to come here.
    assert re.search(r"\b5[4-9]\d\.\d s after its deadline of 60 s", letter.message)
    assert letter.original.value == late.to_bytes()


async def test_worker_clock_days_ahead_gives_up_no_frame(
    world: WorkerWorld, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ahead = timedelta(days=3)
    monkeypatch.setattr(rollout, "utc_now", lambda: utc_now() + ahead)
    monkeypatch.setattr(EmbeddedPublisher, "clock_ahead_s", lambda publisher: -ahead.total_seconds())
    late, new = await frames(world, LATE, IN_TIME)
    await world.publish(late, new)

    def load(card: Path, busy: bool) -> Model:
        return load_model(LoadRequest(card, "onnxruntime", 1))

    models = ModelSource(ShelfStore(tmp_path / "store"), tmp_path / "cache", load)
    async with world.working(world.parts(settings=settings("give_up"), models=models)):
        await world.until(world.answers, 1)
        await world.until(world.letters, 1)
    assert [answer.frame_id for answer in await world.answers()] == [new.frame_id]
    assert [letter.frame_id for letter in await world.letters()] == [late.frame_id]


async def test_late_duplicate_is_dropped_and_no_dead_letter(world: WorkerWorld) -> None:
    (frame,) = await frames(world, LATE)
    await world.publish(frame)
    async with world.working(world.parts()):
        await world.until(world.answers, 1)
    marker = (await frames(world, IN_TIME, IN_TIME))[1]
    await world.publish(frame, marker)
    async with world.working(world.parts(settings=settings("give_up"))):
        await world.until(world.answers, 2)
    assert [answer.frame_id for answer in await world.answers()] == [frame.frame_id, marker.frame_id]
    assert await world.letters() == []


async def test_only_live_frames_have_a_deadline(world: WorkerWorld) -> None:
    job, backfill = await frames(world, LATE, LATE)
    await world.publish(job, topic=topics.FRAMES_JOBS)
    await world.publish(backfill, topic=topics.FRAMES_BACKFILL)
    async with world.working(world.parts(settings=settings("give_up"))):
        await world.until(world.answers, 2)
    assert await world.letters() == []
