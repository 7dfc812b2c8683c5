"""Tests that a missing or revoked right is named, and that granting it needs no restart.

The broker has access lists; the user of these tests has only the rights that a test grants.
"""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import pytest

from infra.broker.kafka.adapter import KafkaBroker
from infra.broker.port import CommitPoint, Consumer, GroupSpec, InRecord, OutRecord, TopicPartition
from infra.deploy.kafka import KafkaServer
from infra.deploy.kafka.acls import Acls, Operation, Pattern, Resource
from infra.errors import BrokerUnavailableError, PartitionLostError, RefusedError, TransientError
from schemas import topics
from schemas.topics import load_topics
from tests.harnesses.topic_pair import TIMEOUT_S, TopicPair
from tests.paths import ROOT
from tests.servers.kafka import scram

pytestmark = pytest.mark.integration

USER = "worker"
Right = tuple[Operation, Resource, str]


@dataclass
class Guarded:
    """Holds a topic pair with access lists: ``pair.broker`` may do everything, ``broker`` only what was granted."""

    pair: TopicPair
    broker: KafkaBroker
    acls: Acls
    given: list[Right]

    @property
    def group(self) -> Right:
        return Operation.READ, Resource.GROUP, self.pair.group

    @property
    def reading(self) -> Right:
        return Operation.READ, Resource.TOPIC, self.pair.input.name

    @property
    def writing(self) -> Right:
        return Operation.WRITE, Resource.TOPIC, self.pair.output.name

    @property
    def transactions(self) -> Right:
        return Operation.WRITE, Resource.TRANSACTIONAL_ID, f"{self.pair.group}-p"

    async def give(self, *rights: Right) -> None:
        for operation, resource, name in rights:
            await self.acls.allow(USER, operation, resource, name, _pattern(resource))
            self.given.append((operation, resource, name))

    async def take_away(self, *rights: Right) -> None:
        for operation, resource, name in rights:
            await self.acls.revoke(USER, operation, resource, name, _pattern(resource))
            self.given.remove((operation, resource, name))


def _pattern(resource: Resource) -> Pattern:
    return Pattern.PREFIXED if resource is Resource.TRANSACTIONAL_ID else Pattern.LITERAL


@pytest.fixture
async def guarded(secured_kafka: KafkaServer) -> AsyncIterator[Guarded]:
    async with TopicPair(secured_kafka, timeout_s=5.0).open() as pair, Acls(secured_kafka.bootstrap_servers) as acls:
        settings = pair.settings.model_copy(update=scram(secured_kafka, USER))
        broker = KafkaBroker(settings, pair.specs)
        guarded = Guarded(pair, broker, acls, [])
        yield guarded
        await broker.close()
        await guarded.take_away(*guarded.given)


async def until_refused(attempt: Callable[[], Awaitable[object]], right: str) -> None:
    """Try until the call is refused because ``right`` is missing."""
    deadline = time.monotonic() + TIMEOUT_S
    last: Exception | None = None
    while time.monotonic() < deadline:
        try:
            await attempt()
        except RefusedError as error:
            assert f"user {USER} lacks the right" in str(error)
            if right in str(error):
                return
            last = error
        except (BrokerUnavailableError, PartitionLostError) as error:
            last = error
    raise AssertionError(f"not refused because of {right!r}; last: {last!r}")


class Worker:
    """Copies one record after the other, and keeps the record whose commit failed, as a real worker does."""

    def __init__(self, guarded: Guarded, consumer: Consumer) -> None:
        self._pair = guarded.pair
        self._consumer = consumer
        self._pending: list[InRecord] = []

    async def work(self) -> None:
        if not self._pending:
            self._pending = await self._consumer.poll(max_records=1, timeout_s=0.3)
        if self._pending:
            try:
                await self._consumer.commit(self._pair.points(self._pending), self._pair.copies(self._pending))
            except PartitionLostError:
                self._pending = []
                raise
            self._pending = []
            # So that there is something to refuse.
            await self._pair.publish(b"more")

    async def copy(self, value: bytes) -> None:
        """Publish ``value`` and copy it, through transient errors."""
        await self._pair.publish(value)
        deadline = time.monotonic() + TIMEOUT_S
        while value not in await self._pair.read_outputs():
            assert time.monotonic() < deadline
            try:
                await self.work()
            except (TransientError, PartitionLostError):
                continue


@pytest.mark.parametrize("missing", ["group", "reading", "writing", "transactions"])
async def test_each_missing_or_revoked_right_of_a_member_is_named(guarded: Guarded, missing: str) -> None:
    rights = {name: getattr(guarded, name) for name in ("group", "reading", "writing", "transactions")}
    right = rights.pop(missing)
    named = {
        "group": f"READ on group {guarded.pair.group}",
        "reading": f"on topic {guarded.pair.input.name}",
        "writing": f"on topic {guarded.pair.output.name}",
        "transactions": f"WRITE on transactional id {guarded.pair.group}-p0",
    }[missing]
    await guarded.give(*rights.values())
    await guarded.pair.publish(b"1")
    consumer = await guarded.broker.consumer(guarded.pair.member())
    worker = Worker(guarded, consumer)

    await until_refused(worker.work, named)
    await guarded.give(right)
    await worker.copy(b"2")
    await guarded.take_away(right)
    await until_refused(worker.work, named)
    await guarded.give(right)
    await worker.copy(b"3")
    copied = await guarded.pair.read_outputs()
    assert copied.count(b"1") == copied.count(b"2") == copied.count(b"3") == 1
    await consumer.close()


async def test_publisher_names_its_missing_right_and_continues_when_granted(guarded: Guarded) -> None:
    record = OutRecord(guarded.pair.output.name, "key", b"1")

    async def publish() -> None:
        publisher = await guarded.broker.publisher()
        try:
            await publisher.publish([record])
        finally:
            await publisher.close()

    await until_refused(publish, "WRITE on")
    await guarded.give(guarded.writing)
    deadline = time.monotonic() + TIMEOUT_S
    publisher = None
    while b"1" not in await guarded.pair.read_outputs():
        assert time.monotonic() < deadline
        try:
            publisher = publisher or await guarded.broker.publisher()
            await publisher.publish([record])
        except RefusedError:
            continue
    assert publisher is not None
    await guarded.take_away(guarded.writing)
    await until_refused(lambda: publisher.publish([record]), f"on topic {guarded.pair.output.name}")
    await publisher.close()


async def test_reader_with_only_describe_names_the_missing_read_right(guarded: Guarded) -> None:
    output = guarded.pair.output.name
    await guarded.give(guarded.writing)  # WRITE includes DESCRIBE
    reader = await guarded.broker.reader()
    await until_refused(
        lambda: reader.read(TopicPartition(output, 0), 0, max_records=1, timeout_s=0.5), f"READ on topic {output}"
    )
    await reader.close()


def rights_in_the_docs(service: str) -> list[Right]:
    """Return the rights of a service as docs/operations.md lists them."""
    lines = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8").splitlines()
    (row,) = (line for line in lines if line.startswith(f"| {service} |"))
    rights = []
    kinds = (Resource.TOPIC, Resource.GROUP, Resource.TRANSACTIONAL_ID)
    for resource, cell in zip(kinds, row.split("|")[2:5], strict=True):
        for part in cell.split(";"):
            rights += [(Operation[part.split()[0]], resource, name) for name in re.findall(r"`([^`]+)`", part)]
    assert rights
    return rights


async def group_work(broker: KafkaBroker, spec: GroupSpec, *outputs: str) -> None:
    """Read a record and commit it with an output to each topic."""
    consumer = await broker.consumer(spec)
    deadline = time.monotonic() + TIMEOUT_S
    done = set()
    while not done:
        assert time.monotonic() < deadline
        for record in (await consumer.poll(max_records=1, timeout_s=0.5))[:1]:
            points = {record.source: CommitPoint(record.offset + 1, record.epoch)}
            await consumer.commit(points, [OutRecord(topic, record.key or "", b"out") for topic in outputs])
            done.add(record.source)
    await consumer.lag()
    await consumer.close()


async def look(broker: KafkaBroker, *wanted: str) -> None:
    """Read the first record of each topic, as tails and lists do."""
    reader = await broker.reader()
    for topic in wanted:
        for partition, (first, end) in (await reader.bounds(topic)).items():
            if first < end:
                await reader.read(TopicPartition(topic, partition), first, max_records=1, timeout_s=0)
    await reader.close()


async def send(broker: KafkaBroker, *wanted: str) -> None:
    publisher = await broker.publisher()
    await publisher.publish([OutRecord(topic, "key", b"record") for topic in wanted])
    await publisher.close()


async def detect(broker: KafkaBroker) -> None:
    spec = GroupSpec("detector", topics.FRAME_TOPICS, outputs=True)
    await group_work(broker, spec, topics.DETECTIONS, topics.FRAMES_DEAD, topics.FRAMES_BACKFILL)
    await look(broker, topics.DETECTIONS, topics.MODELS)
    await send(broker, topics.MODELS)


async def sink(broker: KafkaBroker) -> None:
    await group_work(
        broker, GroupSpec("sink.postgres", (topics.DETECTIONS, topics.REDRIVE), outputs=True), topics.SINKS_DEAD
    )


async def redrive(broker: KafkaBroker) -> None:
    await look(broker, topics.FRAMES_DEAD, topics.SINKS_DEAD, topics.REDRIVE, topics.DETECTIONS, *topics.FRAME_TOPICS)
    await send(broker, topics.REDRIVE, *topics.FRAME_TOPICS)


SERVICES: dict[str, Callable[[KafkaBroker], Awaitable[None]]] = {
    "gateway": lambda broker: send(broker, topics.FRAMES_LIVE, topics.PROBES),
    "detector": detect,
    "sink `postgres`": sink,
    "live stream": lambda broker: look(broker, topics.DETECTIONS),
    "`dead list`": lambda broker: look(broker, topics.FRAMES_DEAD, topics.SINKS_DEAD),
    "`dead redrive`": redrive,
    "`model activate`": lambda broker: send(broker, topics.MODELS),
}


async def test_rights_in_the_docs_are_enough_for_each_service(guarded: Guarded) -> None:
    declared = load_topics()
    whole = KafkaBroker(guarded.pair.settings, declared)
    admin = await whole.admin()
    await admin.apply(declared.values())
    await admin.close()
    # A record in each topic, with the same partition number.
    await send(whole, *declared)
    broker = KafkaBroker(guarded.broker._link.settings, declared)
    for service, work in SERVICES.items():
        rights = rights_in_the_docs(service)
        await guarded.give(*rights)
        deadline = time.monotonic() + TIMEOUT_S
        while True:
            try:
                await work(broker)
                break
            except RefusedError as error:
                # The broker applies a change of the list after a moment.
                assert time.monotonic() < deadline, f"{service}: {error}"
        await guarded.take_away(*rights)
    await broker.close()
    await whole.close()
