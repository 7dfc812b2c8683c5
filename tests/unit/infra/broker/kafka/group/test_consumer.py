"""Tests commits of several partitions during a rebalance, repeated commits, and a group's first commit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("aiokafka")

from aiokafka.structs import OffsetAndMetadata

from infra.broker.kafka.connection.link import Link
from infra.broker.kafka.group.consumer import KafkaConsumer
from infra.broker.kafka.group.losses import Losses
from infra.broker.kafka.group.start_points import StartPoint, StartPointFinder
from infra.broker.kafka.group.transactions import PartitionTransactions
from infra.broker.kafka.queries.cluster_queries import ClusterQueries
from infra.broker.port import CommitPoint, GroupSpec, OutRecord, TopicPartition
from infra.broker.settings import BrokerSettings
from infra.errors import PartitionLostError

FIRST, SECOND = TopicPartition("in", 3), TopicPartition("in", 5)


class Members:
    """Owns two partitions until the first of them has committed."""

    def __init__(self) -> None:
        self.owned = {FIRST: 1, SECOND: 1}
        self.losses = Losses()
        self.topics = SimpleNamespace(ids={})
        self.committed: dict[TopicPartition, int] = {}
        self.transactions: dict[int, Any] = {3: self, 5: self}
        self.lost = False

    async def commit(self, offsets: Mapping[TopicPartition, int], outputs: Sequence[OutRecord]) -> None:
        self.committed.update(offsets)
        self.transactions.clear()
        self.owned.clear()

    def mark_lost(self, *, rejoin: bool) -> None:
        self.lost = True


async def test_revocation_between_two_partitions_of_a_commit_loses_the_second() -> None:
    consumer = KafkaConsumer(Link(BrokerSettings(kind="kafka"), {}), GroupSpec("group", ("in",), outputs=True))
    members = Members()
    consumer._membership = members
    with pytest.raises(PartitionLostError, match="in/5 got a new owner") as caught:
        await consumer.commit({FIRST: CommitPoint(10, 1), SECOND: CommitPoint(20, 1)})
    assert "in/3" not in str(caught.value)
    assert members.committed == {FIRST: 10}
    # A caller that then commits the partitions one by one owns none of them, and nothing is committed twice.
    for source in (FIRST, SECOND):
        with pytest.raises(PartitionLostError):
            await consumer.commit({source: CommitPoint(10, 1)})
    assert members.committed == {FIRST: 10}


async def test_repeated_commit_is_not_done_twice() -> None:
    link = Link(BrokerSettings(kind="kafka"), {})
    transactions = PartitionTransactions(link, ClusterQueries(link), "group", 3, [FIRST], {"in": "id"})
    transactions._base = {FIRST: OffsetAndMetadata(10, "mark@id")}

    async def unused() -> None:
        raise AssertionError("Kafka was asked")

    transactions._producer = SimpleNamespace(begin_transaction=unused)
    await transactions.commit({FIRST: 10}, ())
    assert not transactions._has_committed({FIRST: 11})
    transactions._base = {FIRST: OffsetAndMetadata(10, "mark@another")}
    assert not transactions._has_committed({FIRST: 10})


async def test_first_commit_of_a_latest_group_names_the_topic_id() -> None:
    committed: dict[TopicPartition, OffsetAndMetadata] = {}

    async def never(group: str, sources: Sequence[TopicPartition], *, stable: bool) -> Mapping[TopicPartition, None]:
        return dict.fromkeys(sources)

    async def bounds(sources: Sequence[TopicPartition]) -> Mapping[TopicPartition, tuple[int, int]]:
        return dict.fromkeys(sources, (0, 7))

    async def commit(offsets: Mapping[TopicPartition, OffsetAndMetadata]) -> None:
        committed.update(offsets)

    link = Link(BrokerSettings(kind="kafka"), {})
    spec = GroupSpec("group", ("in",), start="latest")
    offsets = SimpleNamespace(committed=never, bounds=bounds)
    starting = StartPointFinder(link, offsets, spec, SimpleNamespace(ids={"in": "id"}))
    assert await starting.find(SimpleNamespace(commit=commit), None, [FIRST]) == {FIRST: StartPoint(7)}
    assert committed == {FIRST: OffsetAndMetadata(7, "@id")}
