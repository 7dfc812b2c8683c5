"""Finds the offsets where a member starts to read its partitions, and what retention has deleted before them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer

from infra.broker.kafka.connection.error_translation import CLIENT_ERRORS
from infra.broker.kafka.connection.link import Link
from infra.broker.kafka.group.topic_watch import TopicWatch
from infra.broker.kafka.group.transactions import PartitionTransactions
from infra.broker.kafka.queries.cluster_queries import ClusterQueries
from infra.broker.kafka.queries.committed import offset_in, to_commit
from infra.broker.port import GroupSpec, TopicPartition

_SECOND_LOOK_S = 1.0
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StartPoint:
    """Says where to start to read a partition."""

    offset: int
    lost_from: int | None = None
    """The committed offset, when the log no longer has it."""


class StartPointFinder:
    """Finds the start of one member's partitions, because aiokafka, which could, does not report gaps."""

    def __init__(self, link: Link, queries: ClusterQueries, spec: GroupSpec, topics: TopicWatch) -> None:
        self._link = link
        self._queries = queries
        self._spec = spec
        self._topics = topics

    async def find(
        self,
        member: AIOKafkaConsumer,
        transactions: PartitionTransactions | None,
        sources: Collection[TopicPartition],
    ) -> Mapping[TopicPartition, StartPoint]:
        """Return where to start reading ``sources``. ``transactions`` of a group with outputs are not opened yet.

        Raises BrokerUnavailableError or RefusedError, and may be called again with new ``transactions``.
        """
        committed = await self._committed(transactions, sources)
        bounds = await self._queries.bounds(sources)
        if any(at is not None and at > bounds[source][1] for source, at in committed.items()):
            # A node that has just become the leader may need a moment to know where its log ends.
            await asyncio.sleep(_SECOND_LOOK_S)
            bounds = await self._queries.bounds(sources)
        fresh = {source: end for source, (_, end) in bounds.items() if committed[source] is None}
        if fresh and self._spec.start == "latest":
            # Committed at once, so that the next owner does not skip records that arrive before the first commit.
            await self._commit_start(member, transactions, fresh)
            committed = {**committed, **fresh}
        return {source: _start_point(source, committed[source], *bounds[source]) for source in sources}

    async def _committed(
        self, transactions: PartitionTransactions | None, sources: Collection[TopicPartition]
    ) -> Mapping[TopicPartition, int | None]:
        if transactions is not None:
            return await transactions.open()
        found = await self._queries.committed(self._spec.group, sources, stable=True)
        return {source: offset_in(at, self._topics.ids.get(source.topic)) for source, at in found.items()}

    async def _commit_start(
        self,
        member: AIOKafkaConsumer,
        transactions: PartitionTransactions | None,
        ends: Mapping[TopicPartition, int],
    ) -> None:
        if transactions is not None:
            await transactions.commit(ends, ())
            return
        try:
            async with asyncio.timeout(self._link.timeout_s):
                await member.commit(to_commit(ends, self._topics.ids))
        except CLIENT_ERRORS as error:
            raise await self._link.explain(error, "committing the start of a new group") from error


def _start_point(source: TopicPartition, committed: int | None, first: int, end: int) -> StartPoint:
    """Return where to start in a log from ``first`` to ``end``."""
    if committed is None:
        return StartPoint(first)
    if committed > end:
        # The log lost its end, or a new topic has this name: its records may never have been read.
        logger.warning(
            "%s/%d ends at offset %d, before the committed %d: reading starts at its first record",
            *source,
            end,
            committed,
        )
        return StartPoint(first)
    return StartPoint(first, lost_from=committed) if committed < first else StartPoint(committed)
