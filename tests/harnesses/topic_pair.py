"""Creates a broker with an input and an output topic, for tests of Kafka's own faults."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiokafka.admin import AIOKafkaAdminClient

from infra.broker.kafka.adapter import KafkaBroker
from infra.broker.port import CommitPoint, Consumer, GroupSpec, InRecord, OutRecord, TopicPartition
from infra.deploy.kafka import KafkaCluster, KafkaServer
from infra.errors import BrokerUnavailableError, PartitionLostError
from schemas.topics import TopicSpec
from standgale.testing.factories import topic_spec
from standgale.testing.waiting import until
from tests.servers.kafka import kafka_settings

TIMEOUT_S = 40.0
"""The time limit of each wait."""
REQUEST_TIMEOUT_S = 2.0
"""``broker.request_timeout_s`` of the brokers under test."""


class TopicPair:
    """Holds a broker with an input and an output topic of ``partitions`` each."""

    def __init__(
        self, server: KafkaServer | KafkaCluster, *, partitions: int = 1, timeout_s: float = REQUEST_TIMEOUT_S
    ) -> None:
        self.server = server
        name = f"k{uuid.uuid4().hex[:8]}"
        self.input, self.output = (self._spec(f"{name}.{role}", partitions) for role in ("in", "out"))
        self.group = f"{name}-group"
        self.settings = kafka_settings(server, request_timeout_s=timeout_s)
        self.specs = {spec.name: spec for spec in (self.input, self.output)}
        self.broker = KafkaBroker(self.settings, self.specs)
        self.source = TopicPartition(self.input.name, 0)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[TopicPair]:
        """Create the topics, and close the broker at the end."""
        admin = await self.broker.admin()
        await admin.apply([self.input, self.output])
        await admin.close()
        try:
            yield self
        finally:
            await self.broker.close()

    @asynccontextmanager
    async def admin(self) -> AsyncIterator[AIOKafkaAdminClient]:
        """Yield aiokafka's admin client, for what the port does not offer."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.server.bootstrap_servers)
        await admin.start()
        try:
            yield admin
        finally:
            await admin.close()

    async def wait_until_deleted(self, admin: AIOKafkaAdminClient, topic: TopicSpec) -> None:
        """Wait until a deleted topic is no longer listed."""

        async def gone() -> bool:
            return topic.name not in await admin.list_topics()

        await until(gone, f"{topic.name} is still there", TIMEOUT_S)

    def _spec(self, name: str, partitions: int) -> TopicSpec:
        return topic_spec(name, partitions=partitions, replication=3, min_insync_replicas=2, max_message_bytes=100_000)

    def member(
        self, *, outputs: bool = True, session_timeout_s: float = 6.0, instance_id: str | None = None
    ) -> GroupSpec:
        return GroupSpec(self.group, (self.input.name,), instance_id, "earliest", outputs, session_timeout_s)

    async def publish(self, *values: bytes) -> None:
        publisher = await self.broker.publisher()
        await publisher.publish([OutRecord(self.input.name, "key", value) for value in values])
        await publisher.close()

    async def poll_records(self, consumer: Consumer, count: int) -> list[InRecord]:
        records: list[InRecord] = []
        deadline = time.monotonic() + TIMEOUT_S
        while len(records) < count:
            assert time.monotonic() < deadline, f"{len(records)} of {count} records"
            try:
                records += await consumer.poll(max_records=count - len(records), timeout_s=0.5)
            except BrokerUnavailableError:
                await asyncio.sleep(0.1)
        return records

    def copies(self, records: list[InRecord]) -> list[OutRecord]:
        return [OutRecord(self.output.name, "key", record.value) for record in records]

    def points(self, records: list[InRecord]) -> dict[TopicPartition, CommitPoint]:
        return {self.source: CommitPoint(records[-1].offset + 1, records[-1].epoch)}

    async def read_outputs(self) -> list[bytes | None]:
        """Return the committed values of the output."""
        reader = await self.broker.reader()
        records = await reader.read(TopicPartition(self.output.name, 0), 0, max_records=10_000, timeout_s=0)
        await reader.close()
        return [record.value for record in records]


async def copy_records(pair: TopicPair, consumer: Consumer, count: int) -> None:
    """Copy records, a few at a time, and repeat what may be tried again, until ``count`` are copied."""
    done = 0
    deadline = time.monotonic() + TIMEOUT_S
    while done < count:
        assert time.monotonic() < deadline, f"{done} of {count}"
        try:
            records = await consumer.poll(max_records=7, timeout_s=0.2)
        except BrokerUnavailableError:
            await asyncio.sleep(0.1)
            continue
        while records:
            assert time.monotonic() < deadline, f"{done} of {count}"
            try:
                await consumer.commit(pair.points(records), pair.copies(records))
            except BrokerUnavailableError:
                await asyncio.sleep(0.1)
                continue
            except PartitionLostError:
                break
            done = records[-1].offset + 1
            break
