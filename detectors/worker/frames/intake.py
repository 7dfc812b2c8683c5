"""The poll loop: fetches frames by priority, and chooses for each whether it is answered, dropped, put off, or held.

Nothing else is done in the loop: whatever takes time or may have to wait has a task of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import replace
from functools import partial

from detectors.metrics import DUPLICATE_FRAMES, FRAMES_LATE
from detectors.worker.frames.classify import Invalid, Late, Repeated, TooNew, Wanted, choose
from detectors.worker.frames.lateness import Lateness, put_off
from detectors.worker.frames.priorities import PriorityOrder
from detectors.worker.frames.record_processor import Case, Settler
from detectors.worker.partitions.frames_in_progress import Flow
from detectors.worker.partitions.partition_queue import Entry, Lane, Outcome
from detectors.worker.partitions.queue_opener import Opener
from detectors.worker.pipeline.serving import Roster
from infra.broker.port import Consumer, InRecord, Loss
from infra.failure.dead_letter_records import LOST_REASON, loss_text, lost_letter, report_loss
from infra.failure.retry import ConsumerContext, StoppedError
from schemas import topics

_POLL_TIMEOUT_S = 0.25
_LOSSES = "lost records"


class Intake:
    """Takes room before it fetches, and hands each record on; its tasks run in ``tasks``."""

    def __init__(
        self,
        work: ConsumerContext,
        consumer: Consumer,
        flow: Flow,
        settler: Settler,
        opener: Opener,
        roster: Roster,
        lateness: Lateness,
        tasks: asyncio.TaskGroup,
    ) -> None:
        self._work = work
        self._consumer = consumer
        self._flow = flow
        self._settler = settler
        self._opener = opener
        self._roster = roster
        self._lateness = lateness
        self._tasks = tasks
        self._order = PriorityOrder(topics.FRAME_TOPICS)
        self._losses: set[Loss] = set()

    async def run(self) -> None:
        """Poll and take in records until the process stops."""
        while not self._work.stop.is_set():
            self._work.health.beat()
            room = self._flow.room()
            if room > 0:
                try:
                    records = await self._work.retry(partial(self._poll, room), "poll frames")
                except StoppedError:
                    # What is under way is finished all the same, and committed if that works.
                    return
                self._take_losses()
                for record in records:
                    self._take_in(record)
            else:
                await self._flow.wait_for_room(_POLL_TIMEOUT_S)
            self._forget_lost()

    async def _poll(self, room: int) -> list[InRecord]:
        """The next records by priority; waits for any topic when all are empty. Lanes that are held up are left out."""
        held = self._flow.held
        for topic in self._order.next():
            if records := await self._consumer.poll(max_records=room, timeout_s=0, topics=(topic,), without=held):
                return records
        return await self._consumer.poll(max_records=room, timeout_s=_POLL_TIMEOUT_S, without=held)

    def _take_in(self, record: InRecord) -> None:
        """Queue ``record`` in its lane, and begin with it once the lane is open."""
        entry = Entry.of(record)
        lane = self._queue(entry)
        self._opener.when_open(lane, partial(self._begin, Case(lane, entry, record)))

    def _queue(self, entry: Entry) -> Lane:
        lane = self._flow.lane(entry.source.partition)
        if not lane.knows(entry.source, entry.progress.epoch):
            lane.assigned(entry.source, entry.progress.epoch)
            self._opener.open(lane)
        lane.add(entry)
        return lane

    def _begin(self, case: Case) -> None:
        """Choose what becomes of the record of ``case``; only then take what it needs: a model, its answer's place."""
        if case.entry.void:
            return
        choice = choose(case.record, case.lane.window, self._lateness, self._roster.pick, self._lateness.now())
        match choice:
            case Wanted():
                self._roster.take(choice.served)
                case.lane.answers(case.entry, choice.answer)
                self._start(case, self._settler.answer(case, choice))
            case Repeated():
                # It counts as seen just now.
                case.lane.window.add(choice.answer)
                self._flow.settle(case.lane, case.entry, Outcome(count=DUPLICATE_FRAMES.inc))
            case Late():
                self._flow.settle(case.lane, case.entry, self._passed_over(case.record, choice.late_s))
            case Invalid():
                self._start(case, self._settler.refuse(case, choice.error))
            case TooNew():
                self._start(case, self._settler.wait_for_update(case, choice.error))

    def _start(self, case: Case, work: Coroutine[None, None, None]) -> None:
        self._tasks.create_task(work, name=f"frame-{case.record.topic}-{case.record.partition}-{case.record.offset}")

    def _passed_over(self, record: InRecord, late_s: float) -> Outcome:
        """A late frame is not answered here, and the policy says what becomes of it instead."""
        model, error = self._roster.stable.ref.name, self._lateness.error(late_s)
        given_up = partial(self._settler.answerer.refuse, record, error, 1, model)
        if self._lateness.policy == "put_off":
            return Outcome((put_off(record),), count=FRAMES_LATE.labels("put_off").inc, smaller=given_up)
        return replace(given_up(), count=FRAMES_LATE.labels("give_up").inc)

    def _take_losses(self) -> None:
        """Queue a dead letter for each range of records that retention deleted, before any later record."""
        told = set(self._consumer.losses())
        for loss in sorted(told - self._losses, key=lambda loss: (loss.source, loss.first)):
            group = self._work.group
            letter = lost_letter(loss, group=group, topic=topics.FRAMES_DEAD)
            entry = Entry.of_loss(loss)
            lane = self._queue(entry)
            outcome = Outcome((letter,), count=partial(report_loss, loss, group), refused=LOST_REASON)
            self._flow.settle(lane, entry, outcome)
            self._work.health.set_note(_LOSSES, loss_text(loss, group))
        self._losses = told

    def _forget_lost(self) -> None:
        """Make void what belongs to other workers now."""
        owned = self._consumer.assignment()
        for lane in self._flow.lanes:
            lost = [source for source, epoch in lane.epochs.items() if owned.get(source) != epoch]
            if lost:
                self._flow.lost(lane, lost)
