"""Tests that outputs and offsets are committed in one step, by the owner of the partition only."""

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
    from standgale.testing.broker.harness import BrokerHarness


class CommitContract:
    """Outputs and offsets are committed in one step, by the owner only."""

    async def test_outputs_and_offsets_are_committed_together(self, harness: BrokerHarness) -> None:
        live, jobs, output = (harness.topic(name, partitions=2) for name in ("live", "jobs", "out"))
        broker = await harness.open(live, jobs, output)
        key = next(key for key in map(str, range(20)) if partition_for(key, 2) == 1)
        for topic in (live, jobs):
            await harness.publish(broker, topic, *((key, b"%d" % number) for number in range(3)))
        member = harness.member(live, jobs, outputs=True)
        consumer = await harness.join(broker, member)
        records = await harness.take(consumer, 6)
        outputs = [OutRecord(output.name, key, record.value, (("from", record.topic.encode()),)) for record in records]
        reader = await broker.reader()
        assert await harness.read_all(reader, output) == []

        await consumer.commit(harness.points(*records), outputs)
        written = await harness.read_all(reader, output, at_least=6)
        assert [(record.value, record.headers) for record in written] == [(one.value, one.headers) for one in outputs]
        admin = await broker.admin()
        assert set((await admin.group_lag(member.group, [live.name, jobs.name])).values()) == {0}

    async def test_a_refused_output_leaves_everything_as_it_was(self, harness: BrokerHarness) -> None:
        topic, output = harness.topic(partitions=1), harness.topic("out", partitions=1, max_message_bytes=2_000)
        broker = await harness.open(topic, output)
        await harness.publish(broker, topic, ("key", b"x"))
        member = harness.member(topic, outputs=True)
        consumer = await harness.join(broker, member)
        records = await harness.take(consumer, 1)
        good = OutRecord(output.name, "key", b"good")
        too_large = OutRecord(output.name, "key", bytes(range(250)) * 40_000)

        with pytest.raises(RecordTooLargeError):
            await consumer.commit(harness.points(*records), [good, too_large])
        reader, admin = await broker.reader(), await broker.admin()
        assert await harness.read_all(reader, output) == []
        assert sum((await admin.group_lag(member.group, [topic.name])).values()) == 1

        await consumer.commit(harness.points(*records), [good])
        assert [record.value for record in await harness.read_all(reader, output, at_least=1)] == [b"good"]

    async def test_a_missing_output_topic_holds_its_partition_only_until_it_is_there(
        self, harness: BrokerHarness
    ) -> None:
        topic, output = harness.topic(partitions=2), harness.topic("out", partitions=2)
        broker = await harness.open(topic)
        keys = {partition_for(key, 2): key for key in map(str, range(20))}
        await harness.publish(broker, topic, (keys[0], b"bad"), (keys[1], b"good"))
        member = harness.member(topic, outputs=True)
        consumer = await harness.join(broker, member)
        records = {record.partition: record for record in await harness.take(consumer, 2)}
        letters = [OutRecord(output.name, keys[0], b"letter")]

        with pytest.raises(TopicMismatchError, match=output.name):
            await consumer.commit(harness.points(records[0]), letters)
        await consumer.commit(harness.points(records[1]))
        admin = await broker.admin()
        lag = await admin.group_lag(member.group, [topic.name])
        assert {source.partition: behind for source, behind in lag.items()} == {0: 1, 1: 0}

        await admin.apply([output])
        deadline = time.monotonic() + TIMEOUT_S
        while True:
            # What a client knows of a cluster's topics is a few seconds old.
            try:
                await consumer.commit(harness.points(records[0]), letters)
                break
            except TransientError:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.2)
        reader = await broker.reader()
        assert [record.value for record in await harness.read_all(reader, output, at_least=1)] == [b"letter"]
        assert sum((await admin.group_lag(member.group, [topic.name])).values()) == 0

    async def test_commit_after_rebalance_raises_partition_lost_error_and_the_member_goes_on(
        self, harness: BrokerHarness
    ) -> None:
        topic, output = harness.topic(partitions=2), harness.topic("out", partitions=2)
        broker = await harness.open(topic, output)
        keys = {partition_for(key, 2): key for key in map(str, range(20))}
        await harness.publish(broker, topic, *((keys[number], b"%d" % number) for number in range(2)))
        member = harness.member(topic, outputs=True)
        first = await harness.join(broker, member)
        stale = await harness.take(first, 2)
        second = await harness.join(harness.declare(topic, output), member)
        fresh: list[tuple[Consumer, InRecord]] = []

        async def shared() -> None:
            await harness.settle(first, second, until=lambda: len(first.assignment()) == len(second.assignment()) == 1)

        await shared()
        (lost,) = (record for record in stale if record.source not in first.assignment())
        with pytest.raises(PartitionLostError):
            await first.commit(harness.points(lost), [OutRecord(output.name, lost.key or "", b"of the loser")])
        reader, admin = await broker.reader(), await broker.admin()
        assert await harness.read_all(reader, output) == []
        assert sum((await admin.group_lag(member.group, [topic.name])).values()) == 2

        # New records are published, and each member commits outputs for those of its own partition.
        await harness.publish(broker, topic, *((keys[number], b"again") for number in range(2)))
        for consumer in (first, second):
            (source,) = consumer.assignment()
            record = await harness.take(consumer, 1)
            fresh += [(consumer, one) for one in record]
            assert {one.source for one in record} == {source}
            await consumer.commit(
                {source: CommitPoint(2, record[-1].epoch)},
                [OutRecord(output.name, keys[source.partition], b"of the owner")],
            )
        assert [record.value for record in await harness.read_all(reader, output, at_least=2)] == [b"of the owner"] * 2
        assert set((await admin.group_lag(member.group, [topic.name])).values()) == {0}

    async def test_records_of_a_commit_that_fails_in_part_are_read_again(self, harness: BrokerHarness) -> None:
        """When one of many partitions is lost, the records of the others come once more."""
        topic = harness.topic(partitions=4)
        broker = await harness.open(topic)
        keys = {partition_for(key, 4): key for key in map(str, range(40))}
        await harness.publish(broker, topic, *((keys[number], b"%d" % number) for number in range(4)))
        member = harness.member(topic)
        first = await harness.join(broker, member)
        stale = await harness.take(first, 4)
        second = await harness.join(broker, member)
        seen = await harness.settle(
            first, second, until=lambda: len(first.assignment()) == len(second.assignment()) == 2
        )
        with pytest.raises(PartitionLostError):
            await first.commit(harness.points(*stale))

        while len({record.partition for record in seen}) < 4:
            seen += await harness.settle(first, second, until=lambda: True)
            for consumer in (first, second):
                seen += await consumer.poll(max_records=10, timeout_s=0.1)
        for consumer in (first, second):
            mine = [one for one in seen if consumer.assignment().get(one.source) == one.epoch]
            await consumer.commit(harness.points(*mine))
        await harness.until_done(broker, member.group, topic)
