"""Tests that a topic which is deleted, made again or grown while it is used is noticed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from infra.broker.port import Consumer, OutRecord, TopicPartition
from infra.errors import TopicMismatchError
from standgale.testing.broker.harness import TIMEOUT_S
from standgale.testing.waiting import until

if TYPE_CHECKING:
    from standgale.testing.broker.harness import BrokerHarness


async def _holds(consumer: Consumer) -> bool:
    try:
        await consumer.poll(max_records=10, timeout_s=0.2)
    except TopicMismatchError:
        return True
    return False


class TopicChangeContract:
    """A topic that is deleted, made again or grown while it is used is noticed."""

    async def test_a_topic_made_again_is_another_incarnation(self, harness: BrokerHarness) -> None:
        topic, other = harness.topic(partitions=2), harness.topic("other")
        broker = await harness.open(topic, other)
        reader = await broker.reader()
        before = await reader.state(topic.name)
        assert before.partitions == 2
        assert before.incarnation
        assert await reader.state(topic.name) == before
        assert (await reader.state(other.name)).incarnation != before.incarnation

        await harness.remove(topic)
        with pytest.raises(TopicMismatchError, match=r"topics apply"):
            await reader.state(topic.name)
        await harness.open(topic)
        again = await reader.state(topic.name)
        assert again.partitions == 2
        assert again.incarnation != before.incarnation

    async def test_read_beyond_the_end_of_a_topic_made_again_raises_topic_mismatch(
        self, harness: BrokerHarness
    ) -> None:
        topic = harness.topic(partitions=1)
        broker = await harness.open(topic)
        source = TopicPartition(topic.name, 0)
        await harness.publish(broker, topic, *(("key", b"%d" % number) for number in range(10)))
        reader = await broker.reader()
        assert len(await reader.read(source, 0, max_records=10, timeout_s=TIMEOUT_S)) == 10
        assert await reader.read(source, 10, max_records=10, timeout_s=0.1) == []

        await harness.remove(topic)
        await harness.open(topic)
        await harness.publish(broker, topic, ("key", b"anew"))
        deadline = time.monotonic() + TIMEOUT_S
        with pytest.raises(TopicMismatchError, match="start again"):
            while time.monotonic() < deadline:
                assert await reader.read(source, 10, max_records=10, timeout_s=0.2) == []

        async def reads_anew() -> bool:
            try:
                found = await reader.read(source, 0, max_records=10, timeout_s=0.2)
            except TopicMismatchError:
                return False
            return [record.value for record in found] == [b"anew"]

        await until(reads_anew, "the reader does not read the new topic")

    async def test_more_partitions_than_declared_are_refused_by_readers(self, harness: BrokerHarness) -> None:
        topic = harness.topic(partitions=2)
        broker = await harness.open(topic)
        source = TopicPartition(topic.name, 0)
        await harness.publish(broker, topic, ("key", b"1"))
        reader = await broker.reader()

        await harness.add_partitions(topic, 4)
        with pytest.raises(TopicMismatchError, match=r"4 partitions where topics\.yaml declares 2"):
            await reader.state(topic.name)
        with pytest.raises(TopicMismatchError, match="More partitions"):
            await reader.bounds(topic.name)
        with pytest.raises(TopicMismatchError, match="More partitions"):
            await (await broker.reader()).read(source, 0, max_records=10, timeout_s=0.2)
        declared = harness.declare(topic.model_copy(update={"partitions": 4}))
        assert (await (await declared.reader()).state(topic.name)).partitions == 4

    async def test_consumer_raises_while_its_topic_has_other_partitions_than_declared(
        self, harness: BrokerHarness
    ) -> None:
        topic = harness.topic(partitions=2)
        broker = await harness.open(topic)
        consumer = await harness.join(broker, harness.member(topic))
        await harness.publish(broker, topic, ("key", b"1"))
        await consumer.commit(harness.points(*await harness.take(consumer, 1)))

        await harness.add_partitions(topic, 4)
        await until(lambda: _holds(consumer), "the consumer goes on")
        assert dict(consumer.assignment()) == {}
        grown = topic.model_copy(update={"partitions": 4})
        other = harness.declare(grown)
        await harness.publish(other, grown, ("key", b"2"))
        with pytest.raises(TopicMismatchError, match=r"4 partitions where topics\.yaml declares 2"):
            while True:
                assert await consumer.poll(max_records=10, timeout_s=0.2) == []
        await consumer.close()
        opened_again = await harness.join(other, harness.member(grown))
        assert [record.value for record in await harness.take(opened_again, 1)] == [b"2"]

    async def test_publisher_raises_while_its_topic_has_other_partitions_than_declared(
        self, harness: BrokerHarness
    ) -> None:
        topic = harness.topic(partitions=2)
        publisher = await (await harness.open(topic)).publisher()
        record = OutRecord(topic.name, "key", b"1")
        await publisher.publish([record])
        await harness.add_partitions(topic, 4)

        async def refused() -> bool:
            try:
                await publisher.publish([record])
            except TopicMismatchError as error:
                return "4 partitions where topics.yaml declares 2" in str(error)
            return False

        await until(refused, "the publisher goes on")
        with pytest.raises(TopicMismatchError):
            await publisher.publish([record])
        await publisher.close()
