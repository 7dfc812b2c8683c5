"""Tests that members of a group share the partitions, and that these move when members come, go and die."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from infra.broker.partitioning import partition_for
from infra.broker.port import Consumer, InRecord, TopicPartition

if TYPE_CHECKING:
    from standgale.testing.broker.harness import BrokerHarness


def numbers(consumer: Consumer) -> list[int]:
    """The partition numbers a member owns."""
    return sorted({source.partition for source in consumer.assignment()})


class GroupContract:
    """Members share the partitions, and partitions move when members come, go and die."""

    async def test_one_member_gets_all_and_a_second_poll_gets_no_record_twice(self, harness: BrokerHarness) -> None:
        topic = harness.topic()
        broker = await harness.open(topic)
        await harness.publish(broker, topic, *((f"key-{number % 8}", b"%d" % number) for number in range(200)))
        consumer = await harness.join(broker, harness.member(topic))
        records = await harness.take(consumer, 200)

        assert sorted(int(record.value or b"") for record in records) == list(range(200))
        assert await consumer.poll(max_records=10, timeout_s=0.1) == []
        for partition in range(4):
            offsets = [record.offset for record in records if record.partition == partition]
            assert offsets == list(range(len(offsets)))
        assert {(record.source, record.epoch) for record in records} <= set(consumer.assignment().items())

    async def test_a_waiting_poll_wakes_up(self, harness: BrokerHarness) -> None:
        topic = harness.topic()
        broker = await harness.open(topic)
        consumer = await harness.join(broker, harness.member(topic))
        await harness.settle(consumer, until=lambda: numbers(consumer) == [0, 1, 2, 3])
        waiting = asyncio.create_task(consumer.poll(max_records=10, timeout_s=20))
        await asyncio.sleep(0.1)
        await harness.publish(harness.declare(topic), topic, ("key", b"from another process"))
        assert [record.value for record in await waiting] == [b"from another process"]

    async def test_members_share_co_partitioned_topics_by_range(self, harness: BrokerHarness) -> None:
        live, jobs = harness.topic("live", partitions=5), harness.topic("jobs", partitions=5)
        broker = await harness.open(live, jobs)
        member = harness.member(live, jobs)
        first = await harness.join(broker, member)
        await harness.settle(first, until=lambda: len(first.assignment()) == 10)

        second = await harness.join(harness.declare(live, jobs), member)
        await harness.settle(first, second, until=lambda: {len(first.assignment()), len(second.assignment())} == {4, 6})
        assert sorted([numbers(first), numbers(second)]) == [[0, 1, 2], [3, 4]]
        for consumer in (first, second):
            owned = {(topic.name, number) for topic in (live, jobs) for number in numbers(consumer)}
            assert set(consumer.assignment()) == {TopicPartition(*source) for source in owned}

        await first.close()
        await first.close()
        await harness.settle(second, until=lambda: len(second.assignment()) == 10)

    async def test_a_new_owner_starts_at_the_committed_offset(self, harness: BrokerHarness) -> None:
        topic = harness.topic(partitions=1)
        broker = await harness.open(topic)
        await harness.publish(broker, topic, *(("key", b"%d" % number) for number in range(10)))
        first = await harness.join(broker, harness.member(topic))
        records = await harness.take(first, 8)
        await first.commit(harness.points(records[4]))
        await first.close()

        second = await harness.join(broker, harness.member(topic))
        again = await harness.take(second, 5)
        assert [record.offset for record in again] == [5, 6, 7, 8, 9]

    async def test_a_group_starts_at_the_start_of_its_spec(self, harness: BrokerHarness) -> None:
        topic = harness.topic(partitions=1)
        broker = await harness.open(topic)
        await harness.publish(broker, topic, ("key", b"old"))
        late = await harness.join(broker, harness.member(topic, start="latest"))
        early = await harness.join(broker, harness.member(topic, group=f"{topic.name}-early"))
        await harness.settle(late, until=lambda: numbers(late) == [0])
        assert await late.poll(max_records=10, timeout_s=0.3) == []
        await harness.publish(broker, topic, ("key", b"new"))

        assert [record.value for record in await harness.take(early, 2)] == [b"old", b"new"]
        assert [record.value for record in await harness.take(late, 1)] == [b"new"]

    async def test_a_poll_can_be_narrowed_to_some_topics(self, harness: BrokerHarness) -> None:
        live, jobs = harness.topic("live"), harness.topic("jobs")
        broker = await harness.open(live, jobs)
        for topic in (jobs, live):
            await harness.publish(broker, topic, *((f"key-{number}", b"x") for number in range(20)))
        consumer = await harness.join(broker, harness.member(live, jobs))

        urgent = await harness.take(consumer, 20, topics=[live.name])
        assert {record.topic for record in urgent} == {live.name}
        assert await consumer.poll(max_records=10, timeout_s=0.2, topics=[live.name]) == []
        rest = await harness.take(consumer, 20)
        assert {record.topic for record in rest} == {jobs.name}
        assert len({(record.source, record.offset) for record in rest}) == 20

    async def test_a_poll_can_leave_out_partitions_which_keep_their_place(self, harness: BrokerHarness) -> None:
        topic = harness.topic()
        broker = await harness.open(topic)
        await harness.publish(broker, topic, *((f"key-{number}", b"x") for number in range(20)))
        consumer = await harness.join(broker, harness.member(topic))
        (first,) = await harness.take(consumer, 1)

        records: list[InRecord] = []
        others = 20 - sum(partition_for(f"key-{n}", 4) == first.partition for n in range(20))
        while len(records) < others:
            records += await consumer.poll(max_records=10, timeout_s=0.2, without=[first.partition])
        assert await consumer.poll(max_records=10, timeout_s=0.2, without=[first.partition]) == []
        assert first.partition not in {record.partition for record in records}
        rest = await harness.take(consumer, 19 - others)
        assert [record.offset for record in rest] == list(range(1, 20 - others))

    async def test_partitions_of_a_member_that_dies_go_to_the_others(self, harness: BrokerHarness) -> None:
        topic, output = harness.topic(), harness.topic("out")
        broker = await harness.open(topic, output)
        keys = {partition_for(key, 4): key for key in map(str, range(40))}
        await harness.publish(broker, topic, *((keys[number], b"x") for number in range(4)))
        doomed = harness.spawn("hold", (topic, output), session_timeout_s=1.5)
        assert doomed.stdout is not None
        assert await asyncio.to_thread(doomed.stdout.readline) == "polled\n"
        survivor = await harness.join(broker, harness.member(topic, session_timeout_s=1.5))
        seen = await harness.settle(survivor, until=lambda: len(numbers(survivor)) == 2)

        doomed.kill()
        seen += await harness.settle(survivor, until=lambda: numbers(survivor) == [0, 1, 2, 3])
        latest = survivor.assignment()
        while len({record.partition for record in seen if record.epoch == latest[record.source]}) < 4:
            seen += await harness.take(survivor, 1)
            latest = survivor.assignment()
