"""One commit of a sink: partitions that are lost, losses to retention with pending records, and held partitions."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import cast

import pytest
from prometheus_client import REGISTRY

from infra.broker.port import CommitPoint, Consumer, InRecord, Loss, OutRecord, TopicPartition
from infra.consuming.batch_commit import BatchCommitter, RecordOutcome
from infra.errors import PartitionLostError, RecordError, RecordTooLargeError, RefusedError, TopicMismatchError
from infra.failure.retry import ConsumerContext
from infra.failure.settings import RetrySettings
from infra.process.health import Health
from schemas.cloudevents import decode
from schemas.errors import EventVersionError
from schemas.events import DeadLetter
from tests.factories import ManualClock

RETRY = RetrySettings(first_delay_s=1.0, max_delay_s=4.0)
TOPIC = "detections"
BAD = RecordError("bad")


class FakeConsumer:
    """Owns three partitions in epoch 1; commits unless a fault is set."""

    def __init__(self) -> None:
        self.owned = {TopicPartition(TOPIC, number): 1 for number in range(3)}
        self.reported: list[Loss] = []
        self.gone: set[int] = set()
        self.refuses: Exception | None = None
        self.largest = 10**9
        self.committed: dict[int, int] = {}
        self.letters: list[DeadLetter] = []
        self.tries = 0

    async def commit(self, points: Mapping[TopicPartition, CommitPoint], outputs: Sequence[OutRecord] = ()) -> None:
        self.tries += 1
        if any(source.partition in self.gone for source in points):
            raise PartitionLostError("lost")
        if outputs and self.refuses is not None:
            raise self.refuses
        if any(len(record.value or b"") > self.largest for record in outputs):
            raise RecordTooLargeError("too large")
        self.committed |= {source.partition: at.next_offset for source, at in points.items()}
        self.letters += [decode(record.headers, record.value, DeadLetter) for record in outputs]
        self.reported = [
            loss for loss in self.reported if loss.source not in points or points[loss.source].next_offset < loss.end
        ]

    def assignment(self) -> Mapping[TopicPartition, int]:
        return self.owned

    def losses(self) -> Sequence[Loss]:
        return self.reported


@pytest.fixture
def consumer() -> FakeConsumer:
    return FakeConsumer()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(100.0)


@pytest.fixture
def committer(consumer: FakeConsumer, clock: ManualClock) -> BatchCommitter:
    work = ConsumerContext(RETRY, asyncio.Event(), Health().part("sink.commit"), "sink.commit")
    work.health.set_ready()
    return BatchCommitter(cast(Consumer, consumer), work, "sinks.dead", clock)


def done(partition: int, offset: int, error: Exception | None = None) -> RecordOutcome:
    return RecordOutcome(InRecord(TOPIC, partition, offset, 0, "cam-1", b"x" * 500, (), epoch=1), error)


def loss(partition: int, first: int, end: int) -> Loss:
    return Loss(TopicPartition(TOPIC, partition), first, end, epoch=1)


async def test_a_lost_partition_leaves_the_others_committed(committer: BatchCommitter, consumer: FakeConsumer) -> None:
    consumer.gone = {1}
    await committer.commit([done(0, 4), done(1, 9), done(2, 7), done(0, 5)])
    assert consumer.committed == {0: 6, 2: 8}
    await committer.commit([done(0, 6, BAD), done(1, 9, BAD), done(2, 8)])
    assert consumer.committed == {0: 7, 2: 9}
    assert [letter.original.offset for letter in consumer.letters] == [6]


async def test_loss_without_pending_records_is_committed_at_once(
    committer: BatchCommitter, consumer: FakeConsumer
) -> None:
    consumer.reported = [loss(0, 3, 20), loss(1, 0, 5)]
    await committer.commit_losses([done(0, 20).record])
    assert consumer.committed == {0: 20, 1: 5}
    assert [(letter.reason, letter.lost.end) for letter in consumer.letters if letter.lost] == [
        ("RECORDS_LOST", 20),
        ("RECORDS_LOST", 5),
    ]
    labels = {"group": "sink.commit", "topic": TOPIC}
    assert REGISTRY.get_sample_value("standgale_records_lost_total", labels) == 22
    await committer.commit_losses([])
    assert len(consumer.letters) == 2


async def test_loss_after_pending_records_is_committed_with_them(
    committer: BatchCommitter, consumer: FakeConsumer
) -> None:
    consumer.reported = [loss(0, 13, 20)]
    outcomes = [done(0, 12), done(0, 20), done(1, 3)]
    await committer.commit_losses([outcome.record for outcome in outcomes])
    assert consumer.committed == {}
    await committer.commit(outcomes)
    assert consumer.committed == {0: 21, 1: 4}
    assert [letter.lost.first for letter in consumer.letters if letter.lost] == [13]


async def test_loss_after_newer_event_is_not_committed(committer: BatchCommitter, consumer: FakeConsumer) -> None:
    waiting = [done(0, 5).record, done(1, 5).record]
    for record in waiting:
        committer.hold_newer_event(record, EventVersionError("update this program"))
    consumer.reported = [loss(0, 6, 20), loss(1, 2, 5)]
    await committer.commit_losses([])
    assert consumer.committed == {1: 5}
    await committer.commit([done(0, 4), done(2, 1)])
    assert consumer.committed == {0: 5, 1: 5, 2: 2}
    assert committer.held_partitions == {0, 1}
    assert [committer.waits_for_update(record) for record in (*waiting, done(2, 2).record)] == [True, True, False]
    # Another ownership begins with the record that waits, and the loss is found again.
    consumer.owned[TopicPartition(TOPIC, 0)] = 2
    await committer.retry_held()
    assert committer.held_partitions == {1}
    assert "offset 5" in (committer.context.health.reason or "")


async def test_partition_held_for_loss_is_committed_with_later_dead_letters(
    committer: BatchCommitter, consumer: FakeConsumer, clock: ManualClock
) -> None:
    consumer.reported = [loss(0, 3, 20)]
    consumer.refuses = RefusedError("no right to write")
    outcomes = [done(0, 20), done(0, 21, BAD), done(0, 22)]
    await committer.commit_losses([outcome.record for outcome in outcomes])
    await committer.commit(outcomes)
    assert (consumer.committed, committer.held_partitions) == ({}, {0})
    consumer.refuses = None
    clock.now += 10
    await committer.retry_held()
    assert (consumer.committed, committer.held_partitions) == ({0: 23}, set())
    assert [letter.reason for letter in consumer.letters] == ["RECORDS_LOST", BAD.code]


@pytest.mark.parametrize("error", [TopicMismatchError("sinks.dead is missing"), RefusedError("no right to write")])
async def test_a_partition_whose_letters_are_refused_is_held_and_tried_with_pauses(
    committer: BatchCommitter, consumer: FakeConsumer, clock: ManualClock, error: Exception
) -> None:
    health = committer.context.health
    consumer.refuses = error
    await committer.commit([done(0, 1, BAD), done(1, 1)])
    assert (consumer.committed, committer.held_partitions) == ({1: 2}, {0})
    assert str(error) in (health.reason or "")
    tries = consumer.tries
    await committer.retry_held()
    assert consumer.tries == tries
    for _ in range(3):
        clock.now += 10
        await committer.retry_held()
    assert consumer.tries == tries + 3
    consumer.refuses = None
    clock.now += 10
    await committer.retry_held()
    assert (consumer.committed, committer.held_partitions, health.reason) == ({0: 2, 1: 2}, set(), None)
    assert len(consumer.letters) == 1


async def test_held_partition_that_is_lost_is_dropped(committer: BatchCommitter, consumer: FakeConsumer) -> None:
    consumer.refuses = RefusedError("no right")
    await committer.commit([done(0, 1, BAD)])
    consumer.owned[TopicPartition(TOPIC, 0)] = 2
    await committer.retry_held()
    assert (committer.held_partitions, committer.context.health.reason, consumer.committed) == (set(), None, {})


async def test_a_letter_that_is_too_large_even_without_its_original_holds_the_partition(
    committer: BatchCommitter, consumer: FakeConsumer
) -> None:
    consumer.largest = 10
    await committer.commit([done(0, 1, BAD), done(0, 2, BAD)])
    assert committer.held_partitions == {0}
    assert "too large" in (committer.context.health.reason or "")
