"""Polls frames by priority, and decides for each whether it is processed, dropped, moved to the backfill, or held.

The loop itself never waits for a frame: work that takes time runs in a separate task.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import replace
from functools import partial

from detectors.metrics import DUPLICATE_FRAMES, FRAMES_LATE
from detectors.worker.frames.background import Background
from detectors.worker.frames.classify import (
    Classified,
    Duplicate,
    Invalid,
    Late,
    NewerVersion,
    ToProcess,
    classify_record,
)
from detectors.worker.frames.lateness import Lateness, backfill_copy
from detectors.worker.frames.priorities import PriorityOrder
from detectors.worker.frames.record_processor import RecordProcessor, RecordTask
from detectors.worker.partitions.frames_in_progress import FramesInProgress
from detectors.worker.partitions.partition_queue import FrameOutcome, PartitionQueue, PendingRecord
from detectors.worker.partitions.queue_opener import QueueOpener
from detectors.worker.pipeline.serving import LoadedModel, Roster
from infra.broker.port import Consumer, InRecord, Loss
from infra.failure.dead_letter_records import LOST_REASON, loss_text, lost_letter, report_loss
from infra.failure.retry import ConsumerContext, StoppedError
from schemas import topics

_POLL_TIMEOUT_S = 0.25
# Other partitions are polled again after that.
_FULL_WAIT_S = 0.05
# So are frames that are not live; this is short, because each of them takes little more.
_BACKGROUND_WAIT_S = 0.01
_LOSSES = "lost records"


class FrameIntake:
    """Polls only as many records as there are free slots, and starts a task for each frame to process."""

    def __init__(
        self,
        context: ConsumerContext,
        consumer: Consumer,
        in_progress: FramesInProgress,
        processor: RecordProcessor,
        opener: QueueOpener,
        roster: Roster,
        lateness: Lateness,
        tasks: asyncio.TaskGroup,
    ) -> None:
        self._context = context
        self._consumer = consumer
        self._in_progress = in_progress
        self._processor = processor
        self._opener = opener
        self._roster = roster
        self._lateness = lateness
        self._tasks = tasks
        self._order = PriorityOrder(topics.FRAME_TOPICS)
        self._background = Background(in_progress)
        self._losses: set[Loss] = set()

    async def run(self) -> None:
        """Poll and accept records until the process stops."""
        while not self._context.stop.is_set():
            self._context.health.beat()
            free_slots = self._in_progress.free_slots()
            if free_slots > 0:
                try:
                    records = await self._context.retry(partial(self._poll, free_slots), "poll frames")
                except StoppedError:
                    # The frames in progress are still finished, and committed if that works.
                    return
                self._append_losses()
                for record in records:
                    self._accept(record)
            else:
                await self._in_progress.wait_for_slot(_POLL_TIMEOUT_S)
            self._drop_lost()

    async def _poll(self, free_slots: int) -> list[InRecord]:
        """Return the next records by priority, except for held and full partitions; wait when all are empty.

        A partition has at most its share of the slots, so that frames of other devices need not wait until many large
        frames of one device are finished.
        """
        most = min(free_slots, self._in_progress.most_at_once)
        of_jobs = self._in_progress.job_room
        full = self._in_progress.full_partitions
        without = [*self._in_progress.held_partitions, *full]
        others = self._background.room(most)
        for topic in self._order.next_order():
            limit = most if topic == topics.FRAMES_LIVE else others
            if topic == topics.FRAMES_JOBS:
                limit = min(limit, of_jobs)
            if limit and (
                records := await self._consumer.poll(max_records=limit, timeout_s=0, topics=(topic,), without=without)
            ):
                return records
        if full:
            await self._in_progress.wait_for_slot(_FULL_WAIT_S)
            return []
        if not others:
            # Others are polled again soon: a frame of theirs may be finished.
            live = (topics.FRAMES_LIVE,)
            return await self._consumer.poll(
                max_records=most, timeout_s=_BACKGROUND_WAIT_S, topics=live, without=without
            )
        some = tuple(topic for topic in topics.FRAME_TOPICS if topic != topics.FRAMES_JOBS or of_jobs)
        most = min(others, of_jobs) if of_jobs else others
        return await self._consumer.poll(max_records=most, timeout_s=_POLL_TIMEOUT_S, topics=some, without=without)

    def _accept(self, record: InRecord) -> None:
        """Append ``record`` to its partition's queue, and start with it as soon as the queue is open."""
        if record.topic == topics.FRAMES_LIVE:
            self._background.live_came()
        pending = PendingRecord.from_record(record)
        queue = self._append(pending)
        self._opener.run_when_open(queue, partial(self._begin, RecordTask(queue, pending, record)))

    def _append(self, pending: PendingRecord) -> PartitionQueue:
        queue = self._in_progress.queue(pending.source.partition)
        if not queue.has_assignment(pending.source, pending.commit_point.epoch):
            queue.start_assignment(pending.source, pending.commit_point.epoch)
            self._opener.open(queue)
        queue.append(pending)
        return queue

    def _begin(self, task: RecordTask) -> None:
        """Decide what is done with the record of ``task``; only then acquire its model and claim its event."""
        if task.pending.is_void:
            return
        match self._classify(task):
            case ToProcess() as frame:
                if isinstance(frame.model, LoadedModel):
                    self._roster.acquire(frame.model)
                task.queue.claim_event(task.pending, frame.event_key)
                self._start(task, self._processor.process(task, frame))
            case Duplicate(event_key):
                # It becomes the newest in the window.
                task.queue.window.add(event_key)
                self._in_progress.finish(task.queue, task.pending, FrameOutcome(count=DUPLICATE_FRAMES.inc))
            case Late(late_s):
                self._in_progress.finish(task.queue, task.pending, self._late_outcome(task.record, late_s))
            case Invalid(invalid):
                self._start(task, self._processor.reject(task, invalid))
            case NewerVersion(newer):
                self._start(task, self._processor.wait_for_update(task, newer))

    def _classify(self, task: RecordTask) -> Classified:
        lateness = self._lateness
        return classify_record(task.record, task.queue.window, lateness, self._roster.choose, lateness.now())

    def _start(self, task: RecordTask, work: Coroutine[None, None, None]) -> None:
        record = task.record
        self._tasks.create_task(work, name=f"frame-{record.topic}-{record.partition}-{record.offset}")

    def _late_outcome(self, record: InRecord, late_s: float) -> FrameOutcome:
        """Return the outcome that the policy gives to a late frame: a copy in the backfill, or a dead letter."""
        model, error = self._roster.stable.ref, self._lateness.error(late_s)
        give_up = partial(self._processor.attempt.make_dead_letter, record, error, 1, model)
        if self._lateness.policy == "put_off":
            count = FRAMES_LATE.labels("put_off").inc
            return FrameOutcome((backfill_copy(record),), count=count, smaller=give_up)
        return replace(give_up(), count=FRAMES_LATE.labels("give_up").inc)

    def _append_losses(self) -> None:
        """Queue a dead letter for each range of records that retention deleted, before any later record."""
        losses = set(self._consumer.losses())
        for loss in sorted(losses - self._losses, key=lambda loss: (loss.source, loss.first)):
            group = self._context.group
            letter = lost_letter(loss, group=group, topic=topics.FRAMES_DEAD)
            pending = PendingRecord.from_loss(loss)
            queue = self._append(pending)
            outcome = FrameOutcome((letter,), count=partial(report_loss, loss, group), dead_reason=LOST_REASON)
            self._in_progress.finish(queue, pending, outcome)
            self._context.health.set_note(_LOSSES, loss_text(loss, group))
        self._losses = losses

    def _drop_lost(self) -> None:
        """Drop the pending records of partitions that belong to other workers now."""
        owned = self._consumer.assignment()
        for queue in self._in_progress.queues:
            lost = [source for source, epoch in queue.epochs.items() if owned.get(source) != epoch]
            if lost:
                self._in_progress.drop_lost(queue, lost)
