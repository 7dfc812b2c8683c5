"""The worlds in which the broker's contract must hold: the embedded broker and a real Kafka."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions

from infra.broker.embedded.file.sql import OFFSET_BITS
from infra.broker.open import open_broker
from infra.broker.port import Broker, CommitPoint, Consumer, GroupSpec, InRecord, OutRecord, Reader, TopicPartition
from infra.settings import BrokerSettings
from schemas.topics import TopicSpec
from tests.support_waiting import until

MEMBER = Path(__file__).with_name("broker_member.py")
TIMEOUT_S = 30.0
"""How long a test waits for what must happen; it takes far less where the machine is idle."""


async def _absent(admin: AIOKafkaAdminClient, topics: Sequence[str]) -> bool:
    return not set(topics) & set(await admin.list_topics())


class BrokerWorld:
    """A broker for one test, with topics and groups of names that no other test has."""

    def __init__(self, settings: BrokerSettings, data_dir: Path) -> None:
        self.settings = settings
        self.data_dir = data_dir
        self.kind = settings.kind
        self._prefix = f"t{uuid.uuid4().hex[:8]}"
        self._closing: list[Callable[[], Awaitable[None]]] = []
        self._members: list[subprocess.Popen[str]] = []

    def topic(self, name: str = "in", *, partitions: int = 4, **changes: Any) -> TopicSpec:
        """A topic declaration; ``changes`` replaces fields of it."""
        fields: dict[str, Any] = {
            "name": f"{self._prefix}.{name}",
            "group": "test",
            "partitions": partitions,
            "key": "device_id",
            "events": ("frame.captured",),
            "about": "a test",
            "replication": 1,
            "min_insync_replicas": 1,
            "retention_s": 3600,
            "max_message_bytes": 1_048_576,
            "cleanup": "delete",
        }
        return TopicSpec(**(fields | changes))

    def member(self, *topics: TopicSpec, **changes: Any) -> GroupSpec:
        """A membership in this test's group."""
        fields: dict[str, Any] = {"group": f"{self._prefix}-group", "session_timeout_s": 6.0}
        return GroupSpec(topics=tuple(topic.name for topic in topics), **(fields | changes))

    def progress(self, *records: InRecord) -> dict[TopicPartition, CommitPoint]:
        """The progress that says that ``records``, in order, are done."""
        return {record.source: CommitPoint(record.offset + 1, record.epoch) for record in records}

    def declare(self, *topics: TopicSpec) -> Broker:
        """A broker that has been told of ``topics``, as a process of its own would have it."""
        broker = open_broker(self.settings, self.data_dir, {topic.name: topic for topic in topics})
        self._closing.append(broker.close)
        return broker

    async def open(self, *topics: TopicSpec) -> Broker:
        """A broker on which ``topics`` exist."""
        broker = self.declare(*topics)
        admin = await broker.admin()
        await admin.apply(topics)
        await admin.close()
        return broker

    async def remove(self, *topics: TopicSpec) -> None:
        """Delete the topics, as an operator's own tool would; returns when they are gone."""
        names = [topic.name for topic in topics]
        if self.kind == "kafka":
            admin = AIOKafkaAdminClient(bootstrap_servers=self.settings.bootstrap_servers)
            await admin.start()
            await admin.delete_topics(names)
            await until(lambda: _absent(admin, names), f"{names} are still there")
            await admin.close()
        else:
            with self._file() as file:
                for name in names:
                    file.execute(
                        "DELETE FROM records WHERE id >> ? IN (SELECT slot FROM partitions WHERE topic = ?)",
                        (OFFSET_BITS, name),
                    )
                    file.execute("DELETE FROM partitions WHERE topic = ?", (name,))
                    file.execute("DELETE FROM topics WHERE name = ?", (name,))

    async def grow(self, topic: TopicSpec, partitions: int) -> None:
        """Add partitions behind everybody's back, as somebody else's tool would."""
        if self.kind == "kafka":
            admin = AIOKafkaAdminClient(bootstrap_servers=self.settings.bootstrap_servers)
            await admin.start()
            await admin.create_partitions({topic.name: NewPartitions(partitions)})
            await admin.close()
        else:
            with self._file() as file:
                new = [(topic.name, number) for number in range(topic.partitions, partitions)]
                file.executemany("INSERT INTO partitions (topic, partition) VALUES (?, ?)", new)
                file.execute("UPDATE groups SET generation = generation + 1")

    @contextmanager
    def _file(self) -> Iterator[sqlite3.Connection]:
        """The embedded broker's file, in a write transaction."""
        with closing(sqlite3.connect(self.data_dir / "broker.sqlite", timeout=TIMEOUT_S)) as file, file:
            yield file

    async def join(self, broker: Broker, spec: GroupSpec) -> Consumer:
        """A consumer, closed after the test if the test does not do that itself."""
        consumer = await broker.consumer(spec)
        self._closing.append(consumer.close)
        return consumer

    async def publish(self, broker: Broker, topic: TopicSpec, *records: tuple[str, bytes | None]) -> None:
        """Publish keys and values."""
        publisher = await broker.publisher()
        await publisher.publish([OutRecord(topic.name, key, value) for key, value in records])
        await publisher.close()

    async def take(self, consumer: Consumer, count: int, topics: Collection[str] | None = None) -> list[InRecord]:
        """Poll until there are ``count`` records."""
        records: list[InRecord] = []
        deadline = time.monotonic() + TIMEOUT_S
        while len(records) < count:
            assert time.monotonic() < deadline, f"{len(records)} of {count} records after {TIMEOUT_S} s"
            records += await consumer.poll(max_records=count - len(records), timeout_s=0.2, topics=topics)
        return records

    async def settle(self, *consumers: Consumer, until: Callable[[], bool]) -> list[InRecord]:
        """Poll all ``consumers`` until the group looks as it must; the records that came meanwhile."""
        records: list[InRecord] = []
        deadline = time.monotonic() + TIMEOUT_S
        while not until():
            assert time.monotonic() < deadline, [dict(consumer.assignment()) for consumer in consumers]
            polls = (consumer.poll(max_records=100, timeout_s=0.1) for consumer in consumers)
            for polled in await asyncio.gather(*polls):
                records += polled
        return records

    async def read_all(self, reader: Reader, topic: TopicSpec, at_least: int = 0) -> list[InRecord]:
        """Every committed record of the topic, partition by partition, once there are ``at_least`` so many.

        A commit on Kafka is final when it returns, but readers may see it some milliseconds later.
        """
        deadline = time.monotonic() + TIMEOUT_S
        while True:
            records = await self._read_once(reader, topic)
            if len(records) >= at_least:
                return records
            assert time.monotonic() < deadline, f"{len(records)} of {at_least} records after {TIMEOUT_S} s"

    async def _read_once(self, reader: Reader, topic: TopicSpec) -> list[InRecord]:
        records: list[InRecord] = []
        for partition, (first, end) in (await reader.bounds(topic.name)).items():
            source = TopicPartition(topic.name, partition)
            offset = first
            while offset < end:
                # On Kafka the last offsets can be markers of transactions, after which no record comes.
                found = await reader.read(source, offset, max_records=5_000, timeout_s=0.3)
                if not found:
                    break
                records += found
                offset = found[-1].offset + 1
        return records

    async def until_done(self, broker: Broker, group: str, topic: TopicSpec) -> None:
        """Wait until the group has committed all of the topic."""
        admin = await broker.admin()
        deadline = time.monotonic() + TIMEOUT_S
        while behind := sum((await admin.group_lag(group, [topic.name])).values()):
            assert time.monotonic() < deadline, f"{behind} records not committed after {TIMEOUT_S} s"
            await asyncio.sleep(0.1)
        await admin.close()

    def spawn(
        self, mode: str, topics: tuple[TopicSpec, TopicSpec], session_timeout_s: float, instance_id: str | None = None
    ) -> subprocess.Popen[str]:
        """A member in a process of its own; see broker_member.py."""
        told = {
            "mode": mode,
            "settings": self.settings.model_dump(mode="json"),
            "data_dir": str(self.data_dir),
            "topics": [topic.model_dump() for topic in topics],
            "group": f"{self._prefix}-group",
            "instance_id": instance_id,
            "session_timeout_s": session_timeout_s,
        }
        arguments = [sys.executable, str(MEMBER), orjson.dumps(told).decode()]
        member = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._members.append(member)
        return member

    async def close(self) -> None:
        """End everything, in the reverse order of its beginning."""
        for member in self._members:
            member.kill()
            member.communicate()
        for close in reversed(self._closing):
            await close()


@pytest.fixture
async def world(broker_settings: BrokerSettings, tmp_path: Path) -> AsyncIterator[BrokerWorld]:
    """One broker after the other."""
    world = BrokerWorld(broker_settings, tmp_path)
    yield world
    await world.close()
