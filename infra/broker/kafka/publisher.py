"""The Kafka publisher: one idempotent producer that many tasks share, replaced when it can no longer deliver."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaConnectionError
from aiokafka.structs import RecordMetadata

from infra.broker.kafka.connection.faults import FAULTS
from infra.broker.kafka.connection.link import Link
from infra.broker.kafka.queries.offsets import Offsets
from infra.broker.kafka.records import add_to_batches, count_partitions
from infra.broker.port import OutRecord
from infra.errors import BrokerUnavailableError

_LINGER_MS = 2
_LOG_APPEND_TIME = 1
"""The type of a record's timestamp that the broker gave it when it stored the record."""


@dataclass(eq=False, slots=True)
class _ProducerSlot:
    """A producer, and a future that is done when it was given up: whoever waits for a delivery waits for both."""

    producer: AIOKafkaProducer
    given_up: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class KafkaPublisher:
    """Implements :class:`infra.broker.port.Publisher`.

    After a time-out it is not known whether the records were stored. The producer is then dropped with all it still
    holds, so that publishing the same records again cannot leave more than one copy of each try behind; consumers tell
    copies by the ids of events.
    """

    def __init__(self, link: Link, offsets: Offsets) -> None:
        self._link = link
        self._offsets = offsets
        self._line: _ProducerSlot | None = None
        self._clock_ahead_s: float | None = None
        self._closed = False
        self._connecting = asyncio.Lock()

    async def connect(self) -> None:
        """Connect now rather than with the first record. Raises BrokerUnavailableError or RefusedError."""
        try:
            async with asyncio.timeout(self._link.timeout_s):
                await self._connected()
        except FAULTS as error:
            raise await self._link.explain(error, "connecting a publisher", "WRITE") from error

    async def publish(self, records: Sequence[OutRecord]) -> None:
        """See the port. Raises TopicMismatchError for an unknown topic."""
        self._link.check_sizes(records)
        line = None
        try:
            async with asyncio.timeout(self._link.timeout_s):
                line = await self._connected()
                await self._deliver(line, records)
        except FAULTS as error:
            # Also after a mere refusal: the broker missed a sequence number, so the producer is out of step.
            if line is not None:
                self._give_up(line)
            fault = await self._link.explain(error, f"publishing {len(records)} records", "WRITE")
            raise self._link.size_fault(fault, records) from error

    def clock_ahead_s(self) -> float | None:
        """See the port; topics whose records keep the time of their publisher show nothing."""
        return self._clock_ahead_s

    async def close(self) -> None:
        """See the port."""
        self._closed = True
        line, self._line = self._line, None
        if line is None:
            return
        try:
            async with asyncio.timeout(self._link.timeout_s):
                await line.producer.flush()
                await line.producer.stop()
        except FAULTS:
            # Whoever published what could not be flushed is told by its own call.
            self._give_up(line)

    async def _connected(self) -> _ProducerSlot:
        if self._line is not None:
            return self._line
        async with self._connecting:
            if self._closed:
                raise BrokerUnavailableError("this publisher is closed; open another")
            if self._line is None:
                producer = AIOKafkaProducer(**self._link.producer_options(), linger_ms=_LINGER_MS)
                try:
                    await producer.start()
                except BaseException:
                    self._link.client_shutdown.discard(producer)
                    raise
                self._line = _ProducerSlot(producer)
            return self._line

    async def _deliver(self, line: _ProducerSlot, records: Sequence[OutRecord]) -> None:
        """Hand ``records`` to the producer and wait until all are acknowledged."""
        counts = await count_partitions(line.producer, records, self._link, self._offsets)
        began_s = time.time()
        delivered = await add_to_batches(line.producer, records, counts)
        try:
            waiting: set[asyncio.Future[list[RecordMetadata]] | asyncio.Future[None]] = {delivered, line.given_up}
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if not delivered.done():
                raise KafkaConnectionError("another publish on the same connection failed, which gave it up")
            self._compare_clocks(await delivered, began_s)
        finally:
            if delivered.cancel():
                # asyncio would report the cancellation as an error that nobody looked at.
                delivered.add_done_callback(lambda done: done.cancelled() or done.exception())

    def _compare_clocks(self, delivered: Sequence[RecordMetadata], began_s: float) -> None:
        """Remember how far the broker's clock is outside of the time in which ``delivered`` were under way."""
        done_s = time.time()
        for one in delivered:
            if one.timestamp_type == _LOG_APPEND_TIME and one.timestamp is not None:
                stored_s = one.timestamp / 1000
                self._clock_ahead_s = max(0.0, stored_s - done_s) + min(0.0, stored_s - began_s)

    def _give_up(self, line: _ProducerSlot) -> None:
        if self._line is line:
            self._line = None
        if not line.given_up.done():
            line.given_up.set_result(None)
            self._link.client_shutdown.discard(line.producer)
