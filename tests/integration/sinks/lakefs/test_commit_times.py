"""Runs the archive by the loop of sinks: commits by count, by time, and by batch."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from infra.consuming.consumer_loop import SinkRunner
from infra.consuming.settings import BatchSettings
from infra.failure.settings import RetrySettings
from infra.process.health import Health, HealthPart
from schemas.events import DetectionsMade, FrameBatch
from schemas.ids import frame_batch_id
from schemas.topics import DETECTIONS
from sinks.lakefs.gathering import CommitGathering
from sinks.lakefs.settings import MOST_RECORDS
from standgale.testing.factories import out_record
from standgale.testing.waiting import until
from tests.harnesses.archive import FolderHarness

pytestmark = pytest.mark.integration


@asynccontextmanager
async def running(archive: FolderHarness, batch_timeout_s: float) -> AsyncIterator[HealthPart]:
    health = Health(silence_s=1.0).part("archive")
    runner = SinkRunner(
        archive.make_sink(),
        archive.broker,
        batches=BatchSettings(batch_records=MOST_RECORDS, batch_wait_s=batch_timeout_s),
        retry=RetrySettings(first_delay_s=0.01, max_delay_s=0.1),
        gathering=CommitGathering(10),
    )
    stop = asyncio.Event()
    task = asyncio.create_task(runner.run(stop, health))
    try:
        yield health
    finally:
        stop.set()
        await asyncio.wait_for(task, 20)


async def publish(archive: FolderHarness, events: Sequence[DetectionsMade]) -> None:
    publisher = await archive.broker.publisher()
    await publisher.publish([out_record(event, DETECTIONS) for event in events])
    await publisher.close()


def sizes(archive: FolderHarness) -> list[int]:
    return [int(commit["metadata"]["images"]) for commit in archive.commits()]


async def test_ten_frames_are_committed_at_once_and_nine_after_the_time(tmp_path: Path) -> None:
    # C-S1-074
    archive = FolderHarness(tmp_path / "site")
    async with running(archive, 2.0) as health:
        await publish(archive, [archive.event(number, device="d") for number in range(19)])
        await until(lambda: sizes(archive) == [10], "ten are not committed")
        began = time.monotonic()
        await until(lambda: health.report().ready, "it is ready while frames wait")
        await until(lambda: sizes(archive) == [10, 9], "nine are not committed")
        assert 0.5 < time.monotonic() - began < 10
        assert health.report().ready, "it gives signs of life while frames wait"
    assert len(await archive.stored()) == 19
    await archive.close()


async def test_batch_is_one_commit_although_its_frames_come_slowly(tmp_path: Path) -> None:
    # C-S1-016
    archive = FolderHarness(tmp_path / "site")
    frames = [archive.event(number, device="d") for number in range(25)]
    batch = FrameBatch(id=frame_batch_id(event.frame_id for event in frames), frames=25)
    events = [event.model_copy(update={"batch": batch}) for event in frames]
    async with running(archive, 30.0):
        for first in range(0, 25, 5):
            await publish(archive, events[first : first + 5])
            await asyncio.sleep(0.1)
        await until(lambda: sizes(archive) == [25], "the batch is not one commit")
    await archive.close()


async def test_stop_commits_what_waits(tmp_path: Path) -> None:
    archive = FolderHarness(tmp_path / "site")
    async with running(archive, 300.0):
        await publish(archive, [archive.event(number, device="d") for number in range(3)])
        await asyncio.sleep(0.6)
        assert sizes(archive) == []
    assert sizes(archive) == [3]
    await archive.close()
