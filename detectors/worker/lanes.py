"""Book-keeping of frames under way: what may be committed, in which order, and what was lost to another owner.

A lane is one partition number of all frame topics and of ``detections``; one transaction covers one lane. Frames
finish in
any order, but a partition commits its finished prefix only, so each device's answers stand in the order of its frames.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from detectors.worker.window import AnswerKey, DuplicateWindow
from infra.broker.port import InRecord, OutRecord, Progress, TopicPartition


@dataclass(slots=True, eq=False)
class Entry:
    """A record under way. ``outputs`` is None until it is finished; ``answer`` is what the duplicate window knows.

    ``count`` is called once the entry is committed: what was done is counted only when it stands. ``refused`` is the
    reason of the dead letter an entry ends in; its answer was not given, so a re-drive must find the way open.
    """

    record: InRecord
    answer: AnswerKey | None = None
    reserved_bytes: int = 0
    outputs: tuple[OutRecord, ...] | None = None
    count: Callable[[], None] | None = None
    refused: str | None = None


@dataclass(slots=True)
class Commit:
    """A finished prefix of a lane, ready to be committed in one transaction."""

    entries: list[Entry]
    progress: dict[TopicPartition, Progress]
    outputs: list[OutRecord]


@dataclass(slots=True)
class Lane:
    """The frames under way of one partition number, per topic in offset order."""

    number: int
    window: DuplicateWindow
    epochs: dict[TopicPartition, int] = field(default_factory=dict)
    queues: dict[TopicPartition, deque[Entry]] = field(default_factory=dict)

    def knows(self, record: InRecord) -> bool:
        """Whether ``record`` belongs to an ownership this lane has seen; a new one needs a fresh duplicate window."""
        return self.epochs.get(record.source) == record.epoch

    def assigned(self, source: TopicPartition, epoch: int) -> list[Entry]:
        """A new ownership of ``source`` begins; returns the entries of the former one, which are void."""
        void = self.lost(source)
        self.epochs[source] = epoch
        return void

    def lost(self, source: TopicPartition) -> list[Entry]:
        """``source`` belongs to somebody else; returns its entries, which are void."""
        self.epochs.pop(source, None)
        void = list(self.queues.pop(source, ()))
        for entry in void:
            if entry.answer is not None:
                self.window.forget(entry.answer)
        return void

    def add(self, entry: Entry) -> None:
        """Queue ``entry`` behind the earlier records of its partition."""
        self.queues.setdefault(entry.record.source, deque()).append(entry)

    def ready(self, most: int) -> Commit | None:
        """The finished prefix of every partition, up to ``most`` entries in all, or None when there is none."""
        commit = Commit([], {}, [])
        for source, queue in self.queues.items():
            for entry in queue:
                if entry.outputs is None or len(commit.entries) >= most:
                    break
                commit.entries.append(entry)
                commit.outputs.extend(entry.outputs)
                commit.progress[source] = Progress(entry.record.offset + 1, entry.record.epoch)
        return commit if commit.entries else None

    def committed(self, commit: Commit) -> int:
        """Take the entries of ``commit`` off their queues; returns how many stood there still."""
        taken = 0
        for entry in commit.entries:
            queue = self.queues.get(entry.record.source)
            if queue and queue[0] is entry:
                queue.popleft()
                taken += 1
        return taken

    def pending_answers(self) -> list[AnswerKey]:
        """The answers under way, oldest first per partition: given soon, and not yet in ``detections``."""
        return [entry.answer for queue in self.queues.values() for entry in queue if entry.answer is not None]
