"""Keeps the frames in progress of one partition number in offset order, and decides what may be committed.

A queue covers one partition number of all frame topics and of ``detections``; one transaction covers one queue. Frames
finish in any order, but a partition commits its finished prefix only. So the detections events of a device are in the
order of its frames.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from detectors.worker.partitions.window import DetectionsKey, DuplicateWindow
from infra.broker.port import CommitPoint, InRecord, Loss, OutRecord, TopicPartition


@dataclass(frozen=True, slots=True)
class FrameOutcome:
    """Holds what is committed for a pending record."""

    outputs: tuple[OutRecord, ...] = ()
    """Its detections event, its dead letter, or nothing."""
    count: Callable[[], None] | None = None
    """Called after the commit, so that metrics count only what was committed."""
    dead_reason: str | None = None
    """The reason of the dead letter. The duplicate window then drops the frame, so that a re-drive can process it."""
    smaller: Callable[[], FrameOutcome] | None = None
    """Makes the outcome to commit instead when the broker finds ``outputs`` too large."""


@dataclass(slots=True, eq=False)
class PendingRecord:
    """A record, or a range of lost records, that was polled and is not committed yet."""

    source: TopicPartition
    commit_point: CommitPoint
    """What is committed for ``source`` together with this record."""
    record_count: int = 1
    """How many records are consumed with it."""
    event_key: DetectionsKey | None = None
    """The key of its detections event in the duplicate window."""
    outcome: FrameOutcome | None = None
    """None until the record is finished."""
    is_void: bool = False
    """Its partition has another owner now, who processes it again; its outcome here is ignored."""

    @classmethod
    def from_record(cls, record: InRecord) -> PendingRecord:
        """Return the pending record for ``record``."""
        return cls(record.source, CommitPoint(record.offset + 1, record.epoch))

    @classmethod
    def from_loss(cls, loss: Loss) -> PendingRecord:
        """Return the pending record for a range of records that were deleted before the group read them."""
        return cls(loss.source, CommitPoint(loss.end, loss.epoch), record_count=0)


@dataclass(slots=True)
class Commit:
    """The finished prefix of a queue, to be committed in one transaction."""

    pending: list[PendingRecord]
    points: dict[TopicPartition, CommitPoint]
    outputs: list[OutRecord]


@dataclass(slots=True, eq=False)
class PartitionQueue:
    """Holds the pending records of one partition number, per topic in offset order."""

    partition: int
    window: DuplicateWindow
    epochs: dict[TopicPartition, int] = field(default_factory=dict)
    by_topic: dict[TopicPartition, deque[PendingRecord]] = field(default_factory=dict)
    holds: set[object] = field(default_factory=set)
    """The reasons why the partition is held; while there is one, no more records are polled for it."""

    def __len__(self) -> int:
        return sum(map(len, self.by_topic.values()))

    @property
    def pending(self) -> list[PendingRecord]:
        """All pending records, oldest first per topic."""
        return [pending for records in self.by_topic.values() for pending in records]

    def has_assignment(self, source: TopicPartition, epoch: int) -> bool:
        """Return whether ``start_assignment`` was called for ``source`` with this ``epoch``."""
        return self.epochs.get(source) == epoch

    def start_assignment(self, source: TopicPartition, epoch: int) -> None:
        """Begin a new assignment of ``source``; its pending records from the former one become void."""
        self.drop(source)
        self.epochs[source] = epoch

    def drop(self, source: TopicPartition) -> None:
        """Remove the pending records of ``source``, which has another owner now, and make them void."""
        self.epochs.pop(source, None)
        for pending in self.by_topic.pop(source, ()):
            pending.is_void = True
            self.holds.discard(pending)
            self._unclaim_event(pending)

    def append(self, pending: PendingRecord) -> None:
        """Add ``pending`` after the earlier records of its topic."""
        self.by_topic.setdefault(pending.source, deque()).append(pending)

    def claim_event(self, pending: PendingRecord, event_key: DetectionsKey) -> bool:
        """Add ``event_key``, the event that ``pending`` will produce, to the window; return False for a duplicate.

        A key that was claimed for ``pending`` before is given up.
        """
        self._unclaim_event(pending)
        if not self.window.add(event_key):
            return False
        pending.event_key = event_key
        return True

    def finish(self, pending: PendingRecord, outcome: FrameOutcome) -> None:
        """Let ``pending`` be committed with ``outcome``; does nothing when it is void."""
        if pending.is_void:
            return
        pending.outcome = outcome
        if outcome.dead_reason is not None:
            self._unclaim_event(pending)

    def has_finished(self, topic: str) -> bool:
        """Return whether ``next_commit`` has a record of ``topic``, where its limit allows."""
        records = self.by_topic.get(TopicPartition(topic, self.partition))
        return records is not None and len(records) > 0 and records[0].outcome is not None

    def next_commit(self, limit: int) -> Commit | None:
        """Return the finished prefix of every topic, ``limit`` records at most, or None when nothing is finished.

        The records stay in the queue until ``remove_committed``.
        """
        commit = Commit([], {}, [])
        for source, records in self.by_topic.items():
            for pending in records:
                if pending.outcome is None or len(commit.pending) >= limit:
                    break
                commit.pending.append(pending)
                commit.outputs.extend(pending.outcome.outputs)
                commit.points[source] = pending.commit_point
        return commit if commit.pending else None

    def remove_committed(self, commit: Commit) -> None:
        """Remove the records of ``commit`` that are still in the queue."""
        for pending in commit.pending:
            records = self.by_topic.get(pending.source)
            if records and records[0] is pending:
                records.popleft()

    def replace_window(self, window: DuplicateWindow, in_progress: list[PendingRecord]) -> None:
        """Use ``window``, which was read from the topic, and add the events that it may not contain yet.

        ``in_progress``: the pending records of the queue when the reading began. Their events count, whether they were
        committed since or will be; dead and void records have no event any more.
        """
        for pending in in_progress:
            if pending.event_key is not None:
                window.add(pending.event_key)
        self.window = window

    def _unclaim_event(self, pending: PendingRecord) -> None:
        if pending.event_key is not None:
            self.window.remove(pending.event_key)
            pending.event_key = None
