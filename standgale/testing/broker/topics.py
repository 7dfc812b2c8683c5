"""Tests that topics are brought in line with their declarations, and that lag and groups are correct."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from infra.broker.port import TopicPartition
from infra.errors import GroupError, TopicMismatchError

if TYPE_CHECKING:
    from standgale.testing.broker.harness import BrokerHarness


class TopicContract:
    """Topics are brought in line with their declarations, and a group's lag is correct."""

    async def test_apply_creates_what_check_misses(self, harness: BrokerHarness) -> None:
        present, absent = harness.topic(), harness.topic("absent", cleanup="compact")
        broker = await harness.open(present)
        admin = await broker.admin()

        assert await admin.check([present]) == []
        missed = await admin.check([present, absent])
        assert [(found.topic, found.fixable) for found in missed] == [(absent.name, True)]
        assert [found.topic for found in await admin.apply([present, absent])] == [absent.name]
        assert await admin.check([present, absent]) == []
        assert await admin.apply([present, absent]) == []
        reader = await broker.reader()
        assert set(await reader.bounds(absent.name)) == set(range(absent.partitions))

    async def test_apply_corrects_settings_and_loses_nothing(self, harness: BrokerHarness) -> None:
        topic = harness.topic(partitions=1)
        broker = await harness.open(topic)
        await harness.publish(broker, topic, ("key", b"kept"))
        changed = topic.model_copy(update={"retention_s": 7200, "max_message_bytes": 5_000})
        admin = await broker.admin()

        found = await admin.check([changed])
        assert [(one.topic, one.fixable) for one in found] == [(topic.name, True)] * 2
        assert {(one.declared, one.found) for one in found} >= {("5000", "1048576")}
        assert await admin.apply([changed]) == found
        assert await admin.check([changed]) == []
        assert [record.value for record in await harness.read_all(await broker.reader(), topic)] == [b"kept"]

    async def test_partition_count_mismatch_raises_topic_mismatch_error(self, harness: BrokerHarness) -> None:
        topic = harness.topic(partitions=2)
        broker = await harness.open(topic)
        admin = await broker.admin()
        changed = topic.model_copy(update={"partitions": 4})

        assert [(one.what, one.declared, one.found, one.fixable) for one in await admin.check([changed])] == [
            ("partitions", "4", "2", False)
        ]
        with pytest.raises(TopicMismatchError, match=topic.name):
            await admin.apply([changed])
        assert await admin.check([topic]) == []
        await admin.close()
        await admin.close()

    async def test_lag_counts_what_is_not_committed(self, harness: BrokerHarness) -> None:
        topic = harness.topic(partitions=1)
        broker = await harness.open(topic)
        await harness.publish(broker, topic, *(("key", b"%d" % number) for number in range(10)))
        member = harness.member(topic)
        admin = await broker.admin()
        source = TopicPartition(topic.name, 0)
        assert dict(await admin.group_lag(member.group, [topic.name])) == {source: 10}

        consumer = await harness.join(broker, member)
        records = await harness.take(consumer, 10)
        assert dict(await consumer.lag()) == {source: 10}
        await consumer.commit(harness.points(records[6]))
        assert dict(await consumer.lag()) == {source: 3}
        assert dict(await admin.group_lag(member.group, [topic.name])) == {source: 3}

    async def test_when_anything_is_refused_nothing_is_changed(self, harness: BrokerHarness) -> None:
        topic, other, absent = (
            harness.topic(partitions=2),
            harness.topic("other", retention_s=3600),
            harness.topic("absent"),
        )
        broker = await harness.open(topic, other)
        admin = await broker.admin()
        refused = topic.model_copy(update={"partitions": 3, "max_message_bytes": 5_000})
        altered = other.model_copy(update={"retention_s": 7200})

        with pytest.raises(TopicMismatchError, match="nothing was changed"):
            await admin.apply([absent, altered, refused])
        assert await admin.check([topic, other]) == []
        assert [found.what for found in await admin.check([absent])] == ["topic"]

    async def test_groups_have_members_lag_and_the_oldest_unread_record(self, harness: BrokerHarness) -> None:
        topic, other = harness.topic(partitions=2), harness.topic("other", partitions=1)
        broker = await harness.open(topic, other)
        await harness.publish(broker, topic, *(("key", b"%d" % number) for number in range(10)))
        admin = await broker.admin()
        member = harness.member(topic)
        before_ms = time.time_ns() // 1_000_000
        consumer = await harness.join(broker, member)
        records = await harness.take(consumer, 10)
        await consumer.commit(harness.points(records[3]))

        (group,) = [one for one in await admin.groups() if one.name == member.group]
        assert (group.members, group.topics, group.lag) == (1, (topic.name,), 6)
        assert group.oldest_unread_ms == records[4].timestamp_ms
        assert group.seen_ms is not None
        assert group.seen_ms >= before_ms - 1_000
        with pytest.raises(GroupError, match="has members"):
            await admin.forget_group(member.group)

        await consumer.commit(harness.points(records[9]))
        (group,) = [one for one in await admin.groups() if one.name == member.group]
        assert (group.lag, group.oldest_unread_ms) == (0, None)
        await consumer.close()
        await admin.forget_group(member.group)
        assert member.group not in [one.name for one in await admin.groups()]
        with pytest.raises(GroupError, match="no group"):
            await admin.forget_group(member.group)
        # It begins at the start, as any new group.
        again = await harness.join(broker, member)
        assert [record.value for record in await harness.take(again, 10)] == [record.value for record in records]
