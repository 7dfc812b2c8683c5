"""Runs the consumer loop of all sinks: poll, write, commit, and make dead letters of records that fail.

Per batch, in this order: decode → write (see :mod:`infra.consuming.batch_writer`) → commit offsets together with the
dead letters. After a crash before the commit the batch is read and written again, so ``write`` must be idempotent.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Generic

from infra.broker.port import Broker, Consumer, GroupSpec, InRecord
from infra.consuming.batch_commit import BatchCommitter
from infra.consuming.batch_writer import BatchWriter, WriteItem
from infra.consuming.gathering import Gathering
from infra.consuming.lag_metric import report_lag
from infra.consuming.metrics import IN_FLIGHT_BYTES, PROCESS_DURATION
from infra.consuming.port import EventT, Sink
from infra.consuming.settings import BatchSettings
from infra.errors import TransientError
from infra.failure.redrive import SINK_GROUPS, target_group_of
from infra.failure.retry import ConsumerContext, StoppedError, run_until_stop
from infra.failure.settings import RetrySettings
from infra.process.health import HealthPart
from infra.telemetry.logs import bind
from infra.telemetry.tracing import batch_span
from schemas.cloudevents import decode
from schemas.errors import EventError, EventVersionError
from schemas.topics import REDRIVE, SINKS_DEAD

logger = logging.getLogger(__name__)

# How long one poll waits, which is also how late a stop is noticed.
_POLL_S = 0.2
# The assumed size of a record until one was read.
_FIRST_GUESS_BYTES = 64_000


def group_of(sink: str) -> str:
    """Return the consumer group of the sink that is called ``sink``."""
    return f"{SINK_GROUPS}{sink}"


class SinkRunner(Generic[EventT]):
    """Runs one sink as the consumer group ``sink.<name>``; it is a component of the process."""

    def __init__(
        self,
        sink: Sink[EventT],
        broker: Broker,
        *,
        batches: BatchSettings,
        retry: RetrySettings,
        instance_id: str | None = None,
        dead_topic: str = SINKS_DEAD,
        redrive_topic: str = REDRIVE,
        gathering: Gathering | None = None,
    ) -> None:
        """``gathering`` decides when a batch is complete; without it, when it has ``batch_records``."""
        self._gathering = gathering
        self.name = group_of(sink.name)
        self._sink = sink
        self._broker = broker
        self._batches = batches
        self._retry = retry
        topics = (*sink.topics, redrive_topic)
        self._spec = GroupSpec(group=self.name, topics=topics, instance_id=instance_id, outputs=True)
        self._dead_topic = dead_topic
        self._redrive_topic = redrive_topic

    async def run(self, stop: asyncio.Event, health: HealthPart) -> None:
        """Consume until ``stop`` is set; the batch in progress is finished, unless a transient error prevents it."""
        with bind(group=self.name):
            async with AsyncExitStack() as stack:
                try:
                    stack.push_async_callback(self._sink.close)
                    context = ConsumerContext(self._retry, stop, health, self.name)
                    what = f"opening {self._sink.name}"
                    await context.retry(lambda: run_until_stop(self._sink.open(), stop, what), what)
                    consumer = await context.retry(lambda: self._broker.consumer(self._spec), "reaching the broker")
                    stack.push_async_callback(consumer.close)
                    committer = BatchCommitter(consumer, context, self._dead_topic)
                    await _Loop(
                        self._sink, consumer, context, self._batches, committer, self._redrive_topic, self._gathering
                    ).run()
                except StoppedError as error:
                    logger.warning("%s", error)


class _Loop(Generic[EventT]):
    """Polls, writes and commits as one member of the group."""

    def __init__(
        self,
        sink: Sink[EventT],
        consumer: Consumer,
        context: ConsumerContext,
        batches: BatchSettings,
        committer: BatchCommitter,
        redrive_topic: str,
        gathering: Gathering | None,
    ) -> None:
        self._sink = sink
        self._gathering = gathering
        self._consumer = consumer
        self._context = context
        self._batches = batches
        self._group = context.group
        self._committer = committer
        self._redrive_topic = redrive_topic
        self._writer = BatchWriter(sink, context, batches.batch_records, consumer.assignment, self._poll_more)
        self._record_bytes = _FIRST_GUESS_BYTES
        self._in_flight = IN_FLIGHT_BYTES.labels(self._group)

    async def run(self) -> None:
        async with report_lag(self._consumer, self._group, (*self._sink.topics, self._redrive_topic)):
            while not self._context.stop.is_set():
                self._context.health.beat()
                await self._committer.retry_held()
                records = await self._gather()
                await self._committer.commit_losses(records)
                if records:
                    await self._process(records)

    async def _gather(self) -> list[InRecord]:
        """Return the next batch: a full one, or all records until ``batch_wait_s`` after the first; it may be empty."""
        records = await self._context.retry(lambda: self._poll(self._free([]), _POLL_S), "reading events")
        self._context.health.set_ready()
        until = time.monotonic() + self._batches.batch_wait_s
        size = _bytes(records)
        while records and not self._context.stop.is_set():
            self._context.health.beat()
            await self._committer.retry_held()
            free = self._free(records)
            wait_s = until - time.monotonic()
            if free <= 0 or wait_s <= 0 or size >= self._batches.batch_bytes:
                break
            try:
                more = await self._poll(free, min(wait_s, _POLL_S))
            except TransientError:
                # The pending records are written first; the next poll meets the same error and waits.
                break
            records += more
            size += _bytes(more)
        if records:
            self._record_bytes = max(1, size // len(records))
        return records

    def _free(self, records: Sequence[InRecord]) -> int:
        """Return how many more records the batch with ``records`` takes."""
        free = self._writer.size.limit - len(records)
        return free if self._gathering is None else min(free, self._gathering.wanted(records))

    async def _poll(self, most: int, timeout_s: float) -> list[InRecord]:
        """Poll up to ``most`` records, fewer when recent ones were so large that a batch would be too large."""
        fitting = max(1, self._batches.batch_bytes // self._record_bytes)
        return await self._consumer.poll(
            max_records=min(most, fitting), timeout_s=timeout_s, without=self._committer.held_partitions
        )

    async def _poll_more(self) -> list[WriteItem[EventT]]:
        """Poll more records without waiting, for the batch that is being written."""
        try:
            return self._decode(await self._poll(self._batches.batch_records, 0))
        except TransientError:
            return []

    async def _process(self, records: list[InRecord]) -> None:
        self._in_flight.set(_bytes(records))
        started = time.perf_counter()
        try:
            items = self._decode(records)
            with batch_span(records, group=self._group):
                await self._writer.write_all(items)
            PROCESS_DURATION.labels(self._group).observe(time.perf_counter() - started)
            owned = self._consumer.assignment()
            mine = [item for item in items if owned.get(item.record.source) == item.record.epoch]
            await self._committer.commit(mine)
        finally:
            self._in_flight.set(0)

    def _decode(self, records: Sequence[InRecord]) -> list[WriteItem[EventT]]:
        """Decode ``records``; skip those re-driven to other groups, and leave out all from one that is too new on."""
        items: list[WriteItem[EventT]] = []
        for record in records:
            if self._committer.waits_for_update(record):
                continue
            if record.topic == self._redrive_topic and target_group_of(record.headers) != self._group:
                items.append(WriteItem(record, skipped=True))
                continue
            try:
                event = decode(record.headers, record.value, self._sink.event)
                items.append(WriteItem(record, event=event))
            except EventError as error:
                items.append(WriteItem(record, decode_error=error))
            except EventVersionError as error:
                self._committer.hold_newer_event(record, error)
        return items


def _bytes(records: Sequence[InRecord]) -> int:
    return sum(len(record.value or b"") for record in records)
