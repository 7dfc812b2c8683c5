"""One life of a worker, from joining the group to leaving it: what runs side by side, and in which order it ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime

from detectors.settings import DetectorSettings
from detectors.worker.engine_watch import watch_engines
from detectors.worker.frames.frame_attempt import Answerer
from detectors.worker.frames.intake import Intake
from detectors.worker.frames.lateness import Lateness
from detectors.worker.frames.record_processor import Settler
from detectors.worker.partitions.commit_loop import Committer
from detectors.worker.partitions.frames_in_progress import Flow
from detectors.worker.partitions.queue_opener import Opener, WindowSource
from detectors.worker.pipeline.serving import Roster
from infra.broker.port import Consumer
from infra.consuming.lag_metric import report_lag
from infra.failure.retry import ConsumerContext
from schemas import topics


@dataclass(frozen=True, slots=True)
class Life:
    """The poll loop takes room before it fetches, tasks answer, and the commit loop commits finished prefixes."""

    settings: DetectorSettings
    work: ConsumerContext
    consumer: Consumer
    windows: WindowSource
    answerer: Answerer
    roster: Roster
    now: Callable[[], datetime]
    """By this clock a frame is late"""

    async def until_drained(self) -> None:
        """Work until the process stops, then finish what is under way; a bug in one part ends the process.

        What can't go on just then is left uncommitted, for the next worker.
        """
        settings, work = self.settings, self.work
        flow = Flow(max_frames=settings.prefetch_frames)
        committer = Committer(
            flow, self.consumer, work, interval_s=settings.commit_interval_s, max_entries=settings.max_batch_frames
        )
        settler = Settler(flow, work, self.answerer, self.roster, settings.max_in_flight_bytes)
        lateness = Lateness(settings.late_policy, settings.live_deadline_s, self.now)
        answered = asyncio.Event()
        async with (
            beside(watch_engines(self.roster, work.health, self.answerer.guard)),
            report_lag(self.consumer, work.group, topics.FRAME_TOPICS),
            asyncio.TaskGroup() as group,
        ):
            group.create_task(committer.run(answered.is_set), name="detector-commit")
            async with asyncio.TaskGroup() as frames:
                opener = Opener(self.windows, flow, work, self.answerer.guard, frames)
                intake = Intake(work, self.consumer, flow, settler, opener, self.roster, lateness, frames)
                await intake.run()
            answered.set()


@asynccontextmanager
async def beside(other: Coroutine[None, None, None]) -> AsyncIterator[None]:
    """Run ``other`` while the block runs; when either fails, both end."""
    async with asyncio.TaskGroup() as group:
        task = group.create_task(other)
        yield
        task.cancel()
