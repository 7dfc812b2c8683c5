"""Polls the partitions that a Kafka group member owns, and commits plainly or in transactions."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Mapping, Sequence

from aiokafka import TopicPartition as KafkaPartition
from aiokafka.errors import (
    CommitFailedError,
    IllegalStateError,
    KafkaError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
    TopicAuthorizationFailedError,
)
from aiokafka.structs import ConsumerRecord

from infra.broker.kafka.connection.error_translation import CLIENT_ERRORS
from infra.broker.kafka.connection.link import Link
from infra.broker.kafka.group.membership import KafkaMembership
from infra.broker.kafka.queries.cluster_queries import ClusterQueries, group_lag
from infra.broker.kafka.queries.committed import to_commit
from infra.broker.kafka.records import to_record
from infra.broker.port import CommitPoint, GroupSpec, InRecord, Loss, OutRecord, TopicPartition
from infra.errors import BrokerUnavailableError, PartitionLostError
from infra.waiting import wait_until_set

logger = logging.getLogger(__name__)

Batches = Mapping[KafkaPartition, Sequence[ConsumerRecord]]


class KafkaConsumer:
    """Implements :class:`infra.broker.port.Consumer`; call :meth:`join` first."""

    def __init__(self, link: Link, spec: GroupSpec) -> None:
        self._link = link
        self._spec = spec
        self._queries = ClusterQueries(link)
        self._membership = KafkaMembership(link, spec, self._queries)
        # Per partition the offset after the last polled record, and the position of aiokafka's consumer then. Between
        # them are markers that end transactions, which would always count as lag if commits stopped before them.
        self._after: dict[TopicPartition, tuple[int, int]] = {}
        self._committed: dict[TopicPartition, int] = {}
        self._closed = False

    async def join(self) -> None:
        """Start joining the group. Raises TopicMismatchError when a topic does not exist."""
        await self._membership.join()

    async def poll(
        self,
        *,
        max_records: int,
        timeout_s: float,
        topics: Collection[str] | None = None,
        without: Collection[int] = (),
    ) -> list[InRecord]:
        """See the port."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + timeout_s
        wait_s = 0.0
        while True:
            if self._closed:
                raise BrokerUnavailableError(f"this consumer of group {self._spec.group} is closed; open another")
            self._membership.check()
            self._membership.changed.clear()
            records = await self._take(max_records, topics, without, wait_s)
            if not records:
                await self._commit_markers()
            left_s = deadline - clock()
            if records or (left_s <= 0 and self._membership.error is None):
                return records
            if left_s <= 0 and self._membership.error is not None:
                raise self._membership.error
            wait_s = left_s

    async def commit(self, points: Mapping[TopicPartition, CommitPoint], outputs: Sequence[OutRecord] = ()) -> None:
        """See the port. Raises ValueError for outputs with partitions of more than one number, or for outputs of a
        group whose ``spec.outputs`` is false."""
        numbers = {source.partition for source in points}
        if outputs and (len(numbers) != 1 or not self._spec.outputs):
            raise ValueError(
                f"a commit with outputs takes partitions of one number, not {sorted(points)}, and GroupSpec.outputs, "
                f"which is {self._spec.outputs}"
            )
        self._link.check_sizes(outputs)
        self._check_owned(points)
        offsets = {source: self._offset_to_commit(source, at.next_offset) for source, at in points.items()}
        if not self._spec.outputs:
            await self._commit_plainly(offsets)
            return
        await self._commit_in_transactions(offsets, outputs)

    def assignment(self) -> Mapping[TopicPartition, int]:
        """See the port."""
        return dict(self._membership.owned)

    def losses(self) -> Sequence[Loss]:
        """See the port."""
        return self._membership.losses.of_owned(self._membership.owned)

    async def lag(self) -> Mapping[TopicPartition, int]:
        """See the port."""
        return await group_lag(self._queries, self._spec.group, list(self._membership.owned))

    async def close(self) -> None:
        """See the port. A static member (``instance_id``) keeps its partitions until its session runs out."""
        if self._closed:
            return
        self._closed = True
        await self._membership.close()
        await self._queries.close()

    async def _take(
        self, max_records: int, topics: Collection[str] | None, without: Collection[int], wait_s: float
    ) -> list[InRecord]:
        """Return up to ``max_records`` records; wait at most ``wait_s`` for the first or for a membership change."""
        epochs = {
            source: epoch
            for source, epoch in self._membership.owned.items()
            if (topics is None or source.topic in topics) and source.partition not in without
        }
        if not epochs or max_records <= 0:
            await self._wait_for_change(wait_s)
            return []
        try:
            batches = await self._fetch([KafkaPartition(*source) for source in epochs], max_records, wait_s)
        except OffsetOutOfRangeError as error:
            (positions,) = error.args
            await self._membership.skip_lost({TopicPartition(*source): at for source, at in positions.items()})
            return []
        except NoOffsetForPartitionError:
            # aiokafka found no committed offset before the membership had set the start.
            return []
        except TopicAuthorizationFailedError as error:
            raise self._link.error(error, f"consuming as group {self._spec.group}", "READ") from error
        except KafkaError as error:
            self._membership.fail(error)
            return []
        records: list[InRecord] = []
        for source, batch in batches.items():
            partition = TopicPartition(*source)
            epoch = epochs[partition]
            # A rebalance may have begun while the fetch was waiting; then another owner processes the records.
            if batch and self._membership.owned.get(partition) == epoch:
                self._after[partition] = (batch[-1].offset + 1, await self._membership.member().position(source))
                records.extend(to_record(record, epoch) for record in batch)
        return records

    async def _fetch(self, sources: Sequence[KafkaPartition], max_records: int, wait_s: float) -> Batches:
        consumer = self._membership.member()
        if wait_s <= 0:
            found: Batches = await consumer.getmany(*sources, max_records=max_records)
            return found
        # In a task, because during a rebalance aiokafka returns only at its end, with any time-out. Records leave
        # aiokafka's buffer in the step that ends the task, so a cancelled task has taken none.
        fetch = asyncio.create_task(consumer.getmany(*sources, timeout_ms=int(1000 * wait_s), max_records=max_records))
        change = asyncio.create_task(self._membership.changed.wait())
        try:
            await asyncio.wait({fetch, change}, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            change.cancel()
            fetch.cancel()
            await asyncio.wait({fetch, change})
        return {} if fetch.cancelled() else fetch.result()

    async def _wait_for_change(self, wait_s: float) -> None:
        await wait_until_set(self._membership.changed, wait_s)

    def _check_owned(self, points: Mapping[TopicPartition, CommitPoint]) -> None:
        owned = self._membership.owned
        stale = sorted(source for source, at in points.items() if owned.get(source) != at.epoch)
        if stale:
            raise self._lost(stale)

    def _offset_to_commit(self, source: TopicPartition, next_offset: int) -> int:
        last, position = self._after.get(source, (None, next_offset))
        return position if last == next_offset else next_offset

    async def _commit_in_transactions(
        self, offsets: Mapping[TopicPartition, int], outputs: Sequence[OutRecord]
    ) -> None:
        """Commit in one transaction per partition number; those that succeed before a failure remain."""
        by_number: dict[int, dict[TopicPartition, int]] = {}
        for source, offset in offsets.items():
            by_number.setdefault(source.partition, {})[source] = offset
        lost = None
        for number, own in by_number.items():
            try:
                await self._commit_in_transaction(number, own, outputs)
            except PartitionLostError as error:
                lost = error
        if lost is not None:
            raise lost

    async def _commit_in_transaction(
        self, number: int, own: Mapping[TopicPartition, int], outputs: Sequence[OutRecord]
    ) -> None:
        transactions = self._membership.transactions.get(number)
        if transactions is None:
            # A rebalance has begun while another partition of this commit was in progress.
            raise self._lost(own)
        try:
            await transactions.commit(own, outputs)
        except PartitionLostError:
            self._membership.mark_lost(rejoin=True)
            raise
        self._remove_committed_losses(own)

    def _remove_committed_losses(self, offsets: Mapping[TopicPartition, int]) -> None:
        for source, offset in offsets.items():
            self._membership.losses.remove_committed(source, offset)

    def _lost(self, sources: Collection[TopicPartition]) -> PartitionLostError:
        named = ", ".join(f"{topic}/{number}" for topic, number in sorted(sources))
        return PartitionLostError(
            f"group {self._spec.group}: {named} got a new owner or epoch since these records were polled; nothing was "
            "committed for that, drop this work and continue to poll"
        )

    async def _commit_plainly(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Commit all partitions in one request, which Kafka accepts from a member of the current generation only."""
        try:
            async with asyncio.timeout(self._link.timeout_s):
                await self._membership.member().commit(to_commit(offsets, self._membership.topics.ids))
        except (CommitFailedError, IllegalStateError) as error:
            self._membership.mark_lost(rejoin=False)
            raise PartitionLostError(
                f"group {self._spec.group} was rebalanced before this commit; nothing was committed, drop this work "
                "and continue to poll"
            ) from error
        except CLIENT_ERRORS as error:
            raise await self._link.explain(error, f"committing as group {self._spec.group}", "READ") from error
        self._committed.update(offsets)
        self._remove_committed_losses(offsets)

    async def _commit_markers(self) -> None:
        """When all polled records are committed, commit also the transaction markers that were passed since."""
        passed = {}
        # A commit past a loss would remove the loss before the caller has reported it.
        lossy = {loss.source for loss in self.losses()}
        for source in (self._membership.owned.keys() & self._committed.keys()) - lossy:
            position = await self._membership.member().position(KafkaPartition(*source))
            if self._committed[source] in self._after.get(source, ()) and position > self._committed[source]:
                passed[source] = position
        if passed:
            try:
                await self._commit_plainly(passed)
            except (BrokerUnavailableError, PartitionLostError) as error:
                logger.debug("transaction markers stay uncommitted for now: %s", error)
