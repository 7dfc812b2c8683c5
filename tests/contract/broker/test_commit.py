"""Contract: outputs and offsets are committed in one step, by the owner only."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest

from infra.broker.partitioning import partition_for
from infra.broker.port import CommitPoint, Consumer, InRecord, OutRecord
from infra.errors import PartitionLostError, RecordTooLargeError, TopicMismatchError, TransientError

TIMEOUT_S = 30.0

if TYPE_CHECKING:
    from tests.contract.conftest import BrokerWorld


async def test_outputs_and_offsets_are_committed_together(world: BrokerWorld) -> None:
    live, jobs, output = (world.topic(name, partitions=2) for name in ("live", "jobs", "out"))
    broker = await world.open(live, jobs, output)
    key = next(key for key in map(str, range(20)) if partition_for(key, 2) == 1)
    for topic in (live, jobs):
        await world.publish(broker, topic, *((key, b"%d" % number) for number in range(3)))
    member = world.member(live, jobs, outputs=True)
    consumer = await world.join(broker, member)
    records = await world.take(consumer, 6)
    outputs = [OutRecord(output.name, key, record.value, (("from", record.topic.encode()),)) for record in records]
    reader = await broker.reader()
    assert await world.read_all(reader, output) == []

    await consumer.commit(world.progress(*records), outputs)
    written = await world.read_all(reader, output, at_least=6)
    assert [(record.value, record.headers) for record in written] == [(one.value, one.headers) for one in outputs]
    admin = await broker.admin()
    assert set((await admin.group_lag(member.group, [live.name, jobs.name])).values()) == {0}


async def test_a_refused_output_leaves_everything_as_it_was(world: BrokerWorld) -> None:
    topic, output = world.topic(partitions=1), world.topic("out", partitions=1, max_message_bytes=2_000)
    broker = await world.open(topic, output)
    await world.publish(broker, topic, ("key", b"x"))
    member = world.member(topic, outputs=True)
    consumer = await world.join(broker, member)
    records = await world.take(consumer, 1)
    good = OutRecord(output.name, "key", b"good")
    too_large = OutRecord(output.name, "key", bytes(range(250)) * 40_000)

    with pytest.raises(RecordTooLargeError):
        await consumer.commit(world.progress(*records), [good, too_large])
    reader, admin = await broker.reader(), await broker.admin()
    assert await world.read_all(reader, output) == []
    assert sum((await admin.group_lag(member.group, [topic.name])).values()) == 1

    await consumer.commit(world.progress(*records), [good])
    assert [record.value for record in await world.read_all(reader, output, at_least=1)] == [b"good"]


async def test_a_missing_output_topic_holds_its_partition_only_until_it_is_there(world: BrokerWorld) -> None:
    topic, output = world.topic(partitions=2), world.topic("out", partitions=2)
    broker = await world.open(topic)
    keys = {partition_for(key, 2): key for key in map(str, range(20))}
    await world.publish(broker, topic, (keys[0], b"bad"), (keys[1], b"good"))
    member = world.member(topic, outputs=True)
    consumer = await world.join(broker, member)
    records = {record.partition: record for record in await world.take(consumer, 2)}
    letters = [OutRecord(output.name, keys[0], b"letter")]

    with pytest.raises(TopicMismatchError, match=output.name):
        await consumer.commit(world.progress(records[0]), letters)
    await consumer.commit(world.progress(records[1]))
    admin = await broker.admin()
    lag = await admin.group_lag(member.group, [topic.name])
    assert {source.partition: behind for source, behind in lag.items()} == {0: 1, 1: 0}

    await admin.apply([output])
    deadline = time.monotonic() + TIMEOUT_S
    while True:
        # What a client knows of a cluster's topics is a few seconds old.
        try:
            await consumer.commit(world.progress(records[0]), letters)
            break
        except TransientError:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.2)
    reader = await broker.reader()
    assert [record.value for record in await world.read_all(reader, output, at_least=1)] == [b"letter"]
    assert sum((await admin.group_lag(member.group, [topic.name])).values()) == 0


async def test_who_lost_a_partition_cannot_commit_it_and_goes_on(world: BrokerWorld) -> None:
    topic, output = world.topic(partitions=2), world.topic("out", partitions=2)
    broker = await world.open(topic, output)
    keys = {partition_for(key, 2): key for key in map(str, range(20))}
    await world.publish(broker, topic, *((keys[number], b"%d" % number) for number in range(2)))
    member = world.member(topic, outputs=True)
    first = await world.join(broker, member)
    stale = await world.take(first, 2)
    second = await world.join(world.declare(topic, output), member)
    fresh: list[tuple[Consumer, InRecord]] = []

    async def shared() -> None:
        await world.settle(first, second, until=lambda: len(first.assignment()) == len(second.assignment()) == 1)

    await shared()
    (lost,) = (record for record in stale if record.source not in first.assignment())
    with pytest.raises(PartitionLostError):
        await first.commit(world.progress(lost), [OutRecord(output.name, lost.key or "", b"of the loser")])
    reader, admin = await broker.reader(), await broker.admin()
    assert await world.read_all(reader, output) == []
    assert sum((await admin.group_lag(member.group, [topic.name])).values()) == 2

    # Both publish anew, and each answers what it owns now.
    await world.publish(broker, topic, *((keys[number], b"again") for number in range(2)))
    for consumer in (first, second):
        (source,) = consumer.assignment()
        record = await world.take(consumer, 1)
        fresh += [(consumer, one) for one in record]
        assert {one.source for one in record} == {source}
        await consumer.commit(
            {source: CommitPoint(2, record[-1].epoch)},
            [OutRecord(output.name, keys[source.partition], b"of the owner")],
        )
    assert [record.value for record in await world.read_all(reader, output, at_least=2)] == [b"of the owner"] * 2
    assert set((await admin.group_lag(member.group, [topic.name])).values()) == {0}


async def test_a_commit_that_fails_in_part_comes_again_as_a_whole(world: BrokerWorld) -> None:
    """A sink commits many partitions at once; when one of them is lost, the records of the others come once more."""
    topic = world.topic(partitions=4)
    broker = await world.open(topic)
    keys = {partition_for(key, 4): key for key in map(str, range(40))}
    await world.publish(broker, topic, *((keys[number], b"%d" % number) for number in range(4)))
    member = world.member(topic)
    first = await world.join(broker, member)
    stale = await world.take(first, 4)
    second = await world.join(broker, member)
    seen = await world.settle(first, second, until=lambda: len(first.assignment()) == len(second.assignment()) == 2)
    with pytest.raises(PartitionLostError):
        await first.commit(world.progress(*stale))

    while len({record.partition for record in seen}) < 4:
        seen += await world.settle(first, second, until=lambda: True)
        for consumer in (first, second):
            seen += await consumer.poll(max_records=10, timeout_s=0.1)
    for consumer in (first, second):
        mine = [one for one in seen if consumer.assignment().get(one.source) == one.epoch]
        await consumer.commit(world.progress(*mine))
    await world.until_done(broker, member.group, topic)
