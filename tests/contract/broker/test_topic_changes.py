"""Contract: a topic that is deleted, made again, or given more partitions while it is used is noticed, not misread."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from infra.broker.port import Consumer, OutRecord, TopicPartition
from infra.errors import TopicMismatchError
from tests.contract.conftest import TIMEOUT_S, until

if TYPE_CHECKING:
    from tests.contract.conftest import BrokerWorld


async def test_a_topic_made_again_is_another_incarnation(world: BrokerWorld) -> None:
    topic, other = world.topic(partitions=2), world.topic("other")
    broker = await world.open(topic, other)
    reader = await broker.reader()
    before = await reader.state(topic.name)
    assert before.partitions == 2
    assert before.incarnation
    assert await reader.state(topic.name) == before
    assert (await reader.state(other.name)).incarnation != before.incarnation

    await world.remove(topic)
    with pytest.raises(TopicMismatchError, match=r"topics apply"):
        await reader.state(topic.name)
    await world.open(topic)
    again = await reader.state(topic.name)
    assert again.partitions == 2
    assert again.incarnation != before.incarnation


async def test_reading_beyond_the_end_of_a_topic_made_again_is_told(world: BrokerWorld) -> None:
    topic = world.topic(partitions=1)
    broker = await world.open(topic)
    source = TopicPartition(topic.name, 0)
    await world.publish(broker, topic, *(("key", b"%d" % number) for number in range(10)))
    reader = await broker.reader()
    assert len(await reader.read(source, 0, max_records=10, timeout_s=TIMEOUT_S)) == 10
    assert await reader.read(source, 10, max_records=10, timeout_s=0.1) == []

    await world.remove(topic)
    await world.open(topic)
    await world.publish(broker, topic, ("key", b"anew"))
    deadline = time.monotonic() + TIMEOUT_S
    with pytest.raises(TopicMismatchError, match="begin anew"):
        while time.monotonic() < deadline:
            assert await reader.read(source, 10, max_records=10, timeout_s=0.2) == []

    async def reads_anew() -> bool:
        try:
            found = await reader.read(source, 0, max_records=10, timeout_s=0.2)
        except TopicMismatchError:
            return False
        return [record.value for record in found] == [b"anew"]

    await until(reads_anew, "the reader does not read the new topic")


async def test_more_partitions_than_declared_are_refused_by_readers(world: BrokerWorld) -> None:
    topic = world.topic(partitions=2)
    broker = await world.open(topic)
    source = TopicPartition(topic.name, 0)
    await world.publish(broker, topic, ("key", b"1"))
    reader = await broker.reader()

    await world.grow(topic, 4)
    with pytest.raises(TopicMismatchError, match=r"4 partitions where topics\.yaml declares 2"):
        await reader.state(topic.name)
    with pytest.raises(TopicMismatchError, match="More partitions"):
        await reader.bounds(topic.name)
    with pytest.raises(TopicMismatchError, match="More partitions"):
        await (await broker.reader()).read(source, 0, max_records=10, timeout_s=0.2)
    declared = world.declare(topic.model_copy(update={"partitions": 4}))
    assert (await (await declared.reader()).state(topic.name)).partitions == 4


async def test_a_consumer_holds_while_its_topic_has_other_partitions_than_declared(world: BrokerWorld) -> None:
    topic = world.topic(partitions=2)
    broker = await world.open(topic)
    consumer = await world.join(broker, world.member(topic))
    await world.publish(broker, topic, ("key", b"1"))
    await consumer.commit(world.progress(*await world.take(consumer, 1)))

    await world.grow(topic, 4)
    await until(lambda: _holds(consumer), "the consumer goes on")
    assert dict(consumer.assignment()) == {}
    grown = topic.model_copy(update={"partitions": 4})
    other = world.declare(grown)
    await world.publish(other, grown, ("key", b"2"))
    with pytest.raises(TopicMismatchError, match=r"4 partitions where topics\.yaml declares 2"):
        while True:
            assert await consumer.poll(max_records=10, timeout_s=0.2) == []
    await consumer.close()
    told_anew = await world.join(other, world.member(grown))
    assert [record.value for record in await world.take(told_anew, 1)] == [b"2"]


async def _holds(consumer: Consumer) -> bool:
    try:
        await consumer.poll(max_records=10, timeout_s=0.2)
    except TopicMismatchError:
        return True
    return False


async def test_a_publisher_holds_while_its_topic_has_other_partitions_than_declared(world: BrokerWorld) -> None:
    topic = world.topic(partitions=2)
    publisher = await (await world.open(topic)).publisher()
    record = OutRecord(topic.name, "key", b"1")
    await publisher.publish([record])
    await world.grow(topic, 4)

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
