"""Polls and commits as a member of a group of the embedded broker; sends heartbeats and keeps the read positions."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from infra.broker.embedded.file import catalog, log
from infra.broker.embedded.file.log import ReadRequest, ReadResult
from infra.broker.embedded.group import membership
from infra.broker.embedded.group.membership import GroupMember, OwnedPartitions
from infra.broker.embedded.store import Store, size_of
from infra.broker.embedded.watcher import Ends
from infra.broker.port import CommitPoint, GroupSpec, InRecord, Loss, OutRecord, TopicPartition
from infra.errors import BrokerUnavailableError, PartitionLostError, TopicMismatchError, TransientError

_UNKNOWN = -1

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _OwnedPartition:
    """Keeps this member's position in a partition that it owns."""

    slot: int
    epoch: int
    offset: int
    """The next offset to read."""
    lost: tuple[int, int] | None = None
    """The offsets, from and up to, that were deleted before this ownership began."""


class EmbeddedConsumer:
    """Implements :class:`infra.broker.port.Consumer`. Needs a running event loop."""

    def __init__(self, store: Store, spec: GroupSpec) -> None:
        self._me = _new_member(spec)
        self._store = store
        self._partitions: dict[TopicPartition, _OwnedPartition] = {}
        self._generation = _UNKNOWN
        self._joined = False
        self._closed = False
        self._turn = 0
        # Protects membership and positions from the heartbeat and from a second poll, but is never held while waiting.
        self._lock = asyncio.Lock()
        self._heart = asyncio.create_task(self._keep_alive(), name=f"embedded-broker-member-{spec.group}")

    async def poll(
        self,
        *,
        max_records: int,
        timeout_s: float,
        topics: Collection[str] | None = None,
        without: Collection[int] = (),
    ) -> list[InRecord]:
        """See the port.

        Raises SettingsError when another process has taken over this one's ``instance_id``.
        """
        clock = asyncio.get_running_loop().time
        deadline = clock() + timeout_s
        chosen = partial(_is_chosen, topics=topics, without=without)
        wanted = partial(self._has_news, chosen=chosen)
        while True:
            if self._heart.done() and not self._closed:
                self._heart.result()
            async with self._lock:
                records = await self._fetch(max_records, chosen)
            if records or not await self._store.watcher.wait(wanted, deadline - clock()):
                return records

    async def commit(self, points: Mapping[TopicPartition, CommitPoint], outputs: Sequence[OutRecord] = ()) -> None:
        """See the port. Raises ValueError for outputs with partitions of more than one number."""
        if outputs and len({source.partition for source in points}) != 1:
            raise ValueError(f"a commit with outputs takes partitions of one number, not {sorted(points)}")
        partitions = {source: self._partitions.get(source) for source in points}
        by_slot = {
            partition.slot: (source, points[source])
            for source, partition in partitions.items()
            if partition is not None
        }
        if len(by_slot) < len(points):
            # Not owned at all: a slot that no member has makes the commit fail where all commits are checked.
            unowned = [source for source, partition in partitions.items() if partition is None]
            by_slot |= {-1 - index: (source, points[source]) for index, source in enumerate(unowned)}
        work = partial(membership.commit, me=self._me, points=by_slot, outputs=tuple(outputs))
        lost = await self._store.writer.run(work, size_of(outputs))
        if lost is not None:
            self._generation = _UNKNOWN
            raise lost
        for source, done in points.items():
            partition = partitions[source]
            if partition is not None and partition.lost is not None and done.next_offset >= partition.lost[1]:
                partition.lost = None

    def assignment(self) -> Mapping[TopicPartition, int]:
        """See the port."""
        return {source: partition.epoch for source, partition in self._partitions.items()}

    def losses(self) -> Sequence[Loss]:
        """See the port. Cleaning keeps what a group has not read; earlier releases did not."""
        return tuple(
            Loss(source, *partition.lost, partition.epoch)
            for source, partition in self._partitions.items()
            if partition.lost is not None
        )

    async def lag(self) -> Mapping[TopicPartition, int]:
        """See the port."""
        found = await self._store.read(partial(log.lag, group=self._me.spec.group, topics=self._me.spec.topics))
        return {source: found[source] for source in self._partitions}

    async def close(self) -> None:
        """See the port."""
        if self._closed:
            return
        self._closed = True
        self._heart.cancel()
        # If it ended with an error, the last poll has raised it.
        await asyncio.gather(self._heart, return_exceptions=True)
        try:
            async with self._lock:
                self._partitions = {}
                await self._store.writer.run(partial(membership.leave, me=self._me))
        except TransientError as error:
            logger.warning("leaving group %s failed; its session will time out: %s", self._me.spec.group, error)

    async def _keep_alive(self) -> None:
        pause = membership.heartbeat_interval_s(self._me.spec)
        due = False
        while True:
            try:
                if due and self._joined:
                    # Without the lock, so that a poll does not wait for a slow disk.
                    await self._store.writer.run(partial(membership.send_heartbeat, me=self._me), urgent=True)
                async with self._lock:
                    # Joins if necessary, and reads what is owned now.
                    await self._fetch(0, _is_chosen)
            except TransientError as error:
                logger.warning("the heartbeat of group %s failed: %s", self._me.spec.group, error)
            # Joining, which a poll may have done, counts as the first heartbeat.
            due = True
            await asyncio.sleep(pause)

    async def _fetch(self, max_records: int, chosen: Callable[[TopicPartition], bool]) -> list[InRecord]:
        while True:
            if self._closed:
                raise BrokerUnavailableError(f"this consumer of group {self._me.spec.group} is closed")
            if not self._joined:
                await self._store.writer.run(partial(membership.join, me=self._me))
                self._joined, self._generation = True, _UNKNOWN
            try:
                owned, result = await self._store.read(partial(self._read, max_records=max_records, chosen=chosen))
            except PartitionLostError as error:
                logger.warning("%s; joining again", error)
                self._me, self._joined = _new_member(self._me.spec), False
                continue
            except TopicMismatchError:
                await self._leave_group()
                raise
            break
        if owned is not None:
            self._partitions = _merge(self._partitions, owned)
            self._generation = owned.generation
        for source, offset in result.read_on.items():
            self._partitions[source].offset = offset
        self._turn += 1
        return result.records

    async def _leave_group(self) -> None:
        """Leave the group, so that this member owns nothing while the topics are not as this process declares them."""
        former, self._me = self._me, _new_member(self._me.spec)
        self._partitions, self._joined = {}, False
        await self._store.writer.run(partial(membership.leave, me=former))

    def _read(
        self, connection: sqlite3.Connection, max_records: int, chosen: Callable[[TopicPartition], bool]
    ) -> tuple[OwnedPartitions | None, ReadResult]:
        """Return what is owned, if that changed, and the next records of it; runs in a reader's thread."""
        owned = membership.read_owned(connection, self._me, self._generation)
        if owned is not None:
            # Adding partitions gives each group a new generation. This call raises until the counts agree.
            catalog.check_topics(connection, self._me.spec.topics, self._store.declared)
        partitions = self._partitions if owned is None else _merge(self._partitions, owned)
        requests = [
            ReadRequest(source, partition.slot, partition.offset, partition.epoch)
            for source, partition in partitions.items()
            if chosen(source)
        ]
        # Each poll starts with a different partition, so that none waits forever behind a long one.
        turn = self._turn % len(requests) if requests else 0
        return owned, log.read(connection, requests[turn:] + requests[:turn], max_records)

    def _has_news(self, ends: Ends, chosen: Callable[[TopicPartition], bool]) -> bool:
        return (
            not self._joined
            or self._generation == _UNKNOWN
            or ends.generations.get(self._me.spec.group, _UNKNOWN) > self._generation
            or any(
                ends.offsets.get(partition.slot, 0) > partition.offset
                for source, partition in self._partitions.items()
                if chosen(source)
            )
        )


def _is_chosen(source: TopicPartition, topics: Collection[str] | None = None, without: Collection[int] = ()) -> bool:
    return (topics is None or source.topic in topics) and source.partition not in without


def _new_member(spec: GroupSpec) -> GroupMember:
    # A new member sorts behind the present ones, so that a join moves as few partitions as possible.
    name = spec.instance_id or f"{time.time_ns():020d}-{uuid.uuid4().hex[:8]}"
    return GroupMember(spec, name, uuid.uuid4().hex)


def _merge(
    partitions: Mapping[TopicPartition, _OwnedPartition], owned: OwnedPartitions
) -> dict[TopicPartition, _OwnedPartition]:
    """Return the positions in ``owned``: the present one where the epoch is the same, elsewhere the group's start."""
    merged = {}
    for each in owned.partitions:
        partition = partitions.get(each.source)
        if partition is None or partition.epoch != each.epoch:
            lost = (each.start, each.first) if each.start < each.first else None
            partition = _OwnedPartition(each.slot, each.epoch, each.start, lost)
        merged[each.source] = partition
    return merged
