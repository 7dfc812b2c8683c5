"""Counts the events of Faust's stream in its table, and acknowledges each one when its change is durable."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any
from uuid import UUID

from infra.broker.limited_publish import publish_within
from infra.broker.partitioning import partition_for
from infra.broker.port import InRecord, Publisher
from infra.consuming.metrics import DELIVERY_LATENCY, RECORDS_CONSUMED
from infra.errors import RecordTooLargeError
from infra.failure.backoff import Backoff
from infra.failure.dead_letter_records import dead_letter
from infra.failure.error_texts import error_code, error_text
from infra.failure.metrics import RECORDS_DEAD, RECORDS_FAILED
from infra.failure.redrive import target_group_of
from infra.failure.retry import ConsumerContext, StoppedError
from infra.failure.verdicts import Verdict, Verdicts, history_of
from schemas.cloudevents import decode
from schemas.errors import EventError, EventVersionError
from schemas.events import DetectionsMade
from schemas.topics import REDRIVE, SINKS_DEAD
from sinks.metrics import STATISTICS_WINDOWS
from sinks.statistics.counts import window_of
from sinks.statistics.on_faust.parts import count_in_part, counts_of_parts, part_key, part_keys, read_part, window_in
from sinks.statistics.report import statistics_record

logger = logging.getLogger(__name__)

_PUBLISH_TIMEOUT_S = 10.0
_MOST_WINDOWS = 100
_MOST_UNACKNOWLEDGED = 1_000
# Of what is outdated, so much is forgotten with each event: more than comes in.
_FORGET_AT_ONCE = 4


class FaustCounting:
    """Is the work of one member of the group; it ends with ``failed`` when an error needs a new start.

    A new start reads the table again, and the events whose changes were not durable.
    """

    def __init__(
        self,
        table: Any,
        context: ConsumerContext,
        publisher: Publisher,
        *,
        partitions: int,
        remember_s: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.acknowledged = 0
        self._table = table
        self._context = context
        self._publisher = publisher
        self._partitions = partitions
        self._remember_s = remember_s
        self._clock = clock
        self._verdicts = Verdicts(context.policy)
        self._changed: set[UUID] = set()
        self._waiting: asyncio.Queue[tuple[Any, asyncio.Future[Any] | None]] = asyncio.Queue(_MOST_UNACKNOWLEDGED)
        # By partition: the parts and when each was changed last, the oldest first.
        self._ages: dict[int, OrderedDict[bytes, float]] = {}

    async def count(self, stream: Any) -> None:
        """Count the events of ``stream`` until it ends; this is Faust's agent."""
        try:
            async for event in stream.noack().events():
                await self._waiting.put((event, await self._count_one(event)))
        except Exception as error:  # noqa: BLE001 (Faust would go on with the next event and lose this one)
            self._fail(error)
            await asyncio.Event().wait()

    async def acknowledge(self) -> None:
        """Acknowledge events in order, each when the change that it made is durable.

        Raises the error of a change that cannot be; its event is read again after a new start.
        """
        while True:
            event, change = await self._waiting.get()
            if change is not None:
                await change
            event.ack()
            self.acknowledged += 1
            message = event.message
            RECORDS_CONSUMED.labels(self._context.group, message.topic).inc()
            age_s = max(0.0, time.time() - message.timestamp)
            DELIVERY_LATENCY.labels(self._context.group).observe(age_s)

    async def mark_all(self) -> None:
        """Note, after the table was read, that every window may not be published in its last state."""
        self._ages.clear()
        found = []
        for key, kept in self._table.items():
            part = read_part(kept)
            window = window_in(part)
            self._changed.add(window.id)
            found.append((part["at"], partition_for(window.device_id, self._partitions), key))
        for at, partition, key in sorted(found):
            self._ages.setdefault(partition, OrderedDict())[key] = at

    async def publish_changed(self) -> int:
        """Publish some of the windows that have changed; return how many. Raises the errors of the broker."""
        chosen = [self._changed.pop() for _ in range(min(_MOST_WINDOWS, len(self._changed)))]
        records = []
        for window_id in chosen:
            kept = [self._table.get(key) for key in part_keys(window_id)]
            parts = [read_part(each) for each in kept if each is not None]
            if parts:
                records.append(statistics_record(window_in(parts[0]), counts_of_parts(parts)))
        try:
            if records:
                await publish_within(self._publisher, records, _PUBLISH_TIMEOUT_S)
        except BaseException:
            self._changed.update(chosen)
            raise
        STATISTICS_WINDOWS.inc(len(records))
        return len(chosen)

    async def _count_one(self, event: Any) -> asyncio.Future[Any] | None:
        """Count ``event``; return what is done when its change is durable, None when it changes nothing."""
        record = _record_of(event.message)
        if record.topic == REDRIVE and target_group_of(record.headers) != self._context.group:
            return None
        try:
            made = decode(record.headers, record.value, DetectionsMade)
        except EventVersionError as error:
            await self._hold(record, error)
            raise AssertionError from error
        except EventError as error:
            await self._give_up(record, error)
            return None
        self._verdicts.record_success()
        window = window_of(made)
        key = part_key(window, made.id)
        now_s = self._clock()
        part = count_in_part(self._table.get(key), made, now_s)
        if part is None:
            return None
        self._table[key] = part
        change: asyncio.Future[Any] = self._table.last_change
        self._changed.add(window.id)
        ages = self._ages.setdefault(record.partition, OrderedDict())
        ages[key] = now_s
        ages.move_to_end(key)
        self._forget(ages, now_s)
        return change

    def _forget(self, ages: OrderedDict[bytes, float], now_s: float) -> None:
        """Remove some parts that were not changed for long, of the partition of the present event."""
        for _ in range(_FORGET_AT_ONCE):
            key, at = next(iter(ages.items()))
            kept = self._table.get(key)
            if at > now_s - self._remember_s or (kept is not None and window_in(read_part(kept)).id in self._changed):
                return
            del ages[key]
            self._table.pop(key, None)

    async def _give_up(self, record: InRecord, error: EventError) -> None:
        """Publish a dead letter of ``record``; while too many are, wait until a new start."""
        RECORDS_FAILED.labels(self._context.group, record.topic, error.code).inc()
        history, backoff = history_of(record), Backoff(self._context.policy)
        what = f"record {record.topic}/{record.partition}:{record.offset}"
        try:
            while self._verdicts.record_failure(history, error) is not Verdict.DEAD:
                self._context.health.set_waiting(what, self._verdicts.hold_reason(error))
                if not await backoff.wait(self._context.stop):
                    raise StoppedError("a failing record is left for the next run: the process stops") from error
        finally:
            self._context.health.clear_waiting(what)
            self._verdicts.forget_record(history)
        whole = True

        async def publish() -> None:
            letter = dead_letter(
                record,
                group=self._context.group,
                error=error,
                attempts=history.attempts,
                topic=SINKS_DEAD,
                whole=whole,
            )
            await publish_within(self._publisher, [letter], _PUBLISH_TIMEOUT_S)

        try:
            await self._context.retry(publish, "publishing a dead letter")
        except RecordTooLargeError:
            whole = False
            await self._context.retry(publish, "publishing a dead letter")
        RECORDS_DEAD.labels(self._context.group, record.topic, error.code).inc()
        logger.error("a record became a dead letter on %s: %s", SINKS_DEAD, error_text(error))

    async def _hold(self, record: InRecord, error: EventVersionError) -> None:
        """Count nothing further until the process stops: only a newer program can read ``record``."""
        where = f"{record.topic}/{record.partition}"
        reason = f"counting is held at {where}:{record.offset}: {error_text(error)}"
        self._context.health.set_waiting(f"events too new in {where}", reason)
        logger.error("%s", reason, extra={"code": error_code(error)})
        await self._context.stop.wait()
        raise StoppedError(reason) from error

    def _fail(self, error: Exception) -> None:
        if not self.failed.done():
            self.failed.set_exception(error)


def _record_of(message: Any) -> InRecord:
    """Return Faust's ``message`` as a record of the broker port."""
    headers = message.headers.items() if isinstance(message.headers, dict) else message.headers or ()
    return InRecord(
        topic=message.topic,
        partition=message.partition,
        offset=message.offset,
        timestamp_ms=round(message.timestamp * 1000),
        key=None if message.key is None else message.key.decode(errors="replace"),
        value=message.value,
        headers=tuple((name, value) for name, value in headers),
    )
