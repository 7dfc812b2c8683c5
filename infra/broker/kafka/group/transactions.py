"""Commits for one owned partition number in transactions: fences former owners, and never commits twice.

Kafka fences by transactional id, not by group membership (aiokafka's TxnOffsetCommit names no generation). So this
module keeps two rules:

1. A producer is started first, and the group's offsets are read after that. Starting it ends any open transaction of a
   former owner, and from then on only this producer can move the offsets. They are read while this producer has a
   transaction open that would change them, which it aborts afterwards: a coordinator that does not know the transaction
   is outdated (another node has taken the group over), and could return offsets from before the last commit.
2. When it is not known whether a transaction happened (its response was lost), a new producer is started, which makes
   Kafka finish the old transaction, and the group's offsets are read again. Each transaction writes a unique mark with
   its offsets, so the mark that is found shows whether this transaction happened. So a caller's retry never commits
   twice.
"""

from __future__ import annotations

import asyncio
import itertools
import uuid
from collections.abc import Collection, Mapping, Sequence

from aiokafka import AIOKafkaProducer
from aiokafka import TopicPartition as KafkaPartition
from aiokafka.errors import IllegalOperation
from aiokafka.structs import OffsetAndMetadata

from infra.broker.kafka.connection.error_translation import CLIENT_ERRORS, is_final
from infra.broker.kafka.connection.link import Link
from infra.broker.kafka.queries.cluster_queries import ClusterQueries
from infra.broker.kafka.queries.committed import Committed, offset_in, to_commit
from infra.broker.kafka.records import add_to_batches, count_partitions
from infra.broker.port import OutRecord, TopicPartition
from infra.errors import PartitionLostError

# The broker ends a transaction that its producer leaves open this long after the request time-out.
_SPARE_S = 10.0
# An ended producer raises AssertionError or IllegalOperation at the next call.
_UNUSABLE = (IllegalOperation, AssertionError)


class PartitionTransactions:
    """Commits for the partitions of one number, of all topics of one topic set."""

    def __init__(
        self,
        link: Link,
        queries: ClusterQueries,
        group: str,
        number: int,
        sources: Collection[TopicPartition],
        topic_ids: Mapping[str, str],
    ) -> None:
        self._link = link
        self._queries = queries
        self._group = group
        self._sources = frozenset(sources)
        self._topic_ids = topic_ids
        self._id = f"{group}-p{number}"
        self._what = f"the producer of transactional id {self._id}"
        self._marks = (f"{uuid.uuid4().hex}-{count}" for count in itertools.count())
        self._producer: AIOKafkaProducer | None = None
        self._base: dict[TopicPartition, OffsetAndMetadata | None] = {}
        self._doubt: dict[TopicPartition, OffsetAndMetadata] | None = None
        self._lock = asyncio.Lock()
        self._closed = False

    async def open(self) -> Mapping[TopicPartition, int | None]:
        """Fence former owners and return the group's committed offsets (None: never). Raises BrokerUnavailableError."""
        async with self._lock:
            self._base = dict(await self._start())
            return self._offsets_in(self._base)

    async def commit(self, offsets: Mapping[TopicPartition, int], outputs: Sequence[OutRecord]) -> None:
        """Make ``outputs`` visible and ``offsets`` committed, or neither; see the port for the errors."""
        async with self._lock:
            self._check_open()
            if self._producer is None and await self._resolve_doubt(offsets):
                return
            if not outputs and self._has_committed(offsets):
                return
            try:
                await self._transact(offsets, outputs)
            except (*CLIENT_ERRORS, *_UNUSABLE) as error:
                if isinstance(error, _UNUSABLE) or is_final(error):
                    raise self._lost(f"its producer was fenced or failed ({error!r})") from error
                if self._doubt is None or not await self._resolve_doubt(offsets):
                    translated = await self._link.explain(error, f"committing with {self._what}", "WRITE")
                    raise self._link.size_error(translated, outputs) from error

    async def close(self, timeout_s: float = 0.0) -> None:
        """Stop the producer after the current commit, or after ``timeout_s``; an open transaction is aborted."""
        self._closed = True
        try:
            async with asyncio.timeout(timeout_s), self._lock:
                pass
        except TimeoutError:
            # The current commit continues without its producer, and fails; the next owner reads the result.
            pass
        self._drop_producer()

    async def _start(self) -> Committed:
        """Start a new producer, which ends all earlier transactions of this id, and return the offsets after that."""
        self._drop_producer()
        self._check_open()
        producer = AIOKafkaProducer(
            **self._link.producer_options(),
            transactional_id=self._id,
            transaction_timeout_ms=int(1000 * (self._link.timeout_s + _SPARE_S)),
        )
        try:
            async with asyncio.timeout(self._link.timeout_s):
                await producer.start()
            found = await self._read_committed(producer)
            self._check_open()
        except BaseException as error:
            self._link.client_shutdown.discard(producer)
            if isinstance(error, (*CLIENT_ERRORS, *_UNUSABLE)):
                raise await self._link.explain(_cause(producer, error), f"starting {self._what}") from error
            raise
        self._producer = producer
        return found

    async def _read_committed(self, producer: AIOKafkaProducer) -> Committed:
        """Return the group's offsets from a coordinator that knows a transaction opened for this query."""
        never = {KafkaPartition(*source): OffsetAndMetadata(0, "aborted") for source in self._sources}
        async with asyncio.timeout(self._link.timeout_s):
            await producer.begin_transaction()
            await producer.send_offsets_to_transaction(never, self._group)
        found = await self._queries.committed_with_pending(self._group, self._sources)
        async with asyncio.timeout(self._link.timeout_s):
            await producer.abort_transaction()
        return found

    async def _resolve_doubt(self, offsets: Mapping[TopicPartition, int]) -> bool:
        """Start a new producer after a failure; return whether the doubtful transaction happened and was this commit.

        Raises PartitionLostError when the offsets are not those that this owner committed, and BrokerUnavailableError,
        with the doubt kept for the next attempt, when Kafka gives no information.
        """
        found = await self._start()
        doubt, self._doubt = self._doubt, None
        if doubt is not None and found == {**self._base, **doubt}:
            self._base = dict(found)
            if {source: at.offset for source, at in doubt.items()} == offsets:
                return True
            raise self._lost("an earlier commit, whose response was lost, did happen, and this one is not the same")
        if found != self._base:
            raise self._lost("another owner has committed in the meantime")
        return False

    async def _transact(self, offsets: Mapping[TopicPartition, int], outputs: Sequence[OutRecord]) -> None:
        """Do one transaction; a failure drops the producer, and sets ``_doubt`` if the commit may have happened."""
        producer = self._producer
        if producer is None:
            raise self._lost("it has no producer")
        moved = to_commit(offsets, self._topic_ids, next(self._marks))
        target = {TopicPartition(*source): at for source, at in moved.items()}
        try:
            async with asyncio.timeout(self._link.timeout_s):
                counts = await count_partitions(producer, outputs, self._link, self._queries)
                await producer.begin_transaction()
                delivered = await add_to_batches(producer, outputs, counts)
                # aiokafka would commit even when a record failed, so the result of each record is awaited first.
                await asyncio.gather(producer.send_offsets_to_transaction(moved, self._group), delivered)
                self._doubt = target
                await producer.commit_transaction()
        except BaseException as error:
            self._drop_producer()
            cause = _cause(producer, error)
            if cause is not error:
                raise cause from error
            raise
        self._doubt = None
        self._base.update(target)

    def _has_committed(self, offsets: Mapping[TopicPartition, int]) -> bool:
        """Return whether this commit was done before: the caller repeats a commit of which only another part failed."""
        return self._offsets_in({source: self._base.get(source) for source in offsets}) == offsets

    def _offsets_in(self, committed: Committed) -> Mapping[TopicPartition, int | None]:
        return {source: offset_in(at, self._topic_ids.get(source.topic)) for source, at in committed.items()}

    def _check_open(self) -> None:
        # A new producer of a former owner would fence the present one.
        if self._closed:
            raise self._lost("the partition was released")

    def _drop_producer(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            self._link.client_shutdown.discard(producer)

    def _lost(self, why: str) -> PartitionLostError:
        return PartitionLostError(
            f"commit refused for {self._id}: {why}; nothing more was committed, drop this work and continue to poll, "
            "its records are polled again from the committed offset"
        )


def _cause(producer: AIOKafkaProducer, error: BaseException) -> BaseException:
    """Return what made ``producer`` unusable, when ``error`` only says that it is."""
    if not isinstance(error, (*_UNUSABLE, TimeoutError)) or producer._txn_manager is None:
        return error
    ended = producer._txn_manager.wait_for_transaction_end()
    failure = ended.exception() if ended is not None and ended.done() and not ended.cancelled() else None
    return failure or error
