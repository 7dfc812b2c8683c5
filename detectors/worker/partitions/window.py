"""The bounded memory of what was answered already, so that a frame that stands twice in a topic is answered once.

A device that never saw its 202 sends the frame again, and the same ``frame.captured`` is in the topic twice. The id of
the detections event is computed from frame, job and model version (:func:`schemas.ids.detections_event_id`), so it is
known before any work is done, and it is the ``ce_id`` header of the answer in ``detections``: rebuilding the window
needs headers only.

That id is another one under another model version. A job, or a replay of old frames, may ask a new version what another
one has answered; a live frame must not be answered twice because a roll-out came between it and its repetition. So an
answer that belongs to no job is also known by its frame (``ce_subject``), whichever version gave it.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from infra.broker.partitioning import partition_for
from infra.broker.port import InRecord, Reader, TopicPartition
from infra.broker.reading import read_between
from schemas.cloudevents import header
from schemas.errors import EventError

JOB_HEADER = "ce_jobid"
"""On answers that belong to a job, and only on those."""
_READ_RECORDS = 2_000
_LONGEST_STEP = 50_000
# How far back the answers of keys that moved are looked for, in windows.
_FORMER_WINDOWS = 16


@dataclass(frozen=True, slots=True)
class AnswerKey:
    """One answer: its event id, and the frame it answers, None for one that belongs to a job.

    ``live``: the frame stands in the live topic, where one answer is enough, whichever version gave it.
    """

    id: str
    frame: str | None = None
    live: bool = False


class DuplicateWindow:
    """The last ``size`` answers of one partition of ``detections``."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._ids: OrderedDict[str, str | None] = OrderedDict()
        self._frames: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._ids)

    def knows(self, answer: AnswerKey) -> bool:
        """Whether ``answer`` was given already, by any version for a live frame."""
        if answer.id in self._ids:
            return True
        return answer.live and answer.frame is not None and answer.frame in self._frames

    def add(self, answer: AnswerKey) -> bool:
        """Remember ``answer``; False when it is known, and then it counts as seen just now."""
        if self.knows(answer):
            if answer.id in self._ids:
                self._ids.move_to_end(answer.id)
            return False
        self._ids[answer.id] = answer.frame
        if answer.frame is not None:
            self._frames[answer.frame] += 1
        while len(self._ids) > self._size:
            self._drop(self._ids.popitem(last=False)[1])
        return True

    def forget(self, answer: AnswerKey) -> None:
        """Take back an ``answer`` that was not given after all."""
        if answer.id in self._ids:
            self._drop(self._ids.pop(answer.id))

    def _drop(self, frame: str | None) -> None:
        if frame is None:
            return
        self._frames[frame] -= 1
        if self._frames[frame] <= 0:
            del self._frames[frame]


async def rebuild(
    reader: Reader,
    source: TopicPartition,
    size: int,
    former_counts: Sequence[int] = (),
) -> DuplicateWindow:
    """Read the window over the last ``size`` answers in ``source`` from its tail.

    Reads up to the end as it stands now: whoever owned the partition before has been fenced when it was assigned to us.
    ``former_counts``: how many partitions the topic had before each growth, the newest first. The keys of an added one
    had their answers in another then, and as long as its own do not fill the window, those are looked up there.
    """
    bounds = await reader.bounds(source.topic)
    answers = await _newest(reader, source, bounds.get(source.partition, (0, 0)), size)
    moved = partial(_belongs, number=source.partition, partitions=len(bounds))
    read = {source.partition}
    for count in former_counts:
        former = source._replace(partition=source.partition % count)
        if former.partition in read or len(answers) >= size:
            continue
        read.add(former.partition)
        first, end = bounds.get(former.partition, (0, 0))
        # Those that came since are all of other keys; one day nothing in reach is of ours, and none of it counts.
        within = (max(first, end - _FORMER_WINDOWS * size), end)
        answers = await _newest(reader, former, within, size - len(answers), moved) + answers
    window = DuplicateWindow(size)
    for answer in answers:
        window.add(answer)
    return window


def _belongs(record: InRecord, number: int, partitions: int) -> bool:
    return partition_for(record.key or "", partitions) == number


async def _newest(
    reader: Reader,
    source: TopicPartition,
    bounds: tuple[int, int],
    count: int,
    wanted: Callable[[InRecord], bool] = lambda _record: True,
) -> list[AnswerKey]:
    """The last ``count`` answers between ``bounds``, oldest first.

    Goes back step by step until there are so many: offsets are no count of answers, marks of transactions take some.
    """
    first, start = bounds
    step, found = count, list[AnswerKey]()
    while start > first and len(found) < count:
        end, start = start, max(first, start - step)
        step = min(2 * step, _LONGEST_STEP)
        earlier = [
            answer
            async for record in read_between(reader, source, start, end, batch=_READ_RECORDS)
            if wanted(record) and (answer := _answer_in(record)) is not None
        ]
        found = earlier + found
    return found[-count:]


def _answer_in(record: InRecord) -> AnswerKey | None:
    """The answer, or None when the record is not one of ours; whoever reads the topic dead-letters it."""
    try:
        answer, frame = header(record.headers, "ce_id"), header(record.headers, "ce_subject")
        job = header(record.headers, JOB_HEADER)
    except EventError:
        return None
    return AnswerKey(answer, frame if job is None else None) if answer else None
