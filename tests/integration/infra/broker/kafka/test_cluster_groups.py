"""Tests groups on three nodes while coordinators move or freeze."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaConnectionError

from infra.broker.kafka.queries.cluster_queries import ClusterQueries
from infra.broker.port import Consumer, InRecord, OutRecord, Publisher, TopicPartition
from infra.deploy.kafka import KafkaCluster
from infra.errors import BrokerUnavailableError
from tests.harnesses.topic_pair import TIMEOUT_S, TopicPair, copy_records

pytestmark = pytest.mark.integration


@pytest.fixture
async def three(kafka_cluster: KafkaCluster) -> AsyncIterator[TopicPair]:
    async with TopicPair(kafka_cluster, timeout_s=6.0).open() as pair:
        yield pair


async def commit_until_it_works(consumer: Consumer, pair: TopicPair, records: list[InRecord]) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while True:
        assert time.monotonic() < deadline
        try:
            await consumer.commit(pair.points(records), pair.copies(records))
            return
        except BrokerUnavailableError:
            await asyncio.sleep(0.1)


async def test_lost_response_and_outdated_coordinator_do_not_commit_twice(
    three: TopicPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    await three.publish(b"1", b"2")
    consumer = await three.broker.consumer(three.member())
    records = await three.poll_records(consumer, 2)
    commit, find = AIOKafkaProducer.commit_transaction, AIOKafkaAdminClient.find_coordinator
    wrong = []

    async def mute(producer: AIOKafkaProducer) -> None:
        await commit(producer)
        monkeypatch.setattr(AIOKafkaProducer, "commit_transaction", commit)
        monkeypatch.setattr(AIOKafkaAdminClient, "find_coordinator", astray)
        raise KafkaConnectionError("the response is lost")

    async def astray(admin: AIOKafkaAdminClient, group: str, kind: int = 0) -> int:
        right = await find(admin, group, kind)
        if wrong:
            return right
        wrong.append(1 + right % 3)
        return wrong[0]

    monkeypatch.setattr(AIOKafkaProducer, "commit_transaction", mute)
    # Nothing was committed before, so a response without offsets would look like a commit that did not happen.
    await commit_until_it_works(consumer, three, records)
    assert len(wrong) == 1
    assert await three.read_outputs() == [b"1", b"2"]
    await consumer.close()


async def coordinator_of(pair: TopicPair, group: str) -> int:
    offsets = ClusterQueries(pair.broker._link)
    try:
        return await pair.broker._link.ask("finding a coordinator", lambda: _find(offsets, group))
    finally:
        await offsets.close()


async def _find(offsets: ClusterQueries, group: str) -> int:
    return await (await offsets.admin()).find_coordinator(group)


async def test_static_members_continue_after_a_frozen_coordinator(
    three: TopicPair, kafka_cluster: KafkaCluster
) -> None:
    """Freeze for longer than their session: the node then responds to requests for which no client waits any more."""
    member = three.member(instance_id="worker-1", session_timeout_s=3.0)
    consumer = await three.broker.consumer(member)
    await three.publish(b"1")
    records = await three.poll_records(consumer, 1)
    await commit_until_it_works(consumer, three, records)

    node = kafka_cluster.node(await coordinator_of(three, three.group))
    node.freeze()
    try:
        thawed = time.monotonic() + 8.0
        while time.monotonic() < thawed:
            try:
                await consumer.poll(max_records=1, timeout_s=0.5)
            except BrokerUnavailableError:
                await asyncio.sleep(0.1)
    finally:
        node.thaw()
    await asyncio.to_thread(kafka_cluster.wait_until_whole)
    publisher = await three.broker.publisher()
    await until_published(publisher, three, b"2")
    end = (await read_all(three, three.input.name))[-1].offset + 1
    await copy_records(three, consumer, end)
    # A publish with a lost response may be stored twice; each record is copied once.
    published = [record.value for record in await read_all(three, three.input.name)]
    assert await three.read_outputs() == published
    assert set(published) == {b"1", b"2"}
    await asyncio.gather(consumer.close(), publisher.close())


async def until_published(publisher: Publisher, pair: TopicPair, value: bytes) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while True:
        assert time.monotonic() < deadline
        try:
            await publisher.publish([OutRecord(pair.input.name, "key", value)])
            return
        except BrokerUnavailableError:
            await asyncio.sleep(0.1)


async def read_all(pair: TopicPair, topic: str) -> list[InRecord]:
    reader = await pair.broker.reader()
    records = await reader.read(TopicPartition(topic, 0), 0, max_records=1000, timeout_s=0)
    await reader.close()
    return records
