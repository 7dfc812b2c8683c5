"""Reads partitions of Kafka at any offset, without a group."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping

from aiokafka import AIOKafkaConsumer
from aiokafka import TopicPartition as KafkaPartition
from aiokafka.errors import OffsetOutOfRangeError
from aiokafka.structs import ConsumerRecord

from infra.broker.checks import check_partition
from infra.broker.kafka.connection.error_translation import CLIENT_ERRORS
from infra.broker.kafka.connection.link import Link
from infra.broker.kafka.queries.cluster_queries import ClusterQueries
from infra.broker.kafka.records import to_record
from infra.broker.port import InRecord, TopicPartition, TopicState
from infra.errors import BrokerUnavailableError, TopicMismatchError
from schemas.topics import TopicSpec

_STEP_S = 0.25
# A leader that has just taken over may report an end that is a little too low, for a moment.
_BEYOND_END_S = 5.0


class KafkaReader:
    """Implements :class:`infra.broker.port.Reader`. Reads of one reader take turns.

    Topics of ``declared`` (as a rule all that topics.yaml declares) must have the partitions they are declared to have.
    """

    def __init__(self, link: Link, declared: Mapping[str, TopicSpec] | None = None) -> None:
        self._link = link
        self._declared = link.topics if declared is None else declared
        self._queries = ClusterQueries(link)
        self._consumer: AIOKafkaConsumer | None = None
        self._source: KafkaPartition | None = None
        self._turn = asyncio.Lock()
        # The partition that ends before the offset to read, and since when.
        self._beyond_end: tuple[TopicPartition, float] | None = None

    async def connect(self) -> None:
        """Connect now. Raises BrokerUnavailableError or RefusedError."""
        await self._link.ask("connecting a reader", self._queries.admin)

    async def state(self, topic: str) -> TopicState:
        """See the port."""
        return await self._queries.state(topic, self._declared)

    async def bounds(self, topic: str, partitions: Collection[int] | None = None) -> Mapping[int, tuple[int, int]]:
        """See the port."""
        numbers = range((await self.state(topic)).partitions)
        wanted = [TopicPartition(topic, number) for number in numbers if partitions is None or number in partitions]
        found = await self._queries.bounds(wanted)
        return {source.partition: bounds for source, bounds in found.items()}

    async def read(self, source: TopicPartition, offset: int, *, max_records: int, timeout_s: float) -> list[InRecord]:
        """See the port. Raises TopicMismatchError for an unknown partition too.

        ``timeout_s`` limits only the wait for a record that does not exist yet: an empty result means that there was no
        committed record at ``offset`` or after it at the time of the call. (The offsets alone do not show this, because
        the markers that end transactions have offsets too.)
        """
        if max_records <= 0:
            return []
        async with self._turn:
            try:
                return [to_record(record, 0) for record in await self._read(source, offset, max_records, timeout_s)]
            except CLIENT_ERRORS as error:
                self._drop()
                raise self._link.error(error, f"reading {source.topic}/{source.partition}", "READ") from error

    async def close(self) -> None:
        """See the port."""
        self._drop()
        await self._queries.close()

    async def _read(
        self, source: TopicPartition, offset: int, max_records: int, timeout_s: float
    ) -> list[ConsumerRecord]:
        clock = asyncio.get_running_loop().time
        deadline = clock() + timeout_s
        consumer, at = await self._seek(source, offset)
        records = await self._step(consumer, at, offset, max_records, 0.0)
        if records:
            return records
        first, end = (await self._queries.bounds([source]))[source]
        self._refuse_beyond(source, offset, end)
        if offset < first:
            offset = first
            consumer.seek(at, offset)
        delivery_deadline = clock() + self._link.timeout_s
        while not records:
            present = offset < end and await consumer.position(at) < end
            if present and clock() > delivery_deadline:
                raise BrokerUnavailableError(
                    f"{self._link.where} did not deliver {source.topic}/{source.partition} from offset {offset} within "
                    f"{self._link.timeout_s:g} s (broker.request_timeout_s); check that the broker runs, then try again"
                )
            if not present and clock() >= deadline:
                return []
            wait_s = _STEP_S if present else min(_STEP_S, deadline - clock())
            records = await self._step(consumer, at, offset, max_records, wait_s)
        return records

    def _refuse_beyond(self, source: TopicPartition, offset: int, end: int) -> None:
        """Raise TopicMismatchError when ``source`` has ended before ``offset`` for some seconds."""
        if offset <= end:
            self._beyond_end = None
            return
        now = asyncio.get_running_loop().time()
        if self._beyond_end is None or self._beyond_end[0] != source:
            self._beyond_end = source, now
        elif now - self._beyond_end[1] > _BEYOND_END_S:
            raise TopicMismatchError(
                f"{self._link.where}: {source.topic}/{source.partition} ends at offset {end}, before the next one to "
                f"read ({offset}): the topic was deleted and created again, or lost its end; start again from its "
                "bounds"
            )

    async def _step(
        self, consumer: AIOKafkaConsumer, at: KafkaPartition, offset: int, max_records: int, wait_s: float
    ) -> list[ConsumerRecord]:
        try:
            batches = await consumer.getmany(at, timeout_ms=int(1000 * wait_s), max_records=max_records)
        except OffsetOutOfRangeError:
            # Nothing is there yet (or no longer, which the caller has checked): keep the position and ask again.
            consumer.seek(at, offset)
            await asyncio.sleep(wait_s)
            return []
        return list(batches.get(at, ()))

    async def _seek(self, source: TopicPartition, offset: int) -> tuple[AIOKafkaConsumer, KafkaPartition]:
        """Return the consumer at position ``offset``; if it is there already, it keeps what it fetched ahead."""
        at = KafkaPartition(*source)
        if self._consumer is None:
            self._consumer = AIOKafkaConsumer(
                **self._link.client_options(),
                **self._link.fetch_options([source.topic]),
                auto_offset_reset="none",
            )
            await self._consumer.start()
        if self._source != at:
            await self._check(source)
            self._consumer.assign([at])
            self._consumer.seek(at, offset)
            self._source = at
        elif await self._consumer.position(at) != offset:
            self._consumer.seek(at, offset)
        return self._consumer, at

    async def _check(self, source: TopicPartition) -> None:
        check_partition(source, (await self.state(source.topic)).partitions)

    def _drop(self) -> None:
        consumer, self._consumer, self._source = self._consumer, None, None
        if consumer is not None:
            self._link.client_shutdown.stop(consumer)
