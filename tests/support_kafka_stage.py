"""A broker with an input and an output topic, for tests of what only Kafka can do to its adapter."""

from __future__ import annotations

import asyncio
import time
import uuid

from infra.broker.kafka.adapter import KafkaBroker
from infra.broker.port import Consumer, GroupSpec, InRecord, OutRecord, Progress, TopicPartition
from infra.deploy.kafka import KafkaServer
from infra.errors import BrokerUnavailableError, PartitionLostError
from infra.settings import BrokerSettings
from schemas.topics import TopicSpec

PATIENCE_S = 40.0
TIMEOUT_S = 2.0


class Stage:
    """A broker with an input and an output topic of one partition each, and records in the input."""

    def __init__(self, server: KafkaServer) -> None:
        self.server = server
        name = f"k{uuid.uuid4().hex[:8]}"
        self.input, self.output = (self._spec(f"{name}.{role}") for role in ("in", "out"))
        self.group = f"{name}-group"
        settings = BrokerSettings(
            kind="kafka", bootstrap_servers=server.bootstrap_servers, replication=1, request_timeout_s=TIMEOUT_S
        )
        self.broker = KafkaBroker(settings, {spec.name: spec for spec in (self.input, self.output)})
        self.source = TopicPartition(self.input.name, 0)

    def _spec(self, name: str) -> TopicSpec:
        return TopicSpec(
            name=name,
            group="test",
            partitions=1,
            key="device_id",
            events=("frame.captured",),
            about="a test",
            replication=3,
            min_insync_replicas=2,
            retention_s=3600,
            max_message_bytes=100_000,
            cleanup="delete",
        )

    def member(self, *, outputs: bool = True, session_timeout_s: float = 6.0) -> GroupSpec:
        return GroupSpec(self.group, (self.input.name,), outputs=outputs, session_timeout_s=session_timeout_s)

    async def publish(self, *values: bytes) -> None:
        publisher = await self.broker.publisher()
        await publisher.publish([OutRecord(self.input.name, "key", value) for value in values])
        await publisher.close()

    async def take(self, consumer: Consumer, count: int) -> list[InRecord]:
        records: list[InRecord] = []
        deadline = time.monotonic() + PATIENCE_S
        while len(records) < count:
            assert time.monotonic() < deadline, f"{len(records)} of {count} records"
            try:
                records += await consumer.poll(max_records=count - len(records), timeout_s=0.5)
            except BrokerUnavailableError:
                await asyncio.sleep(0.1)
        return records

    def answers(self, records: list[InRecord]) -> list[OutRecord]:
        return [OutRecord(self.output.name, "key", record.value) for record in records]

    def progress(self, records: list[InRecord]) -> dict[TopicPartition, Progress]:
        return {self.source: Progress(records[-1].offset + 1, records[-1].epoch)}

    async def answered(self) -> list[bytes | None]:
        """The committed values of the output."""
        reader = await self.broker.reader()
        records = await reader.read(TopicPartition(self.output.name, 0), 0, max_records=10_000, timeout_s=0)
        await reader.close()
        return [record.value for record in records]


async def copy(stage: Stage, consumer: Consumer, count: int) -> None:
    """Answer records, some at a time, trying again whatever may be tried again, until ``count`` are answered."""
    done = 0
    deadline = time.monotonic() + PATIENCE_S
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
                await consumer.commit(stage.progress(records), stage.answers(records))
            except BrokerUnavailableError:
                await asyncio.sleep(0.1)
                continue
            except PartitionLostError:
                break
            done = records[-1].offset + 1
            break
