"""One commit of a sink's batch: offsets together with the dead letters, partition by partition where one was lost."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from infra.broker.port import Consumer, InRecord, OutRecord, Progress, TopicPartition
from infra.errors import PartitionLostError, RecordTooLargeError
from infra.failure import Work, dead_letter, error_code, error_text
from infra.telemetry import metrics
from schemas.errors import WindhoverError

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Outcome:
    """A record that is done with: written, or (with an ``error``) a dead letter after so many ``attempts``."""

    record: InRecord
    error: BaseException | None = None
    attempts: int = 1


class Committer:
    """Commits what one consumer has done."""

    def __init__(self, consumer: Consumer, work: Work, dead_topic: str) -> None:
        self._consumer = consumer
        self._work = work
        self._dead_topic = dead_topic

    async def commit(self, outcomes: Sequence[Outcome]) -> None:
        """Commit ``outcomes`` (of owned partitions, in offset order each); waits for the broker while it is away.

        A partition that was lost meanwhile is left out: its new owner reads those records again. Raises StoppedError
        when the process stops while the broker is away; what was not committed is read again later.
        """
        by_partition: dict[TopicPartition, list[Outcome]] = {}
        for outcome in outcomes:
            by_partition.setdefault(outcome.record.source, []).append(outcome)
        clean = {source: done for source, done in by_partition.items() if not any(one.error for one in done)}
        if len(clean) > 1 and not await self._commit_together(clean):
            for source, done in clean.items():
                await self._commit_together({source: done})
        elif len(clean) == 1:
            await self._commit_together(clean)
        # One transaction covers one partition, so those with dead letters go one by one.
        for source, done in by_partition.items():
            if source not in clean:
                await self._commit_with_dead(source, done)

    async def _commit_together(self, done: Mapping[TopicPartition, Sequence[Outcome]]) -> bool:
        """Whether all of ``done`` is committed; else none of it is, because a partition was lost."""
        return await self._committed({source: _progress(part) for source, part in done.items()}, (), done)

    async def _commit_with_dead(self, source: TopicPartition, done: Sequence[Outcome]) -> None:
        """Commit one partition with its dead letters; of those too large together or alone the largest shed their
        originals, one after the other, until the broker takes them."""
        failed = [one for one in done if one.error is not None]
        letters = {id(one): self._letter(one, whole=True) for one in failed}
        by_size = sorted(failed, key=lambda one: len(letters[id(one)].value or b""))
        while True:
            outputs = [letters[id(one)] for one in failed]
            try:
                if await self._committed({source: _progress(done)}, outputs, {source: done}):
                    self._tell(failed)
                return
            except RecordTooLargeError:
                if not by_size:
                    raise
                largest = by_size.pop()
                letters[id(largest)] = self._letter(largest, whole=False)

    def _letter(self, outcome: Outcome, *, whole: bool) -> OutRecord:
        assert outcome.error is not None
        return dead_letter(
            outcome.record,
            group=self._work.group,
            error=outcome.error,
            attempts=outcome.attempts,
            topic=self._dead_topic,
            whole=whole,
        )

    async def _committed(
        self,
        progress: Mapping[TopicPartition, Progress],
        outputs: Sequence[OutRecord],
        done: Mapping[TopicPartition, Sequence[Outcome]],
    ) -> bool:
        started = time.perf_counter()
        try:
            await self._work.retrying(lambda: self._consumer.commit(progress, outputs), "committing")
        except PartitionLostError as error:
            log.info("dropped work on a lost partition: %s", error, extra={"partitions": list(map(str, progress))})
            metrics.PARTITIONS_LOST.labels(self._work.group).inc()
            return False
        metrics.COMMIT_DURATION.labels(self._work.group).observe(time.perf_counter() - started)
        self._count(done)
        return True

    def _count(self, done: Mapping[TopicPartition, Sequence[Outcome]]) -> None:
        now_ms = time.time() * 1000
        latency = metrics.DELIVERY_LATENCY.labels(self._work.group)
        for source, outcomes in done.items():
            metrics.RECORDS_CONSUMED.labels(self._work.group, source.topic).inc(len(outcomes))
            for outcome in outcomes:
                if outcome.error is None:
                    latency.observe(max(0.0, now_ms - outcome.record.timestamp_ms) / 1000)

    def _tell(self, failed: Sequence[Outcome]) -> None:
        """One line however many died at once: a flood of poison must not become a flood of logs."""
        for outcome in failed:
            assert outcome.error is not None
            reason = error_code(outcome.error)
            metrics.RECORDS_DEAD.labels(self._work.group, outcome.record.topic, reason).inc()
        first = failed[0]
        assert first.error is not None
        log.error(
            "%d records went to %s; the first: %s",
            len(failed),
            self._dead_topic,
            error_text(first.error),
            extra={"code": error_code(first.error), "attempts": first.attempts, **place_of(first.record)},
            exc_info=None if isinstance(first.error, WindhoverError) else first.error,
        )


def place_of(record: InRecord) -> dict[str, object]:
    """Where ``record`` stands, for a log line."""
    return {"topic": record.topic, "partition": record.partition, "offset": record.offset}


def _progress(outcomes: Sequence[Outcome]) -> Progress:
    last = outcomes[-1].record
    return Progress(next_offset=last.offset + 1, epoch=last.epoch)
