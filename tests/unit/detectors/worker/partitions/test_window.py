"""Checks the duplicate window, and that it is rebuilt from the end of a partition over any gaps in offsets."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import uuid4

import pytest

from detectors.worker.partitions.window import DetectionsKey, DuplicateWindow, rebuild_window
from infra.broker.partitioning import partition_for
from infra.broker.port import InRecord, TopicPartition
from schemas.topics import DETECTIONS


class Log:
    """A reader of partitions whose offsets may have gaps, as marks of transactions leave them on Kafka."""

    def __init__(self, partitions: int) -> None:
        self.records: list[list[InRecord]] = [[] for _ in range(partitions)]
        self.ends = [0] * partitions
        self.read_records = 0

    def add(self, partition: int, name: str, key: str = "drone", marks: int = 0) -> None:
        """An event called ``name``, with ``marks`` after it."""
        record = InRecord(DETECTIONS, partition, self.ends[partition], 0, key, b"", (("ce_id", name.encode()),))
        self.records[partition].append(record)
        self.ends[partition] += 1 + marks

    async def bounds(self, topic: str) -> Mapping[int, tuple[int, int]]:
        assert topic == DETECTIONS
        return {number: (0, end) for number, end in enumerate(self.ends)}

    async def read(self, source: TopicPartition, offset: int, *, max_records: int, timeout_s: float) -> list[InRecord]:
        del timeout_s
        found = [one for one in self.records[source.partition] if one.offset >= offset][:max_records]
        self.read_records += len(found)
        return found

    async def close(self) -> None:
        """There is nothing to close."""


@pytest.mark.parametrize("marks", [0, 1, 30])
async def test_transaction_marks_do_not_make_the_window_smaller(marks: int) -> None:
    log = Log(1)
    for number in range(100):
        log.add(0, str(number), marks=marks)
    window = await rebuild_window(log, TopicPartition(DETECTIONS, 0), 40)
    assert [n for n in range(100) if window.contains(DetectionsKey(str(n)))] == list(range(60, 100))


async def test_partition_smaller_than_the_window_is_read_whole() -> None:
    log = Log(1)
    for number in range(5):
        log.add(0, str(number), marks=7)
    window = await rebuild_window(log, TopicPartition(DETECTIONS, 0), 40)
    assert len(window) == 5
    assert len(await rebuild_window(Log(1), TopicPartition(DETECTIONS, 0), 40)) == 0


def key_for(partition: int, partitions: int) -> str:
    return next(key for key in (uuid4().hex for _ in range(10_000)) if partition_for(key, partitions) == partition)


async def test_window_of_added_partition_has_events_of_former_partition() -> None:
    log, moved, stayed = Log(4), key_for(3, 4), key_for(1, 4)
    assert partition_for(moved, 2) == partition_for(stayed, 2) == 1
    for number in range(30):
        log.add(1, f"moved-{number}", moved)
        log.add(1, f"stayed-{number}", stayed)
    log.add(3, "new", moved)
    window = await rebuild_window(log, TopicPartition(DETECTIONS, 3), 20, former_counts=(2,))
    assert [n for n in range(30) if window.contains(DetectionsKey(f"moved-{n}"))] == list(range(11, 30))
    assert window.contains(DetectionsKey("new"))
    assert not window.contains(DetectionsKey("stayed-29"))
    own = await rebuild_window(log, TopicPartition(DETECTIONS, 1), 20, former_counts=(2,))
    assert own.contains(DetectionsKey("stayed-29"))


async def test_window_after_second_growth_has_events_from_before_the_first() -> None:
    log, moved = Log(8), key_for(7, 8)
    log.add(1, "before the first", moved)
    log.add(3, "between", moved)
    log.add(7, "after the second", moved)
    window = await rebuild_window(log, TopicPartition(DETECTIONS, 7), 20, former_counts=(4, 2))
    assert all(window.contains(DetectionsKey(name)) for name in ("before the first", "between", "after the second"))
    stayed = key_for(3, 8)
    log.add(1, "of a key that moved once", stayed)
    once = await rebuild_window(log, TopicPartition(DETECTIONS, 3), 20, former_counts=(4, 2))
    assert once.contains(DetectionsKey("of a key that moved once"))


async def test_window_long_after_growth_does_not_read_former_partition_to_its_start() -> None:
    log, stayed = Log(2), key_for(0, 2)
    for number in range(5_000):
        log.add(0, str(number), stayed)
    assert len(await rebuild_window(log, TopicPartition(DETECTIONS, 1), 10, former_counts=(1,))) == 0
    assert log.read_records < 1_000


def test_duplicate_window_drops_the_oldest_first() -> None:
    window = DuplicateWindow(2)
    assert window.add(DetectionsKey("a"))
    assert window.add(DetectionsKey("b"))
    assert not window.add(DetectionsKey("a"))
    assert window.add(DetectionsKey("c"))
    assert not window.add(DetectionsKey("a"))
    assert window.add(DetectionsKey("b"))
    assert len(window) == 2


def test_duplicate_window_contains_live_frame_of_another_version() -> None:
    window = DuplicateWindow(3)
    assert window.add(DetectionsKey("by-v1", "frame", live=True))
    assert not window.add(DetectionsKey("by-v2", "frame", live=True))
    assert window.add(DetectionsKey("replayed-by-v2", "frame")), "a replay may be processed by another version"
    window.remove(DetectionsKey("replayed-by-v2", "frame"))
    assert not window.add(DetectionsKey("by-v2", "frame", live=True))
    window.remove(DetectionsKey("by-v1", "frame", live=True))
    assert window.add(DetectionsKey("by-v2", "frame", live=True)), "an event that was not produced is no duplicate"


def test_duplicate_window_drops_frames_with_their_events() -> None:
    window = DuplicateWindow(1)
    assert window.add(DetectionsKey("a1", "a", live=True))
    assert window.add(DetectionsKey("b1", "b", live=True))
    assert window.add(DetectionsKey("a2", "a", live=True))


def test_event_of_job_is_no_duplicate_of_live_frame() -> None:
    window = DuplicateWindow(3)
    assert window.add(DetectionsKey("job", None))
    assert window.add(DetectionsKey("live", "frame", live=True))
