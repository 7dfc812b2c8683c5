"""Writes a sink's batches: in smaller parts when one takes too long, and record by record to find those that fail."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from infra.broker.port import InRecord, TopicPartition
from infra.consuming.batch_commit import RecordOutcome, position_of
from infra.consuming.port import EventT
from infra.errors import PartitionLostError, TooSlowError
from infra.failure.backoff import Backoff
from infra.failure.error_texts import error_code, error_text
from infra.failure.metrics import RECORDS_FAILED, RETRIES
from infra.failure.retry import ConsumerContext, StoppedError, run_until_stop
from infra.failure.verdicts import FailureHistory, Verdict, Verdicts, fails_by_type, history_of
from schemas.errors import EventError, StandgaleError
from schemas.event_base import Event

logger = logging.getLogger(__name__)

EventT_contra = TypeVar("EventT_contra", bound=Event, contravariant=True)

# Twice as many records take about twice as long, so more than twice the time must be free before they are tried.
_GROW_MARGIN = 2.5
_REPORT_EVERY = 10
# After so many failures of other devices' first records, a record that is not the first of its device is tried.
_BEHIND = 3


@dataclass(slots=True, eq=False)
class WriteItem(RecordOutcome, Generic[EventT]):
    """Holds a record in progress: its event, or the ``decode_error`` that says why it has none."""

    event: EventT | None = None
    decode_error: EventError | None = None
    history: FailureHistory | None = None
    """Kept from its first failure on"""
    done: bool = False


class BatchTarget(Protocol[EventT_contra]):
    """Names the part of a sink that writing needs."""

    name: str

    async def write(self, events: Sequence[EventT_contra]) -> None:
        """See :class:`infra.consuming.port.Sink`."""


class BatchSize:
    """Limits how many records are written at once: fewer after a write took too long, more after fast ones."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._limit_s = 0.0
        self.limit = most

    def too_slow(self, records: int, took_s: float) -> None:
        """Lower the limit, because ``records`` were not written within the time limit of ``took_s``."""
        self.limit = max(1, records // 2)
        self._limit_s = took_s

    def written(self, records: int, took_s: float) -> None:
        """Raise the limit when twice as many ``records`` should be written in time too."""
        if records >= self.limit < self._most and took_s * _GROW_MARGIN < self._limit_s:
            self.limit = min(2 * self.limit, self._most)

    @property
    def note(self) -> str | None:
        """The note for health; None while the limit is not lowered."""
        if self.limit == self._most:
            return None
        return f"writes at most {self.limit} records at once, because more took longer than {self._limit_s:.3g} s"


class _TooManyError(Exception):
    """A write of several records took too long."""


class BatchWriter(Generic[EventT]):
    """Writes the batches of one consumer, one after the other.

    ``assignment`` returns the partitions that this consumer owns, with their epochs; ``more`` polls without waiting, to
    get other records while one fails.
    """

    def __init__(
        self,
        target: BatchTarget[EventT],
        context: ConsumerContext,
        batch_records: int,
        assignment: Callable[[], Mapping[TopicPartition, int]],
        more: Callable[[], Awaitable[list[WriteItem[EventT]]]],
    ) -> None:
        self._target = target
        self._context = context
        self._assignment = assignment
        self._more = more
        self._most_more = batch_records
        self._verdicts = Verdicts(context.policy)
        self.size = BatchSize(batch_records)
        self._batch: list[WriteItem[EventT]] = []
        self._more_allowed = 0

    async def write_all(self, items: list[WriteItem[EventT]]) -> None:
        """Write ``items`` in order; afterwards each is ``done``, has an ``error``, or its partition was lost.

        Other records that were polled while one failed are added to ``items`` and written too. Raises StoppedError when
        the process stops while records wait.
        """
        self._batch = items
        self._more_allowed = self._most_more
        while pending := self._pending():
            await self._write(pending)
        # After the others, because their successes count for the share of dead letters.
        for item in list(items):
            if item.decode_error is not None and self._owns(item.record):
                await self._write_alone(item, item.decode_error)

    def _pending(self, items: Sequence[WriteItem[EventT]] | None = None) -> list[WriteItem[EventT]]:
        owned = self._assignment()
        return [
            item
            for item in (self._batch if items is None else items)
            if item.event is not None
            and not item.done
            and item.error is None
            and owned.get(item.record.source) == item.record.epoch
        ]

    def _owns(self, record: InRecord) -> bool:
        return self._assignment().get(record.source) == record.epoch

    async def _write(self, items: list[WriteItem[EventT]]) -> None:
        """Write ``items`` in order, in parts where they take too long or one of them fails."""
        while part := self._pending(items)[: self.size.limit]:
            try:
                await self._write_once(part)
            except StoppedError:
                raise
            except (_TooManyError, PartitionLostError):
                continue
            except Exception as error:  # noqa: BLE001 (no error may stop the stream or lose a record)
                if len(part) == 1:
                    await self._write_alone(part[0], error)
                else:
                    await self._write(part[: len(part) // 2])

    async def _write_once(self, items: list[WriteItem[EventT]]) -> None:
        """Write ``items`` at once, and repeat it while the target is unavailable.

        Raises PartitionLostError when another member got a partition of ``items`` while they waited.
        """
        events = [item.event for item in items if item.event is not None]

        async def write() -> None:
            started = time.perf_counter()
            try:
                what = f"writing to {self._target.name}"
                await run_until_stop(self._target.write(events), self._context.stop, what)
            except TooSlowError as error:
                if len(items) == 1:
                    raise
                self.size.too_slow(len(items), time.perf_counter() - started)
                self._report_size(error)
                raise _TooManyError from error
            self.size.written(len(items), time.perf_counter() - started)

        async def still_ours() -> None:
            if not all(self._owns(item.record) for item in items):
                raise PartitionLostError("another member got a partition while its records waited to be written")

        await self._context.retry(write, f"writing to {self._target.name}", still_ours)
        self._context.health.set_note("batch size", self.size.note)
        for item in items:
            item.done = True
            if item.history is not None:
                self._verdicts.record_success(item.history)
        first_time = sum(item.history is None for item in items)
        if first_time:
            self._verdicts.record_success(records=first_time)

    def _report_size(self, error: TooSlowError) -> None:
        RETRIES.labels(self._context.group, error.code).inc()
        self._context.health.set_note("batch size", self.size.note)
        logger.warning("%s: %s: %s", self._target.name, self.size.note, error_text(error))

    async def _write_alone(self, item: WriteItem[EventT], error: Exception) -> None:
        """Write ``item``, whose first attempt failed with ``error``, until it is written, lost, or dead."""
        backoff = Backoff(self._context.policy)
        what = f"record {item.record.topic}/{item.record.partition}:{item.record.offset}"
        failure: Exception | None = error
        try:
            while failure is not None and not self._record_failure(item, failure):
                self._report_failure(item, failure, what)
                # Directly after the other record: the less time between the two, the more certain is the verdict.
                if not await self._write_other_record(item, failure) and not await backoff.wait(self._context.stop):
                    raise StoppedError(
                        "a failing record is left for the next run, because the process stops"
                    ) from failure
                self._context.health.beat_if_expected()
                failure = await self._try_once(item)
        finally:
            self._context.health.clear_waiting(what)
            if item.history is not None:
                self._verdicts.forget_record(item.history)

    def _record_failure(self, item: WriteItem[EventT], error: Exception) -> bool:
        """Count that ``item`` failed with ``error``, and return whether it is dead now."""
        RECORDS_FAILED.labels(self._context.group, item.record.topic, error_code(error)).inc()
        if item.history is None:
            item.history = history_of(item.record)
        dead = self._verdicts.record_failure(item.history, error) is Verdict.DEAD
        item.attempts = item.history.attempts
        if dead:
            item.error = error
        return dead

    def _report_failure(self, item: WriteItem[EventT], error: Exception, what: str) -> None:
        held = item.history is not None and item.history.held
        text = self._verdicts.hold_reason(error) if held else error_text(error)
        if held:
            self._context.health.set_waiting(what, text)
        # A long outage must not fill the disk with logs.
        seldom = item.attempts > self._context.policy.record_attempts and item.attempts % _REPORT_EVERY != 0
        logger.log(
            logging.DEBUG if seldom else logging.WARNING,
            "%s: a record failed and is tried again: %s",
            self._target.name,
            text,
            extra={**position_of(item.record), "attempts": item.attempts, "held": held},
            exc_info=None if isinstance(error, StandgaleError) else error,
        )

    async def _try_once(self, item: WriteItem[EventT]) -> Exception | None:
        """Write ``item`` once; return its error, or None when it is written or its partition was lost."""
        if item.decode_error is not None:
            return item.decode_error if self._owns(item.record) else None
        if not self._owns(item.record):
            return None
        try:
            await self._write_once([item])
        except StoppedError:
            raise
        except PartitionLostError:
            return None
        except Exception as error:  # noqa: BLE001 (as above)
            return error
        return None

    async def _write_other_record(self, item: WriteItem[EventT], error: Exception) -> bool:
        """Write another record when that decides about ``item``, which failed; return whether it succeeded.

        It is one of another device if there is any, so that the order of each device is kept. Otherwise it is the next
        one of the same device: if ``item`` succeeds later, these two are out of order.
        """
        if fails_by_type(error) or item.attempts < self._context.policy.record_attempts - 1:
            return False
        other = self._other_record(item)
        if other is None and self._more_allowed > 0:
            more = await self._more()
            self._more_allowed -= len(more)
            self._batch += more
            other = self._other_record(item)
        if other is None:
            return False
        failure = await self._try_once(other)
        if failure is not None:
            self._record_failure(other, failure)
        return other.done

    def _other_record(self, item: WriteItem[EventT]) -> WriteItem[EventT] | None:
        """Return the pending record with the fewest failures; the first one of another device is preferred."""
        devices = {item.record.key}
        ranked: list[tuple[int, int, WriteItem[EventT]]] = []
        for place, other in enumerate(self._pending()):
            if other is item:
                continue
            behind = _BEHIND if other.record.key in devices else 0
            devices.add(other.record.key)
            failures = 0 if other.history is None else other.history.attempts
            ranked.append((failures + behind, place, other))
        return min(ranked, key=lambda entry: entry[:2])[2] if ranked else None
