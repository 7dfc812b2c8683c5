"""Publishes records to Kafka with one idempotent producer that many tasks share, and replaces it after a failure."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaConnectionError
from aiokafka.structs import RecordMetadata

from infra.broker.kafka.connection.error_translation import CLIENT_ERRORS
from infra.broker.kafka.connection.link import Link
from infra.broker.kafka.queries.cluster_queries import ClusterQueries
from infra.broker.kafka.records import add_to_batches, count_partitions
from infra.broker.port import OutRecord
from infra.errors import BrokerUnavailableError

_LINGER_MS = 2
_LOG_APPEND_TIME = 1
"""The type of a record's timestamp that the broker gave it when it stored the record."""


@dataclass(eq=False, slots=True)
class _ProducerSlot:
    """Holds a producer, and a future that is done when the producer is dropped; tasks wait for delivery and for it."""

    producer: AIOKafkaProducer
    dropped: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class KafkaPublisher:
    """Implements :class:`infra.broker.port.Publisher`.

    After a time-out it is not known whether the records were stored. The producer is then dropped with all its pending
    records, so that publishing the same records again stores at most one copy per attempt. Consumers recognise copies
    by the ids of events.
    """

    def __init__(self, link: Link, queries: ClusterQueries) -> None:
        self._link = link
        self._queries = queries
        self._slot: _ProducerSlot | None = None
        self._clock_ahead_s: float | None = None
        self._closed = False
        self._connecting = asyncio.Lock()

    async def connect(self) -> None:
        """Connect now rather than with the first record. Raises BrokerUnavailableError or RefusedError."""
        try:
            async with asyncio.timeout(self._link.timeout_s):
                await self._connect()
        except CLIENT_ERRORS as error:
            raise await self._link.explain(error, "connecting a publisher", "WRITE") from error

    async def publish(self, records: Sequence[OutRecord]) -> None:
        """See the port. Raises TopicMismatchError for an unknown topic."""
        self._link.check_sizes(records)
        slot = None
        try:
            async with asyncio.timeout(self._link.timeout_s):
                slot = await self._connect()
                await self._deliver(slot, records)
        except CLIENT_ERRORS as error:
            # Also after a refusal: the broker misses a sequence number then, and the producer can send nothing more.
            if slot is not None:
                self._drop(slot)
            translated = await self._link.explain(error, f"publishing {len(records)} records", "WRITE")
            raise self._link.size_error(translated, records) from error

    def clock_ahead_s(self) -> float | None:
        """See the port; topics whose records keep the time of their publisher give no value."""
        return self._clock_ahead_s

    async def close(self) -> None:
        """See the port."""
        self._closed = True
        slot, self._slot = self._slot, None
        if slot is None:
            return
        try:
            async with asyncio.timeout(self._link.timeout_s):
                await slot.producer.flush()
                await slot.producer.stop()
        except CLIENT_ERRORS:
            # The ``publish`` call of a record that was not delivered raises the error.
            self._drop(slot)

    async def _connect(self) -> _ProducerSlot:
        if self._slot is not None:
            return self._slot
        async with self._connecting:
            if self._closed:
                raise BrokerUnavailableError("this publisher is closed; open another")
            if self._slot is None:
                producer = AIOKafkaProducer(**self._link.producer_options(), linger_ms=_LINGER_MS)
                try:
                    await producer.start()
                except BaseException:
                    self._link.client_shutdown.discard(producer)
                    raise
                self._slot = _ProducerSlot(producer)
            return self._slot

    async def _deliver(self, slot: _ProducerSlot, records: Sequence[OutRecord]) -> None:
        """Add ``records`` to the producer's batches and wait until all are acknowledged."""
        counts = await count_partitions(slot.producer, records, self._link, self._queries)
        began_s = time.time()
        delivered = await add_to_batches(slot.producer, records, counts)
        try:
            waiting: set[asyncio.Future[list[RecordMetadata]] | asyncio.Future[None]] = {delivered, slot.dropped}
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if not delivered.done():
                raise KafkaConnectionError("the producer was dropped because another publish with it failed")
            self._compare_clocks(await delivered, began_s)
        finally:
            if delivered.cancel():
                # Otherwise asyncio would report the cancellation as an error that was never retrieved.
                delivered.add_done_callback(lambda done: done.cancelled() or done.exception())

    def _compare_clocks(self, delivered: Sequence[RecordMetadata], began_s: float) -> None:
        """Store how far the broker's clock is outside of the time between sending and acknowledgement."""
        done_s = time.time()
        for one in delivered:
            if one.timestamp_type == _LOG_APPEND_TIME and one.timestamp is not None:
                stored_s = one.timestamp / 1000
                self._clock_ahead_s = max(0.0, stored_s - done_s) + min(0.0, stored_s - began_s)

    def _drop(self, slot: _ProducerSlot) -> None:
        if self._slot is slot:
            self._slot = None
        if not slot.dropped.done():
            slot.dropped.set_result(None)
            self._link.client_shutdown.discard(slot.producer)
