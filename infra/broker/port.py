"""Defines the broker port: publish durably, consume in batches, and commit offsets and output records in one step.

Every adapter guarantees (:mod:`standgale.testing` has the contract tests, which run against both):

- Records of one key are in one partition, in the order they were published (:mod:`infra.broker.partitioning`).
- ``publish`` returns only when every record is durable; after an error the caller may publish again.
- Members of one group share the partitions by range: a member owns the same partition numbers of all topics it
  subscribes to, if those have equal partition counts. When a member joins, leaves or crashes, partitions move.
- ``commit`` makes outputs visible and offsets committed in one step, or neither. It succeeds only while the caller
  still owns each partition in the epoch it polled from; otherwise it raises PartitionLostError and changes nothing.
- Readers and consumers see committed records only.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from schemas.cloudevents import Headers
from schemas.topics import TopicSpec


class TopicPartition(NamedTuple):
    """Names one partition of one topic."""

    topic: str
    partition: int


@dataclass(frozen=True, slots=True)
class OutRecord:
    """Holds a record to publish. The key decides the partition; ``value`` None is a tombstone (compacted topics)."""

    topic: str
    key: str
    value: bytes | None
    headers: Headers = ()


@dataclass(frozen=True, slots=True)
class InRecord:
    """Holds a record as it is stored in a partition. ``epoch`` is that of the owner who polled it (0 for readers)."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: str | None
    value: bytes | None
    headers: Headers
    epoch: int = 0

    @property
    def source(self) -> TopicPartition:
        """The partition of the record."""
        return TopicPartition(self.topic, self.partition)


@dataclass(frozen=True, slots=True)
class CommitPoint:
    """Says up to which offset a partition is finished, and for which owner."""

    next_offset: int
    """The first offset that is not finished."""
    epoch: int
    """The epoch of the records before it."""


@dataclass(frozen=True, slots=True)
class Loss:
    """Names records that retention deleted before the group read them.

    Committing ``CommitPoint(end, epoch)`` removes the loss from :meth:`Consumer.losses`.
    """

    source: TopicPartition
    first: int
    """The first lost offset."""
    end: int
    """The offset after the last lost one."""
    epoch: int
    """The epoch of the present ownership."""


@dataclass(frozen=True, slots=True)
class GroupSpec:
    """Describes how a consumer joins a group."""

    group: str
    topics: tuple[str, ...]
    instance_id: str | None = None
    """Makes the membership static: a restarted process takes its partitions back without a rebalance, and fences a
    former process of the same name."""
    start: Literal["earliest", "latest"] = "earliest"
    """Where the group starts in a partition on which it never committed."""
    outputs: bool = False
    """Whether ``commit`` will have output records. On Kafka this costs a transactional producer per partition, which is
    started on assignment, so that it fences the former owner."""
    session_timeout_s: float = 10.0
    """How long a member may give no sign of life before its partitions move to others."""


class Publisher(Protocol):
    """Publishes records; many tasks may use it at once, and share batches."""

    async def publish(self, records: Sequence[OutRecord]) -> None:
        """Return when all ``records`` are durable.

        Raises BrokerUnavailableError, RefusedError, TopicMismatchError or RecordTooLargeError.
        """

    def clock_ahead_s(self) -> float | None:
        """Return how far the broker's clock is ahead of this machine's at the last publish (negative: behind).

        It is a lower bound: the time that a record was in transfer counts for neither side. None: not measured yet.
        """
        ...

    async def close(self) -> None:
        """Deliver what is pending and release all resources; may be called twice."""


class Consumer(Protocol):
    """Polls and commits as a member of a group."""

    async def poll(
        self,
        *,
        max_records: int,
        timeout_s: float,
        topics: Collection[str] | None = None,
        without: Collection[int] = (),
    ) -> list[InRecord]:
        """Return up to ``max_records`` further records, in offset order per partition; none after ``timeout_s``.

        ``topics`` limits this call to some of the subscribed topics (priorities). ``without`` leaves out partition
        numbers of all topics (whose work is held). What is left out is returned by a later call. A first record with a
        new epoch means that the partition was (re)assigned and starts at its committed offset. Joining, rebalancing
        and reconnecting happen inside.

        Raises BrokerUnavailableError while the broker is unavailable, and RefusedError or TopicMismatchError until a
        person has changed something; polling then continues without a restart. Raises SettingsError when another
        process has taken over this one's ``instance_id``, which is permanent.
        """
        ...

    async def commit(self, points: Mapping[TopicPartition, CommitPoint], outputs: Sequence[OutRecord] = ()) -> None:
        """Commit ``points`` and ``outputs`` in one step.

        With outputs, all partitions must have one number (co-partitioned topics), because one transaction covers one.
        Raises PartitionLostError (drop the work; of several partitions without outputs some may have been committed),
        RecordTooLargeError, or BrokerUnavailableError, RefusedError or TopicMismatchError (nothing visible happened;
        the same commit may be tried again).
        """

    def assignment(self) -> Mapping[TopicPartition, int]:
        """Return the partitions owned now, with their epochs."""
        ...

    def losses(self) -> Sequence[Loss]:
        """Return what retention deleted from owned partitions before it was read, until each ``end`` is committed."""
        ...

    async def lag(self) -> Mapping[TopicPartition, int]:
        """Return the number of records not committed yet, per owned partition."""
        ...

    async def close(self) -> None:
        """Leave the group at once, without committing; may be called twice."""


@dataclass(frozen=True, slots=True)
class TopicState:
    """Describes a topic as it is now."""

    partitions: int
    incarnation: str
    """Changes when the topic is deleted and created again ("": unknown)."""


class Reader(Protocol):
    """Reads partitions at any offset, without a group.

    Every call raises TopicMismatchError when the topic is missing or has another partition count than declared.
    """

    async def state(self, topic: str) -> TopicState:
        """Return the partition count and the incarnation of ``topic``; works also while leaders are unavailable."""
        ...

    async def bounds(self, topic: str, partitions: Collection[int] | None = None) -> Mapping[int, tuple[int, int]]:
        """Return per partition the first offset there is and the one that the next committed record will have.

        ``partitions`` limits the call to some of them, so that it works while the leader of another is unavailable.
        """
        ...

    async def read(self, source: TopicPartition, offset: int, *, max_records: int, timeout_s: float) -> list[InRecord]:
        """Return up to ``max_records`` committed records from ``offset`` on; wait at most ``timeout_s`` for the first.

        Raises TopicMismatchError when the partition ends before ``offset`` for some seconds: the topic was created
        again, or lost its end. Start again from its ``bounds``.
        """
        ...

    async def close(self) -> None:
        """Release all resources; may be called twice."""


@dataclass(frozen=True, slots=True)
class TopicDifference:
    """Describes one difference of a topic, or of a cluster setting that affects it, from its declaration."""

    topic: str
    what: str
    declared: str
    found: str
    fixable: bool
    """Whether apply can correct it without losing data."""
    advice: str | None = None
    """What a person can do about it; apply cannot correct such a difference, and does not fail because of it."""


@dataclass(frozen=True, slots=True)
class GroupState:
    """Describes a consumer group as it is now."""

    name: str
    members: int
    """How many processes are in it."""
    topics: tuple[str, ...]
    """The topics on which it has committed."""
    lag: int
    """Records that it has not committed, of these topics."""
    seen_ms: int | None
    """When it last gave a sign of life; None: not known."""
    oldest_unread_ms: int | None
    """The time of the oldest record that it has not committed; None: it has read everything."""


class Admin(Protocol):
    """Creates and changes topics, and lists and deletes groups."""

    async def check(self, specs: Collection[TopicSpec]) -> list[TopicDifference]:
        """Return what differs from ``specs``; empty when everything is as declared."""
        ...

    async def apply(self, specs: Collection[TopicSpec]) -> list[TopicDifference]:
        """Create, alter and grow topics as declared; return what was corrected.

        Raises TopicMismatchError, and changes nothing at all, when anything cannot be corrected without losing order or
        data. The topics of a topic set with ``grown_from`` are grown together, once no consumer group lags on them.
        """
        ...

    async def group_lag(self, group: str, topics: Collection[str]) -> Mapping[TopicPartition, int]:
        """Return how many records the group has not committed, per partition (all of them where it never committed)."""
        ...

    async def groups(self) -> Sequence[GroupState]:
        """Return all consumer groups that have committed or have members, by name."""
        ...

    async def forget_group(self, name: str) -> None:
        """Delete the group and what it has committed. Raises GroupError while it has members."""

    async def close(self) -> None:
        """Release all resources; may be called twice."""


class Broker(Protocol):
    """Opens the four clients of one broker. The caller closes each client that it opened."""

    async def publisher(self) -> Publisher:
        """Open a publisher and connect it."""
        ...

    async def consumer(self, spec: GroupSpec) -> Consumer:
        """Open a member of ``spec.group``; it joins in the background and ``poll`` waits for the join."""
        ...

    async def reader(self) -> Reader:
        """Open a reader and connect it."""
        ...

    async def admin(self) -> Admin:
        """Open an admin client and connect it."""
        ...

    async def close(self) -> None:
        """Release what the opened clients share; may be called twice."""
