"""Book-keeping of frames under way: what may be committed, in which order, and what was lost to another owner.

A lane is one partition number of all frame topics and of ``detections``; one transaction covers one lane. Frames
finish in any order, but a partition commits its finished prefix only, so each device's answers stand in the order of
its frames.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from detectors.worker.partitions.window import AnswerKey, DuplicateWindow
from infra.broker.port import CommitPoint, InRecord, Loss, OutRecord, TopicPartition


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an entry ends."""

    outputs: tuple[OutRecord, ...] = ()
    """What is committed for it: its answer, its dead letter, or nothing."""
    count: Callable[[], None] | None = None
    """Called once the entry is committed: what was done is counted only when it stands."""
    refused: str | None = None
    """The reason of the dead letter. The duplicate window then forgets the answer, so that a re-drive can give it."""
    smaller: Callable[[], Outcome] | None = None
    """Makes the outcome to try instead when the broker finds ``outputs`` too large."""


@dataclass(slots=True, eq=False)
class Entry:
    """A record, or a range of lost ones, under way."""

    source: TopicPartition
    progress: CommitPoint
    """What is committed of ``source`` once the entry is done."""
    records: int = 1
    """How many records are consumed with it."""
    answer: AnswerKey | None = None
    """What the duplicate window knows of it: an answer that was given, or will be."""
    outcome: Outcome | None = None
    """None until it is settled."""
    void: bool = False
    """Its partition went to another owner, who does it again; whatever becomes of it here counts for nothing."""

    @classmethod
    def of(cls, record: InRecord) -> Entry:
        """The entry of ``record``."""
        return cls(record.source, CommitPoint(record.offset + 1, record.epoch))

    @classmethod
    def of_loss(cls, loss: Loss) -> Entry:
        """The entry of a range of records that were deleted before they were read."""
        return cls(loss.source, CommitPoint(loss.end, loss.epoch), records=0)


@dataclass(slots=True)
class Commit:
    """A finished prefix of a lane, ready to be committed in one transaction."""

    entries: list[Entry]
    progress: dict[TopicPartition, CommitPoint]
    outputs: list[OutRecord]


@dataclass(slots=True, eq=False)
class Lane:
    """The frames under way of one partition number, per topic in offset order."""

    number: int
    window: DuplicateWindow
    epochs: dict[TopicPartition, int] = field(default_factory=dict)
    queues: dict[TopicPartition, deque[Entry]] = field(default_factory=dict)
    holds: set[object] = field(default_factory=set)
    """What keeps the lane from going on; while there is anything, no further records are polled for it."""

    def __len__(self) -> int:
        return sum(map(len, self.queues.values()))

    @property
    def entries(self) -> list[Entry]:
        """All that is under way, oldest first per partition."""
        return [entry for queue in self.queues.values() for entry in queue]

    def knows(self, source: TopicPartition, epoch: int) -> bool:
        """Whether this lane has seen that ownership of ``source``; a new one needs a fresh duplicate window."""
        return self.epochs.get(source) == epoch

    def assigned(self, source: TopicPartition, epoch: int) -> None:
        """Begin a new ownership of ``source``; what is under way from the former one becomes void."""
        self.lost(source)
        self.epochs[source] = epoch

    def lost(self, source: TopicPartition) -> None:
        """Make void what is under way from ``source``, which belongs to somebody else now."""
        self.epochs.pop(source, None)
        for entry in self.queues.pop(source, ()):
            entry.void = True
            self.holds.discard(entry)
            self._take_back(entry)

    def add(self, entry: Entry) -> None:
        """Queue ``entry`` behind the earlier records of its partition."""
        self.queues.setdefault(entry.source, deque()).append(entry)

    def answers(self, entry: Entry, answer: AnswerKey) -> bool:
        """Remember that ``entry`` will give ``answer``, and no other; False when that is known already."""
        self._take_back(entry)
        if not self.window.add(answer):
            return False
        entry.answer = answer
        return True

    def settle(self, entry: Entry, outcome: Outcome) -> None:
        """Let ``entry`` be committed with ``outcome``; a void one is left, as its answer is its new owner's to give."""
        if entry.void:
            return
        entry.outcome = outcome
        if outcome.refused is not None:
            self._take_back(entry)

    def ready(self, most: int) -> Commit | None:
        """The settled prefix of every partition, up to ``most`` entries in all, or None when there is none."""
        commit = Commit([], {}, [])
        for source, queue in self.queues.items():
            for entry in queue:
                if entry.outcome is None or len(commit.entries) >= most:
                    break
                commit.entries.append(entry)
                commit.outputs.extend(entry.outcome.outputs)
                commit.progress[source] = entry.progress
        return commit if commit.entries else None

    def committed(self, commit: Commit) -> None:
        """Take the entries of ``commit`` off their queues, those that stand there still."""
        for entry in commit.entries:
            queue = self.queues.get(entry.source)
            if queue and queue[0] is entry:
                queue.popleft()

    def renew(self, window: DuplicateWindow, under_way: list[Entry]) -> None:
        """Use ``window``, read from the topic, with the answers that may not have stood there when it was read.

        ``under_way``: the entries of the lane when the reading began. Those committed meanwhile are as good as those
        that will be; those refused or void have no answer any more.
        """
        for entry in under_way:
            if entry.answer is not None:
                window.add(entry.answer)
        self.window = window

    def _take_back(self, entry: Entry) -> None:
        if entry.answer is not None:
            self.window.forget(entry.answer)
            entry.answer = None
