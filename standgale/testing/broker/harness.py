"""Gives a test a broker: topics and groups of its own, members, and what another tool does to the topics."""

from __future__ import annotations

import asyncio
import base64
import pickle
import subprocess
import sys
import time
import uuid
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any

import orjson

from infra.broker.port import Broker, CommitPoint, Consumer, GroupSpec, InRecord, OutRecord, Reader, TopicPartition
from schemas.topics import TopicSpec
from standgale.testing.factories import topic_spec

TIMEOUT_S = 30.0
"""How long a test waits for what must happen; it takes far less where the machine is idle."""


MEMBER = "standgale.testing.broker.member"

OpenBroker = Callable[[Mapping[str, TopicSpec]], Broker]
"""Opens a broker for the topics that are declared, by name."""


class BrokerHarness:
    """A broker for one test, with topics and groups of names that no other test has.

    An author derives from it and says how another tool deletes topics and adds partitions.
    """

    def __init__(self, open_broker: OpenBroker) -> None:
        """``open_broker`` opens the broker under test, as a process of its own would.

        Processes that tests kill and stop get it pickled: a function of an installed module, or a
        :func:`functools.partial` of one.
        """
        self.open_broker = open_broker
        self._prefix = f"t{uuid.uuid4().hex[:8]}"
        self._closing: list[Callable[[], Awaitable[None]]] = []
        self._members: list[subprocess.Popen[str]] = []

    async def delete_topics(self, names: Sequence[str]) -> None:
        """Delete the topics from outside, as an operator's own tool would; returns when they are gone."""
        raise NotImplementedError

    async def add_partitions(self, topic: TopicSpec, partitions: int) -> None:
        """Grow the topic to ``partitions`` from outside, so that no program was asked."""
        raise NotImplementedError

    def topic(self, name: str = "in", *, partitions: int = 4, **changes: Any) -> TopicSpec:
        """Return the declaration of a topic; ``changes`` replaces fields of it."""
        return topic_spec(f"{self._prefix}.{name}", partitions=partitions, **changes)

    def member(self, *topics: TopicSpec, **changes: Any) -> GroupSpec:
        """Return a membership in this test's group."""
        fields: dict[str, Any] = {"group": f"{self._prefix}-group", "session_timeout_s": 6.0}
        return GroupSpec(topics=tuple(topic.name for topic in topics), **(fields | changes))

    def points(self, *records: InRecord) -> dict[TopicPartition, CommitPoint]:
        """Return the commit points after ``records``, which are in offset order."""
        return {record.source: CommitPoint(record.offset + 1, record.epoch) for record in records}

    def declare(self, *topics: TopicSpec) -> Broker:
        """Return a broker that declares ``topics``, opened as another process would open it."""
        broker = self.open_broker({topic.name: topic for topic in topics})
        self._closing.append(broker.close)
        return broker

    async def open(self, *topics: TopicSpec) -> Broker:
        """Return a broker on which ``topics`` exist."""
        broker = self.declare(*topics)
        admin = await broker.admin()
        await admin.apply(topics)
        await admin.close()
        return broker

    async def remove(self, *topics: TopicSpec) -> None:
        """Delete the topics from outside; returns when they are gone."""
        await self.delete_topics([topic.name for topic in topics])

    async def join(self, broker: Broker, spec: GroupSpec) -> Consumer:
        """Return a consumer; it is closed after the test."""
        consumer = await broker.consumer(spec)
        self._closing.append(consumer.close)
        return consumer

    async def publish(self, broker: Broker, topic: TopicSpec, *records: tuple[str, bytes | None]) -> None:
        """Publish keys and values."""
        publisher = await broker.publisher()
        await publisher.publish([OutRecord(topic.name, key, value) for key, value in records])
        await publisher.close()

    async def take(self, consumer: Consumer, count: int, topics: Collection[str] | None = None) -> list[InRecord]:
        """Poll until there are ``count`` records; return them."""
        records: list[InRecord] = []
        deadline = time.monotonic() + TIMEOUT_S
        while len(records) < count:
            assert time.monotonic() < deadline, f"{len(records)} of {count} records after {TIMEOUT_S} s"
            records += await consumer.poll(max_records=count - len(records), timeout_s=0.2, topics=topics)
        return records

    async def settle(self, *consumers: Consumer, until: Callable[[], bool]) -> list[InRecord]:
        """Poll all ``consumers`` until ``until`` is true; return the records that came meanwhile."""
        records: list[InRecord] = []
        deadline = time.monotonic() + TIMEOUT_S
        while not until():
            assert time.monotonic() < deadline, [dict(consumer.assignment()) for consumer in consumers]
            polls = (consumer.poll(max_records=100, timeout_s=0.1) for consumer in consumers)
            for polled in await asyncio.gather(*polls):
                records += polled
        return records

    async def read_all(self, reader: Reader, topic: TopicSpec, at_least: int = 0) -> list[InRecord]:
        """Return every committed record of the topic, partition by partition, when there are ``at_least`` so many.

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
        """Start a member in a process of its own; see :mod:`standgale.testing.broker.member`."""
        task = {
            "mode": mode,
            "open_broker": base64.b64encode(pickle.dumps(self.open_broker)).decode(),
            "topics": [topic.model_dump() for topic in topics],
            "group": f"{self._prefix}-group",
            "instance_id": instance_id,
            "session_timeout_s": session_timeout_s,
        }
        arguments = [sys.executable, "-P", "-m", MEMBER, orjson.dumps(task).decode()]
        member = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._members.append(member)
        return member

    async def close(self) -> None:
        """Kill the members; close everything in the reverse order of its opening."""
        for member in self._members:
            member.kill()
            member.communicate()
        for close in reversed(self._closing):
            await close()
