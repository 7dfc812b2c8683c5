"""Commits the offsets of a sink together with its dead letters, and holds partitions that cannot be committed."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from infra.broker.port import CommitPoint, Consumer, InRecord, Loss, OutRecord, TopicPartition
from infra.consuming.metrics import COMMIT_DURATION, DELIVERY_LATENCY, PARTITIONS_LOST, RECORDS_CONSUMED
from infra.errors import PartitionLostError, RecordTooLargeError, RefusedError, TopicMismatchError
from infra.failure.backoff import Backoff
from infra.failure.dead_letter_records import dead_letter, lost_letter, report_loss
from infra.failure.error_texts import error_code, error_text
from infra.failure.metrics import RECORDS_DEAD, RECORDS_FAILED
from infra.failure.retry import ConsumerContext
from schemas.errors import EventVersionError, StandgaleError

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class RecordOutcome:
    """Holds the outcome of a record: written, skipped, or with an ``error`` a dead letter."""

    record: InRecord
    error: BaseException | None = None
    attempts: int = 1
    """How many times it was tried, the failed last one included"""
    skipped: bool = False
    """It is for another group"""


@dataclass(slots=True)
class _PartitionWork:
    """Holds what is to be committed of one partition."""

    source: TopicPartition
    point: CommitPoint
    done: Sequence[RecordOutcome] = ()
    losses: Sequence[Loss] = ()

    @property
    def failed(self) -> list[RecordOutcome]:
        return [one for one in self.done if one.error is not None]


@dataclass(slots=True)
class _HeldWork:
    """Holds work whose dead letters the broker refuses now, and when it is tried again."""

    part: _PartitionWork
    backoff: Backoff
    due: float = 0.0


class _LettersRefusedError(Exception):
    """The broker refuses the dead letters of one partition: their topic is missing, or may not be written."""


@dataclass(slots=True)
class BatchCommitter:
    """Commits the outcomes of one consumer's records.

    A partition is held while its dead letters are refused, or while it has an event that only a newer program can read;
    the other partitions continue.
    """

    consumer: Consumer
    context: ConsumerContext
    dead_topic: str
    clock: Callable[[], float] = time.monotonic
    _held: dict[TopicPartition, _HeldWork] = field(default_factory=dict)
    # The position of the first event that is too new, and the epoch in which it was read.
    _too_new: dict[TopicPartition, CommitPoint] = field(default_factory=dict)
    _lost: int = 0

    @property
    def held_partitions(self) -> Collection[int]:
        """The numbers of the held partitions; no more of their records may be read."""
        return {source.partition for source in (*self._held, *self._too_new)}

    def hold_newer_event(self, record: InRecord, error: EventVersionError) -> None:
        """Hold the partition of ``record``, which only a newer program can read: commit nothing from it on."""
        RECORDS_FAILED.labels(self.context.group, record.topic, error.code).inc()
        self._too_new[record.source] = CommitPoint(record.offset, record.epoch)
        reason = f"partition {record.topic}/{record.partition} is held at offset {record.offset}: {error}"
        self.context.health.set_waiting(_waiting_for_update(record.source), reason)
        logger.error("%s", reason, extra={"code": error.code, **position_of(record)})

    def waits_for_update(self, record: InRecord) -> bool:
        """Whether ``record`` comes after one that only a newer program can read, and has to wait like that one."""
        until = self._too_new.get(record.source)
        return until is not None and until.epoch == record.epoch

    async def commit(self, outcomes: Sequence[RecordOutcome]) -> None:
        """Commit ``outcomes`` of owned partitions, in offset order each; retry while the broker is unavailable.

        A partition that was lost is left out: its new owner reads those records again. Raises StoppedError when the
        process stops while the broker is unavailable; what was not committed is read again later.
        """
        parts = self._parts(outcomes)
        clean = [part for part in parts if not part.failed and not part.losses]
        # One by one when one of them was lost, so that the others are committed anyway.
        if len(clean) > 1 and not await self._commit(clean, ()):
            for part in clean:
                await self._commit([part], ())
        elif len(clean) == 1:
            await self._commit(clean, ())
        # One transaction covers one partition, so those with dead letters go one by one.
        for part in parts:
            if part.failed or part.losses:
                await self._commit_with_letters(part)

    async def commit_losses(self, pending: Sequence[InRecord]) -> None:
        """Commit and report the losses, except where a pending record comes first; ``commit`` includes those."""
        losses = self._passed_losses()
        if not losses:
            return
        first = {record.source: record.offset for record in reversed(pending)}
        for loss in losses:
            waits_for_records = first.get(loss.source, loss.end) < loss.first
            if loss.source not in self._held and not waits_for_records:
                await self._commit_with_letters(
                    _PartitionWork(loss.source, CommitPoint(loss.end, loss.epoch), losses=(loss,))
                )

    async def retry_held(self) -> None:
        """Try to commit held partitions again when it is time, and drop those that were lost."""
        owned = self.consumer.assignment()
        for source, until in list(self._too_new.items()):
            if owned.get(source) != until.epoch:
                del self._too_new[source]
                self.context.health.clear_waiting(_waiting_for_update(source))
        for source, held in list(self._held.items()):
            if self.consumer.assignment().get(source) != held.part.point.epoch:
                self._release(source)
            elif held.due <= self.clock():
                await self._commit_with_letters(held.part)

    def _passed_losses(self) -> list[Loss]:
        """Return the losses, without those after a record that waits for a newer program: they are not reached yet."""
        found = []
        for loss in self.consumer.losses():
            until = self._too_new.get(loss.source)
            if until is None or until.epoch != loss.epoch or loss.first <= until.next_offset:
                found.append(loss)
        return found

    def _parts(self, outcomes: Sequence[RecordOutcome]) -> list[_PartitionWork]:
        by_source: dict[TopicPartition, list[RecordOutcome]] = {}
        for outcome in outcomes:
            by_source.setdefault(outcome.record.source, []).append(outcome)
        losses = self._passed_losses()
        return [
            _partition_work(source, done, [one for one in losses if one.source == source])
            for source, done in by_source.items()
        ]

    async def _commit_with_letters(self, part: _PartitionWork) -> None:
        """Commit one partition with its dead letters, or hold it when the broker refuses them.

        While they are too large, together or alone, the largest one leaves out its original, one after the other.
        """
        failed = part.failed
        letters = {id(one): self._letter(one, whole=True) for one in failed}
        lost = [lost_letter(loss, group=self.context.group, topic=self.dead_topic) for loss in part.losses]
        by_size = sorted(failed, key=lambda one: len(letters[id(one)].value or b""))
        while True:
            outputs = [*lost, *(letters[id(one)] for one in failed)]
            try:
                if await self._commit([part], outputs):
                    self._report(part)
            except _LettersRefusedError as refused:
                self._hold(part, refused.__cause__ or refused)
                return
            except RecordTooLargeError as error:
                if not by_size:
                    self._hold(part, error)
                    return
                largest = by_size.pop()
                letters[id(largest)] = self._letter(largest, whole=False)
            else:
                self._release(part.source)
                return

    def _letter(self, outcome: RecordOutcome, *, whole: bool) -> OutRecord:
        assert outcome.error is not None
        return dead_letter(
            outcome.record,
            group=self.context.group,
            error=outcome.error,
            attempts=outcome.attempts,
            topic=self.dead_topic,
            whole=whole,
        )

    async def _commit(self, parts: Sequence[_PartitionWork], outputs: Sequence[OutRecord]) -> bool:
        """Commit all of ``parts`` and return True, or none of it, because a partition was lost, and return False."""
        points = {part.source: part.point for part in parts}

        async def commit() -> None:
            try:
                await self.consumer.commit(points, outputs)
            except (TopicMismatchError, RefusedError) as error:
                if outputs:
                    raise _LettersRefusedError from error
                raise

        started = time.perf_counter()
        try:
            await self.context.retry(commit, "committing")
        except PartitionLostError as error:
            partitions = list(map(str, points))
            logger.info("the work on a lost partition is dropped: %s", error, extra={"partitions": partitions})
            PARTITIONS_LOST.labels(self.context.group).inc()
            return False
        COMMIT_DURATION.labels(self.context.group).observe(time.perf_counter() - started)
        for part in parts:
            self._count(part)
        return True

    def _hold(self, part: _PartitionWork, error: BaseException) -> None:
        reason = f"partition {part.source.topic}/{part.source.partition} is held: {error_text(error)}"
        held = self._held.get(part.source)
        if held is None:
            held = self._held[part.source] = _HeldWork(part, Backoff(self.context.policy))
            logger.error("%s", reason, extra={"code": error_code(error)})
        # Pending records that come after a held loss may have been added to the work.
        held.part = part
        held.due = self.clock() + held.backoff.next_delay_s()
        self.context.health.set_waiting(_waiting_for_letters(part.source), reason)

    def _release(self, source: TopicPartition) -> None:
        if self._held.pop(source, None) is not None:
            self.context.health.clear_waiting(_waiting_for_letters(source))
            logger.info("partition %s/%d is no longer held", *source)

    def _count(self, part: _PartitionWork) -> None:
        now_ms = time.time() * 1000
        latency = DELIVERY_LATENCY.labels(self.context.group)
        RECORDS_CONSUMED.labels(self.context.group, part.source.topic).inc(len(part.done))
        for outcome in part.done:
            if outcome.error is None and not outcome.skipped:
                latency.observe(max(0.0, now_ms - outcome.record.timestamp_ms) / 1000)

    def _report(self, part: _PartitionWork) -> None:
        """Report each loss, and all dead letters in one line, so that many bad records do not make many log lines."""
        for loss in part.losses:
            report_loss(loss, self.context.group)
            self._lost += loss.end - loss.first
            text = f"{self._lost} records were lost to retention: standgale dead list --reason RECORDS_LOST"
            self.context.health.set_note("lost records", text)
        failed = part.failed
        for outcome in failed:
            assert outcome.error is not None
            reason = error_code(outcome.error)
            RECORDS_DEAD.labels(self.context.group, outcome.record.topic, reason).inc()
        if not failed:
            return
        first = failed[0]
        assert first.error is not None
        logger.error(
            "%d records became dead letters on %s; the first: %s",
            len(failed),
            self.dead_topic,
            error_text(first.error),
            extra={"code": error_code(first.error), "attempts": first.attempts, **position_of(first.record)},
            exc_info=None if isinstance(first.error, StandgaleError) else first.error,
        )


def position_of(record: InRecord) -> dict[str, object]:
    """Return topic, partition and offset of ``record``, for a log line."""
    return {"topic": record.topic, "partition": record.partition, "offset": record.offset}


def _partition_work(source: TopicPartition, done: Sequence[RecordOutcome], losses: Sequence[Loss]) -> _PartitionWork:
    last = done[-1].record
    ends = [last.offset + 1, *(loss.end for loss in losses)]
    return _PartitionWork(source, CommitPoint(max(ends), last.epoch), done, losses)


def _waiting_for_letters(source: TopicPartition) -> str:
    return f"dead letters of {source.topic}/{source.partition}"


def _waiting_for_update(source: TopicPartition) -> str:
    return f"events too new in {source.topic}/{source.partition}"
