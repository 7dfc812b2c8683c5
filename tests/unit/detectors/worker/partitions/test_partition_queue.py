"""Checks the queue of a partition number: finished prefixes only, and nothing of a lost assignment."""

from __future__ import annotations

import pytest

from detectors.worker.partitions.partition_queue import FrameOutcome, PartitionQueue, PendingRecord
from detectors.worker.partitions.window import DetectionsKey, DuplicateWindow
from infra.broker.port import CommitPoint, InRecord, OutRecord, TopicPartition

LIVE = TopicPartition("frames.live", 3)
JOBS = TopicPartition("frames.jobs", 3)


def record(offset: int, source: TopicPartition = LIVE, epoch: int = 1) -> InRecord:
    return InRecord(source.topic, source.partition, offset, 0, "drone", b"", (), epoch)


def out(name: str) -> FrameOutcome:
    return FrameOutcome((OutRecord("detections", "drone", name.encode()),))


@pytest.fixture
def queue() -> PartitionQueue:
    queue = PartitionQueue(3, DuplicateWindow(10))
    queue.start_assignment(LIVE, 1)
    queue.start_assignment(JOBS, 1)
    return queue


def add(queue: PartitionQueue, offset: int, source: TopicPartition = LIVE) -> PendingRecord:
    pending = PendingRecord.from_record(record(offset, source))
    queue.append(pending)
    return pending


def test_next_commit_is_the_finished_prefix_in_offset_order(queue: PartitionQueue) -> None:
    first, second, third = (add(queue, offset) for offset in (5, 6, 8))
    third.outcome = out("third")
    assert queue.next_commit(10) is None
    first.outcome = out("first")
    commit = queue.next_commit(10)
    assert commit is not None
    assert commit.points == {LIVE: CommitPoint(6, 1)}
    second.outcome = FrameOutcome()
    commit = queue.next_commit(10)
    assert commit is not None
    assert [each.value for each in commit.outputs] == [b"first", b"third"]
    assert commit.points == {LIVE: CommitPoint(9, 1)}
    queue.remove_committed(commit)
    assert len(queue) == 0
    assert queue.next_commit(10) is None


def test_topics_of_one_partition_number_share_a_commit_without_waiting(queue: PartitionQueue) -> None:
    add(queue, 0)
    job = add(queue, 7, JOBS)
    job.outcome = out("job")
    commit = queue.next_commit(10)
    assert commit is not None
    assert commit.points == {JOBS: CommitPoint(8, 1)}


def test_next_commit_is_bounded_by_limit(queue: PartitionQueue) -> None:
    for offset in range(5):
        add(queue, offset).outcome = out(str(offset))
    commit = queue.next_commit(2)
    assert commit is not None
    assert commit.points == {LIVE: CommitPoint(2, 1)}


def test_start_assignment_voids_pending_of_former_assignment(queue: PartitionQueue) -> None:
    queue.window = DuplicateWindow(10)
    pending = add(queue, 0)
    assert queue.claim_event(pending, DetectionsKey("event"))
    assert queue.has_assignment(LIVE, 1)
    assert not queue.has_assignment(LIVE, 2)
    queue.start_assignment(LIVE, 2)
    assert pending.is_void
    queue.finish(pending, out("late"))
    assert queue.next_commit(10) is None
    assert queue.window.add(DetectionsKey("event")), "a frame without an event must not count as a duplicate"


def test_void_record_keeps_event_claim_of_new_assignment(queue: PartitionQueue) -> None:
    stale = add(queue, 0)
    queue.claim_event(stale, DetectionsKey("event"))
    queue.start_assignment(LIVE, 2)
    fresh = PendingRecord.from_record(record(0, epoch=2))
    queue.append(fresh)
    assert queue.claim_event(fresh, DetectionsKey("event"))
    queue.finish(stale, FrameOutcome(dead_reason="IMAGE_MISSING"))
    assert queue.window.contains(DetectionsKey("event"))
    assert stale.outcome is None


def test_replace_window_adds_finished_events_and_no_dead_ones(queue: PartitionQueue) -> None:
    dead, done, voided, dead_later = (add(queue, offset) for offset in range(4))
    for number, pending in enumerate((dead, done, voided, dead_later)):
        queue.claim_event(pending, DetectionsKey(f"event-{number}"))
    queue.finish(dead, FrameOutcome(dead_reason="IMAGE_MISSING"))
    reading = queue.pending
    queue.finish(done, out("done"))
    queue.finish(dead_later, FrameOutcome(dead_reason="IMAGE_CORRUPT"))
    voided.event_key = None
    commit = queue.next_commit(10)
    assert commit is not None
    queue.remove_committed(commit)
    queue.replace_window(DuplicateWindow(10), reading)
    known = [number for number in range(4) if queue.window.contains(DetectionsKey(f"event-{number}"))]
    assert known == [1], "an event committed while the window was read may not have been in the topic yet"


def test_remove_committed_of_void_records_keeps_new_queue(queue: PartitionQueue) -> None:
    add(queue, 0).outcome = out("old")
    commit = queue.next_commit(10)
    assert commit is not None
    queue.start_assignment(LIVE, 2)
    queue.append(PendingRecord.from_record(record(0, epoch=2)))
    queue.remove_committed(commit)
    assert len(queue.by_topic[LIVE]) == 1
