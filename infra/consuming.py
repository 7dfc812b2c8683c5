"""The one consumer loop of all sinks: poll, write idempotently, commit; retry the world, dead-letter the record.

Per batch, in this order: decode (what is no event is dead at once) → write (retried as a whole while the world is in
the way; taken apart to find a poison record) → commit offsets together with the dead letters. A crash anywhere before
the commit means that the batch is read and written again, which ``write`` must not mind.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from infra.broker.port import Broker, Consumer, GroupSpec, InRecord
from infra.committing import Committer, Outcome, place_of
from infra.errors import PartitionLostError, RecordError, TransientError
from infra.failure import Backoff, StoppedError, Work, error_code, error_text
from infra.health import HealthPart
from infra.settings import RetrySettings, SinkSettings
from infra.telemetry import metrics
from infra.telemetry.logs import bind
from infra.telemetry.tracing import batch_span
from schemas.cloudevents import decode
from schemas.errors import EventError, WindhoverError
from schemas.events import Event
from schemas.topics import SINKS_DEAD

log = logging.getLogger(__name__)

# How long one poll waits, which is also how late a stop is noticed.
_POLL_S = 0.2
_LAG_EVERY_S = 5.0
# What a record is taken to weigh until one was seen.
_FIRST_GUESS_BYTES = 64_000

EventT = TypeVar("EventT", bound=Event)


class Sink(Protocol[EventT]):
    """Where events go. Writing one is all that a new sink takes; the loop does the rest."""

    name: str
    event: type[EventT]
    topics: tuple[str, ...]

    async def open(self) -> None:
        """Connect. TransientError: tried again until it works; any other error ends the process."""

    async def write(self, events: Sequence[EventT]) -> None:
        """Make ``events`` (in order per device, never empty) durable; writing them again must change nothing.

        Raises TransientError when the world is in the way (all are written again later), RecordError or any other error
        when one of them can't be written: they are then tried in halves until the poison record stands alone.
        """

    async def close(self) -> None:
        """Let go of all resources; called once, also when ``open`` failed."""


class SinkRunner(Generic[EventT]):
    """Runs one sink as the consumer group ``sink.<name>``; a component of the process."""

    def __init__(
        self,
        sink: Sink[EventT],
        broker: Broker,
        *,
        sinks: SinkSettings,
        retry: RetrySettings,
        instance_id: str | None = None,
        dead_topic: str = SINKS_DEAD,
    ) -> None:
        self.name = f"sink.{sink.name}"
        self._sink = sink
        self._broker = broker
        self._sinks = sinks
        self._retry = retry
        self._spec = GroupSpec(group=self.name, topics=tuple(sink.topics), instance_id=instance_id, outputs=True)
        self._dead_topic = dead_topic

    async def run(self, stop: asyncio.Event, health: HealthPart) -> None:
        """Consume until ``stop`` is set; the batch under way is finished, unless the world is in its way."""
        with bind(group=self.name):
            async with AsyncExitStack() as stack:
                try:
                    stack.push_async_callback(self._sink.close)
                    work = Work(self._retry, stop, health, self.name)
                    await work.retrying(self._sink.open, f"opening {self._sink.name}")
                    consumer = await work.retrying(lambda: self._broker.consumer(self._spec), "reaching the broker")
                    stack.push_async_callback(consumer.close)
                    await _Loop(self._sink, consumer, work, self._sinks, self._spec, self._dead_topic).run()
                except StoppedError as error:
                    log.warning("%s", error)


@dataclass(slots=True)
class _Item(Outcome, Generic[EventT]):
    """A record under way and the event in it, None when it holds none."""

    event: EventT | None = None


class _Loop(Generic[EventT]):
    """The loop of one membership."""

    def __init__(
        self,
        sink: Sink[EventT],
        consumer: Consumer,
        work: Work,
        sinks: SinkSettings,
        spec: GroupSpec,
        dead_topic: str,
    ) -> None:
        self._sink = sink
        self._consumer = consumer
        self._work = work
        self._sinks = sinks
        self._group = spec.group
        self._topics = spec.topics
        self._committer = Committer(consumer, work, dead_topic)
        self._record_bytes = _FIRST_GUESS_BYTES
        self._lag_at = 0.0
        self._in_flight = metrics.IN_FLIGHT_BYTES.labels(self._group)

    async def run(self) -> None:
        while not self._work.stop.is_set():
            self._work.health.alive()
            records = await self._gather()
            self._work.health.ready()
            if records:
                await self._process(records)
            await self._watch_lag()

    async def _gather(self) -> list[InRecord]:
        """The next batch: full, or what came until ``batch_wait_s`` after its first record; empty when nothing came."""
        records = await self._work.retrying(lambda: self._poll(self._sinks.batch_records, _POLL_S), "reading events")
        until = time.monotonic() + self._sinks.batch_wait_s
        size = _bytes(records)
        while records and not self._work.stop.is_set():
            room = self._sinks.batch_records - len(records)
            wait_s = until - time.monotonic()
            if room <= 0 or wait_s <= 0 or size >= self._sinks.batch_bytes:
                break
            try:
                more = await self._poll(room, wait_s)
            except TransientError:
                # What is in hand is written first; the next poll meets the same fault, and waits it out.
                break
            records += more
            size += _bytes(more)
        if records:
            self._record_bytes = max(1, size // len(records))
        return records

    async def _poll(self, most: int, timeout_s: float) -> list[InRecord]:
        """Up to ``most`` records, fewer when records of late were so large that they would outweigh a batch."""
        fitting = max(1, self._sinks.batch_bytes // self._record_bytes)
        return await self._consumer.poll(max_records=min(most, fitting), timeout_s=timeout_s)

    async def _process(self, records: list[InRecord]) -> None:
        self._in_flight.set(_bytes(records))
        started = time.perf_counter()
        try:
            items = [self._decoded(record) for record in records]
            with batch_span(records, group=self._group):
                await self._write([item for item in items if item.error is None])
            metrics.PROCESS_DURATION.labels(self._group).observe(time.perf_counter() - started)
            await self._committer.commit([item for item in items if self._owns(item.record)])
        finally:
            self._in_flight.set(0)

    def _decoded(self, record: InRecord) -> _Item[EventT]:
        try:
            return _Item(record, event=decode(record.headers, record.value, self._sink.event))
        except EventError as error:
            metrics.RECORDS_FAILED.labels(self._group, record.topic, error.code).inc()
            return _Item(record, error=error)

    async def _write(self, items: list[_Item[EventT]]) -> None:
        """Write ``items`` in order; one that can't be written by any means gets its ``error``; lost ones are left."""
        while items := [item for item in items if self._owns(item.record)]:
            try:
                await self._write_once(items)
                return
            except StoppedError:
                raise
            except PartitionLostError:
                continue
            except Exception as error:  # noqa: BLE001 (whatever it is, it must not stop the stream or lose a record)
                if len(items) == 1:
                    await self._write_alone(items[0], error)
                    return
                half = len(items) // 2
                await self._write(items[:half])
                items = items[half:]

    async def _write_once(self, items: list[_Item[EventT]]) -> None:
        """Raises PartitionLostError when, while the world was in the way, one of ``items`` went to another member."""
        events = [item.event for item in items if item.event is not None]

        async def still_ours() -> None:
            await self._watch_lag()
            if not all(self._owns(item.record) for item in items):
                raise PartitionLostError("a partition went to another member while its records waited to be written")

        await self._work.retrying(lambda: self._sink.write(events), f"writing to {self._sink.name}", still_ours)

    async def _write_alone(self, item: _Item[EventT], error: Exception) -> None:
        """Try ``item``, whose first try failed with ``error``, until it works, is lost, or has had its tries."""
        backoff = Backoff(self._work.policy)
        record = item.record
        while True:
            metrics.RECORDS_FAILED.labels(self._group, record.topic, error_code(error)).inc()
            # What fails "now and always" by its type is not tried again.
            if isinstance(error, RecordError | EventError) or item.attempts >= self._work.policy.record_attempts:
                item.error = error
                return
            log.warning(
                "%s: a record failed and is tried again: %s",
                self._sink.name,
                error_text(error),
                extra={**place_of(record), "attempts": item.attempts},
                exc_info=None if isinstance(error, WindhoverError) else error,
            )
            item.attempts += 1
            if not await backoff.wait(self._work.stop):
                raise StoppedError("a failing record was left for the next run because the process stops") from error
            try:
                await self._write_once([item])
                return
            except StoppedError:
                raise
            except PartitionLostError:
                return
            except Exception as again:  # noqa: BLE001 (as above)
                error = again

    def _owns(self, record: InRecord) -> bool:
        return self._consumer.assignment().get(record.source) == record.epoch

    async def _watch_lag(self) -> None:
        """Tell the lag every few seconds, also while the sink waits: that is when somebody looks at it."""
        now = time.monotonic()
        if now < self._lag_at:
            return
        self._lag_at = now + _LAG_EVERY_S
        try:
            lag = await self._consumer.lag()
        except TransientError as error:
            log.debug("the lag is not known: %s", error)
            return
        for topic in self._topics:
            total = sum(behind for source, behind in lag.items() if source.topic == topic)
            metrics.CONSUMER_LAG.labels(self._group, topic).set(total)


def _bytes(records: Sequence[InRecord]) -> int:
    return sum(len(record.value or b"") for record in records)
