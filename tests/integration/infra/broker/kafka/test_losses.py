"""Tests that records that retention deletes before a group has read them are reported, and the group continues."""

from __future__ import annotations

import time

import pytest
from aiokafka import TopicPartition as KafkaPartition
from aiokafka.admin import RecordsToDelete

from infra.broker.port import CommitPoint, Consumer, InRecord, TopicPartition
from tests.harnesses.topic_pair import TIMEOUT_S, TopicPair

pytestmark = pytest.mark.integration


async def delete_before(pair: TopicPair, offset: int) -> None:
    """Delete the records before ``offset``, as retention does."""
    async with pair.admin() as admin:
        await admin.delete_records({KafkaPartition(*pair.source): RecordsToDelete(offset)})


async def publish(pair: TopicPair, first: int, end: int) -> None:
    await pair.publish(*(b"%d" % number for number in range(first, end)))


async def until_lost(consumer: Consumer) -> list[InRecord]:
    """Poll until a loss is reported; return the records."""
    records: list[InRecord] = []
    deadline = time.monotonic() + TIMEOUT_S
    while not consumer.losses():
        assert time.monotonic() < deadline
        records += await consumer.poll(max_records=100, timeout_s=0.2)
    return records


def lost(consumer: Consumer) -> list[tuple[TopicPartition, int, int]]:
    return [(loss.source, loss.first, loss.end) for loss in consumer.losses()]


@pytest.mark.parametrize("outputs", [True, False], ids=["transactions", "plain"])
async def test_loss_while_a_group_was_stopped_is_reported_until_committed(pair: TopicPair, *, outputs: bool) -> None:
    await publish(pair, 0, 10)
    first = await pair.broker.consumer(pair.member(outputs=outputs))
    records = await pair.poll_records(first, 3)
    await first.commit(pair.points(records))
    assert first.losses() == ()
    await first.close()
    await delete_before(pair, 7)

    second = await pair.broker.consumer(pair.member(outputs=outputs))
    records = await pair.poll_records(second, 3)
    assert [record.offset for record in records] == [7, 8, 9]
    assert lost(second) == [(pair.source, 3, 7)]
    (loss,) = second.losses()
    assert loss.epoch == records[0].epoch
    # Nothing between the loss and the polled records is committed silently.
    assert await second.poll(max_records=1, timeout_s=0.3) == []
    assert lost(second) == [(pair.source, 3, 7)]
    await second.commit({loss.source: CommitPoint(loss.end, loss.epoch)})
    assert second.losses() == ()
    await second.commit(pair.points(records))
    await second.close()
    third = await pair.broker.consumer(pair.member(outputs=outputs))
    await publish(pair, 10, 11)
    assert [record.offset for record in await pair.poll_records(third, 1)] == [10]
    assert third.losses() == ()
    await third.close()


async def test_uncommitted_loss_is_reported_to_the_next_owner(pair: TopicPair) -> None:
    await publish(pair, 0, 5)
    first = await pair.broker.consumer(pair.member())
    await first.commit(pair.points((await pair.poll_records(first, 5))[:1]))
    await first.close()
    await delete_before(pair, 4)
    for _ in range(2):
        consumer = await pair.broker.consumer(pair.member())
        assert [record.offset for record in await pair.poll_records(consumer, 1)] == [4]
        assert lost(consumer) == [(pair.source, 1, 4)]
        await consumer.close()


async def test_loss_while_a_group_runs_is_reported_and_pending_records_are_kept(pair: TopicPair) -> None:
    consumer = await pair.broker.consumer(pair.member())
    await publish(pair, 0, 2)
    pending = await pair.poll_records(consumer, 2)
    # Read nothing during this time: the next records are deleted before aiokafka can fetch them.
    async with pair.admin() as admin:
        consumer._membership.member().pause(KafkaPartition(*pair.source))
        await publish(pair, 2, 50)
        await admin.delete_records({KafkaPartition(*pair.source): RecordsToDelete(40)})
        consumer._membership.member().resume(KafkaPartition(*pair.source))
    records = await until_lost(consumer)
    while len(records) < 10 or records[-1].offset < 49:
        records += await pair.poll_records(consumer, 1)
    (loss,) = consumer.losses()
    assert loss.end == 40
    read = [record.offset for record in records]
    assert sorted([*read, *range(loss.first, loss.end)]) == list(range(2, 50))
    assert {record.epoch for record in records} == {pending[0].epoch} == {loss.epoch}
    await consumer.commit(pair.points(pending), pair.copies(pending))
    assert lost(consumer) == [(pair.source, loss.first, 40)]
    await consumer.commit(pair.points(records), pair.copies(records))
    assert consumer.losses() == ()
    await consumer.close()


async def test_group_that_never_committed_has_no_losses(pair: TopicPair) -> None:
    await publish(pair, 0, 5)
    await delete_before(pair, 3)
    consumer = await pair.broker.consumer(pair.member())
    assert [record.offset for record in await pair.poll_records(consumer, 2)] == [3, 4]
    assert consumer.losses() == ()
    await consumer.close()
