"""Checks when a finished frame is committed: a live one does not wait for the pause after others."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

import pytest

from detectors.worker.partitions.commit_loop import CommitLoop
from detectors.worker.partitions.frames_in_progress import FramesInProgress
from detectors.worker.partitions.partition_queue import FrameOutcome, PendingRecord
from infra.broker.port import CommitPoint, Consumer, OutRecord, TopicPartition
from infra.failure.retry import ConsumerContext
from infra.failure.settings import RetrySettings
from infra.process.health import Health
from schemas.topics import FRAMES_BACKFILL, FRAMES_LIVE

PAUSE_S = 5.0


@dataclass
class Commits:
    """Notes the topics of each commit; commits of a partition in ``slow`` wait for ``go_on``."""

    slow: set[int] = field(default_factory=set)
    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    found: asyncio.Queue[str] = field(default_factory=asyncio.Queue)

    async def commit(self, points: Mapping[TopicPartition, CommitPoint], outputs: Sequence[OutRecord]) -> None:
        del outputs
        for source in points:
            if source.partition in self.slow:
                await self.go_on.wait()
            self.found.put_nowait(source.topic)

    async def next_topic(self) -> str:
        return await asyncio.wait_for(self.found.get(), PAUSE_S / 2)


@dataclass
class Running:
    """A commit loop with its frames in progress."""

    in_progress: FramesInProgress
    commits: Commits

    def finish(self, topic: str, partition: int) -> None:
        pending = PendingRecord(TopicPartition(topic, partition), CommitPoint(1, 1))
        queue = self.in_progress.queue(partition)
        queue.append(pending)
        self.in_progress.finish(queue, pending, FrameOutcome())


@pytest.fixture
async def loop() -> Running:
    return Running(FramesInProgress(max_frames=16), Commits())


async def run(loop: Running, interval_s: float = PAUSE_S) -> asyncio.Task[None]:
    health = Health().part("detector")
    context = ConsumerContext(RetrySettings(), asyncio.Event(), health, "detector")
    consumer = cast(Consumer, loop.commits)
    commits = CommitLoop(loop.in_progress, consumer, context, interval_s=interval_s, max_records=8)
    return asyncio.create_task(commits.run(lambda: False))


async def end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_live_frame_is_committed_during_the_pause_after_others(loop: Running) -> None:
    task = await run(loop)
    loop.finish(FRAMES_BACKFILL, 1)
    assert await loop.commits.next_topic() == FRAMES_BACKFILL
    await asyncio.sleep(0)
    loop.finish(FRAMES_LIVE, 2)
    assert await loop.commits.next_topic() == FRAMES_LIVE
    await end(task)


async def test_live_frame_is_committed_while_the_commit_of_another_takes_long(loop: Running) -> None:
    loop.commits.slow = {1}
    task = await run(loop, 0.001)
    loop.finish(FRAMES_BACKFILL, 1)
    await asyncio.sleep(0.01)
    began = time.monotonic()
    loop.finish(FRAMES_LIVE, 2)
    assert await loop.commits.next_topic() == FRAMES_LIVE
    assert time.monotonic() - began < 0.4
    loop.commits.go_on.set()
    assert await loop.commits.next_topic() == FRAMES_BACKFILL
    await end(task)


async def test_frames_that_finish_after_a_live_one_share_a_commit(loop: Running) -> None:
    task = await run(loop)
    loop.finish(FRAMES_LIVE, 1)
    assert await loop.commits.next_topic() == FRAMES_LIVE
    for topic, partition in ((FRAMES_LIVE, 1), (FRAMES_BACKFILL, 2)):
        loop.finish(topic, partition)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(loop.commits.found.get(), 0.1)
    await end(task)
