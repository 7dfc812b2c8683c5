"""Runs a worker from joining its group to leaving it: starts the loops, and ends them in the right order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime

from detectors.settings import DetectorSettings
from detectors.worker.frames.frame_attempt import FrameAttempt
from detectors.worker.frames.intake import FrameIntake
from detectors.worker.frames.lateness import Lateness
from detectors.worker.frames.record_processor import RecordProcessor
from detectors.worker.partitions.commit_loop import CommitLoop
from detectors.worker.partitions.frames_in_progress import FramesInProgress
from detectors.worker.partitions.queue_opener import QueueOpener, WindowSource
from detectors.worker.pipeline.serving import LoadedModel, Roster
from detectors.worker.quarantine.engine_watch import watch_engines
from detectors.worker.rollout.job_models import JobModels, NoJobModels
from infra.broker.port import Consumer
from infra.consuming.lag_metric import report_lag
from infra.failure.retry import ConsumerContext
from schemas import topics


@dataclass(frozen=True, slots=True)
class GroupSession:
    """Polls frames, processes each in a task, and commits what is finished, until the process stops."""

    settings: DetectorSettings
    context: ConsumerContext
    consumer: Consumer
    windows: WindowSource
    attempt: FrameAttempt
    roster: Roster
    job_models: JobModels | NoJobModels
    now: Callable[[], datetime]
    """The clock that decides which frames are late."""

    async def until_drained(self) -> None:
        """Work until the process stops, then finish the frames in progress; a defect in one part ends the process.

        Frames that cannot be finished at that time are left uncommitted, for the next worker.
        """
        settings, context = self.settings, self.context
        in_progress = FramesInProgress(max_frames=settings.prefetch_frames, max_background=settings.background_frames)
        commits = CommitLoop(
            in_progress,
            self.consumer,
            context,
            interval_s=settings.commit_interval_s,
            max_records=settings.max_batch_frames,
        )
        processor = RecordProcessor(
            in_progress, context, self.attempt, self.roster, settings.max_in_flight_bytes, self.job_models
        )
        lateness = Lateness(settings.late_policy, settings.live_deadline_s, self.now)
        processed = asyncio.Event()
        async with (
            run_beside(self._stop_separate_decoding()),
            run_beside(watch_engines(self._models_in_use, context.health, self.attempt.quarantine)),
            report_lag(self.consumer, context.group, topics.FRAME_TOPICS),
            asyncio.TaskGroup() as group,
        ):
            group.create_task(commits.run(processed.is_set), name="detector-commit")
            async with asyncio.TaskGroup() as frames:
                # Partitions come from other workers, and one of those may have crashed.
                find_suspects = self.attempt.quarantine.find_suspects
                opener = QueueOpener(self.windows, in_progress, context, frames, on_opening=find_suspects)
                intake = FrameIntake(
                    context, self.consumer, in_progress, processor, opener, self.roster, lateness, frames
                )
                await intake.run()
            processed.set()

    def _models_in_use(self) -> list[LoadedModel]:
        return [*self.roster.all_models, *self.job_models.all_models]

    async def _stop_separate_decoding(self) -> None:
        """Leave images that are decoded in a separate process to the next worker when this one has to end.

        Each may take ``detector.max_decode_s``, and they wait for each other.
        """
        await self.context.stop.wait()
        for loaded in self._models_in_use():
            loaded.pipeline.stop_separate_decoding()


@asynccontextmanager
async def run_beside(other: Coroutine[None, None, None]) -> AsyncIterator[None]:
    """Run ``other`` while the block runs; when either fails, both end."""
    async with asyncio.TaskGroup() as group:
        task = group.create_task(other)
        yield
        task.cancel()
