"""The broker port: publish durably, consume in batches, and commit offsets together with output records, atomically.

What every adapter guarantees (tests/contract/ states it once and runs it against both):

- Records of one key stand in one partition, in the order they were published (:mod:`infra.broker.partitioning`).
- ``publish`` returns only when every record is durable; after an error the caller may publish again.
- Members of one group share the partitions by range: a member owns the same partition numbers of all topics it
  subscribes to, as far as those have equal partition counts. Joining, leaving and dying moves partitions to the others.
- ``commit`` makes outputs visible and offsets committed in one step, or neither. It succeeds only while the caller
  still owns each partition in the epoch it polled from; otherwise PartitionLostError, and nothing happened.
- Readers and consumers see committed records only.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from schemas.cloudevents import Headers
from schemas.topics import TopicSpec


class TopicPartition(NamedTuple):
    """One partition of one topic."""

    topic: str
    partition: int


@dataclass(frozen=True, slots=True)
class OutRecord:
    """A record to publish. The key decides the partition; ``value`` None is a tombstone (compacted topics)."""

    topic: str
    key: str
    value: bytes | None
    headers: Headers = ()


@dataclass(frozen=True, slots=True)
class InRecord:
    """A record as it stands in a partition. ``epoch`` tells one ownership from the next (0 for readers)."""

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
        """Where the record stands."""
        return TopicPartition(self.topic, self.partition)


@dataclass(frozen=True, slots=True)
class CommitPoint:
    """Up to where a partition is done: the first offset that is not, and the epoch of the records before it."""

    next_offset: int
    epoch: int


@dataclass(frozen=True, slots=True)
class Loss:
    """Records that were gone before the group read them (retention): the offsets ``first`` up to, without, ``end``.

    ``epoch`` is that of the present ownership; committing ``Progress(end, epoch)`` settles the loss.
    """

    source: TopicPartition
    first: int
    end: int
    epoch: int


@dataclass(frozen=True, slots=True)
class GroupSpec:
    """How a consumer joins a group.

    ``instance_id`` makes the membership static: a restarted process takes its partitions back without a rebalance, and
    fences a former process of the same name. ``outputs`` tells whether ``commit`` will carry records (this costs a
    transactional producer per partition on Kafka, started on assignment, so that it fences the former owner).
    """

    group: str
    topics: tuple[str, ...]
    instance_id: str | None = None
    start: Literal["earliest", "latest"] = "earliest"
    outputs: bool = False
    session_timeout_s: float = 10.0


class Publisher(Protocol):
    """Publishes records; safe to use from many tasks at once, which share batches."""

    async def publish(self, records: Sequence[OutRecord]) -> None:
        """Return when all ``records`` are durable.

        Raises BrokerUnavailableError, RefusedError, TopicMismatchError or RecordTooLargeError.
        """

    def clock_ahead_s(self) -> float | None:
        """How far the broker's clock is ahead of this machine's (negative: behind), as the last publish showed.

        At least so far: the time a record was under way counts for neither side. None: nothing has shown it yet.
        """
        ...

    async def close(self) -> None:
        """Flush what is under way and let go of all resources; may be called twice."""


class Consumer(Protocol):
    """A member of a group."""

    async def poll(
        self,
        *,
        max_records: int,
        timeout_s: float,
        topics: Collection[str] | None = None,
        without: Collection[int] = (),
    ) -> list[InRecord]:
        """Up to ``max_records`` further records, in offset order per partition; empty after ``timeout_s`` without any.

        ``topics`` narrows this call to some of the subscribed topics (priorities), ``without`` leaves out partition
        numbers of all topics (whose work is held up); what is left out keeps its place. A first record with a new epoch
        means that the partition was (re)assigned and starts at its committed offset. Joining, rebalancing and
        recovering the connection happen inside. Raises BrokerUnavailableError when the broker is away, RefusedError and
        TopicMismatchError while a person has to do something; each goes away by itself. Raises SettingsError when
        another process has taken over this one's ``instance_id``, which does not pass.
        """
        ...

    async def commit(self, points: Mapping[TopicPartition, CommitPoint], outputs: Sequence[OutRecord] = ()) -> None:
        """Commit ``points`` and ``outputs`` in one step.

        With outputs, all partitions must have one number (co-partitioned topics), because one transaction covers one.
        Raises PartitionLostError (drop the work; of several partitions without outputs some may have been committed),
        BrokerUnavailableError, RefusedError or TopicMismatchError (nothing visible happened, the same commit may be
        tried again), RecordTooLargeError.
        """

    def assignment(self) -> Mapping[TopicPartition, int]:
        """The partitions owned now, with their epochs."""
        ...

    def losses(self) -> Sequence[Loss]:
        """What retention took from owned partitions before it was read; each is told until its ``end`` is committed."""
        ...

    async def lag(self) -> Mapping[TopicPartition, int]:
        """Records not yet committed, per owned partition."""
        ...

    async def close(self) -> None:
        """Leave the group at once, without committing; may be called twice."""


@dataclass(frozen=True, slots=True)
class TopicState:
    """A topic as it is now. ``incarnation`` is another one after the topic was deleted and made again ("": unknown)."""

    partitions: int
    incarnation: str


class Reader(Protocol):
    """Reads partitions at any offset, without a group: for tails, resumes, and looking.

    Every call raises TopicMismatchError when the topic is missing or has another partition count than declared.
    """

    async def state(self, topic: str) -> TopicState:
        """How many partitions ``topic`` has and which incarnation it is; answered also when leaders are away."""
        ...

    async def bounds(self, topic: str, partitions: Collection[int] | None = None) -> Mapping[int, tuple[int, int]]:
        """Per partition the first offset there is and the one the next committed record will have.

        ``partitions`` narrows the question, so that it is answered while the leader of another one is away.
        """
        ...

    async def read(self, source: TopicPartition, offset: int, *, max_records: int, timeout_s: float) -> list[InRecord]:
        """Up to ``max_records`` committed records from ``offset`` on; waits for a first one at most ``timeout_s``.

        Raises TopicMismatchError when the partition ends before ``offset`` and stays so for some seconds: the topic was
        made again, or was cut off. Begin anew from its ``bounds``.
        """
        ...

    async def close(self) -> None:
        """Let go of all resources; may be called twice."""


@dataclass(frozen=True, slots=True)
class TopicDifference:
    """One way in which a topic, or a setting of the cluster that touches it, differs from what is declared.

    ``fixable``: apply can mend it losing no data. ``advice``: what to do about it; apply cannot, and does not mind.
    """

    topic: str
    what: str
    declared: str
    found: str
    fixable: bool
    advice: str | None = None


@dataclass(frozen=True, slots=True)
class GroupState:
    """A consumer group as it is now.

    ``members``: how many processes are in it. ``lag``: records not committed, of all topics it has committed on.
    ``seen_ms``: when it last gave a sign of life (None: not known). ``oldest_unread_ms``: the time of the oldest record
    it has not committed (None: it has read everything).
    """

    name: str
    members: int
    topics: tuple[str, ...]
    lag: int
    seen_ms: int | None
    oldest_unread_ms: int | None


class Admin(Protocol):
    """Looks after topics and tells about groups."""

    async def check(self, specs: Collection[TopicSpec]) -> list[TopicDifference]:
        """What differs from ``specs``; empty when all is as declared."""
        ...

    async def apply(self, specs: Collection[TopicSpec]) -> list[TopicDifference]:
        """Create, alter and grow topics as declared; return what was mended.

        Raises TopicMismatchError, and changes nothing at all, when anything cannot be mended without losing order or
        data. The topics of a group with ``grown_from`` are grown together, once no consumer group lags on them.
        """
        ...

    async def group_lag(self, group: str, topics: Collection[str]) -> Mapping[TopicPartition, int]:
        """Records the group has not committed yet, per partition (all of them where it never committed)."""
        ...

    async def groups(self) -> Sequence[GroupState]:
        """All consumer groups that have committed or have members, by name."""
        ...

    async def forget_group(self, name: str) -> None:
        """Delete the group and what it has committed. Raises GroupError while it has members."""

    async def close(self) -> None:
        """Let go of all resources; may be called twice."""


class Broker(Protocol):
    """Opens the four ways to talk to one broker. Each opened thing is closed by whoever opened it."""

    async def publisher(self) -> Publisher:
        """A publisher, connected."""
        ...

    async def consumer(self, spec: GroupSpec) -> Consumer:
        """A member of ``spec.group``; it joins in the background and ``poll`` waits for the join."""
        ...

    async def reader(self) -> Reader:
        """A reader, connected."""
        ...

    async def admin(self) -> Admin:
        """An admin, connected."""
        ...

    async def close(self) -> None:
        """Let go of what the opened things share; may be called twice."""
