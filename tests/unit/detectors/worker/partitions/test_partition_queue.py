"""The lanes of the detector: finished prefixes only, per partition, and nothing of a lost ownership."""

from __future__ import annotations

import asyncio

import pytest

from detectors.worker.frames.priorities import PriorityOrder
from detectors.worker.partitions.frames_in_progress import FramesInProgress
from detectors.worker.partitions.partition_queue import FrameOutcome, PartitionQueue, PendingRecord
from detectors.worker.partitions.window import DetectionsKey, DuplicateWindow
from detectors.worker.pipeline.memory_budget import MemoryBudget
from infra.broker.port import CommitPoint, InRecord, OutRecord, TopicPartition

LIVE = TopicPartition("frames.live", 3)
JOBS = TopicPartition("frames.jobs", 3)


def record(offset: int, source: TopicPartition = LIVE, epoch: int = 1) -> InRecord:
    return InRecord(source.topic, source.partition, offset, 0, "drone", b"", (), epoch)


def out(name: str) -> FrameOutcome:
    return FrameOutcome((OutRecord("detections", "drone", name.encode()),))


@pytest.fixture
def lane() -> PartitionQueue:
    lane = PartitionQueue(3, DuplicateWindow(10))
    lane.start_assignment(LIVE, 1)
    lane.start_assignment(JOBS, 1)
    return lane


def add(lane: PartitionQueue, offset: int, source: TopicPartition = LIVE) -> PendingRecord:
    entry = PendingRecord.from_record(record(offset, source))
    lane.append(entry)
    return entry


def test_next_commit_is_the_finished_prefix_in_offset_order(lane: PartitionQueue) -> None:
    first, second, third = (add(lane, offset) for offset in (5, 6, 8))
    third.outcome = out("third")
    assert lane.next_commit(10) is None
    first.outcome = out("first")
    commit = lane.next_commit(10)
    assert commit is not None
    assert commit.points == {LIVE: CommitPoint(6, 1)}
    second.outcome = FrameOutcome()
    commit = lane.next_commit(10)
    assert commit is not None
    assert [each.value for each in commit.outputs] == [b"first", b"third"]
    assert commit.points == {LIVE: CommitPoint(9, 1)}
    lane.remove_committed(commit)
    assert len(lane) == 0
    assert lane.next_commit(10) is None


def test_topics_of_one_partition_number_share_a_commit_without_waiting(lane: PartitionQueue) -> None:
    add(lane, 0)
    job = add(lane, 7, JOBS)
    job.outcome = out("job")
    commit = lane.next_commit(10)
    assert commit is not None
    assert commit.points == {JOBS: CommitPoint(8, 1)}


def test_next_commit_is_bounded_by_limit(lane: PartitionQueue) -> None:
    for offset in range(5):
        add(lane, offset).outcome = out(str(offset))
    commit = lane.next_commit(2)
    assert commit is not None
    assert commit.points == {LIVE: CommitPoint(2, 1)}


def test_start_assignment_voids_pending_of_former_assignment(lane: PartitionQueue) -> None:
    lane.window = DuplicateWindow(10)
    entry = add(lane, 0)
    assert lane.claim_event(entry, DetectionsKey("answer"))
    assert lane.has_assignment(LIVE, 1)
    assert not lane.has_assignment(LIVE, 2)
    lane.start_assignment(LIVE, 2)
    assert entry.is_void
    lane.finish(entry, out("late"))
    assert lane.next_commit(10) is None
    assert lane.window.add(DetectionsKey("answer")), "a frame that was not answered must be answerable again"


def test_void_record_keeps_event_claim_of_new_assignment(lane: PartitionQueue) -> None:
    stale = add(lane, 0)
    lane.claim_event(stale, DetectionsKey("answer"))
    lane.start_assignment(LIVE, 2)
    fresh = PendingRecord.from_record(record(0, epoch=2))
    lane.append(fresh)
    assert lane.claim_event(fresh, DetectionsKey("answer"))
    lane.finish(stale, FrameOutcome(dead_reason="IMAGE_MISSING"))
    assert lane.window.contains(DetectionsKey("answer"))
    assert stale.outcome is None


def test_replace_window_adds_finished_events_and_no_dead_ones(lane: PartitionQueue) -> None:
    refused, given, voided, asked = (add(lane, offset) for offset in range(4))
    for number, entry in enumerate((refused, given, voided, asked)):
        lane.claim_event(entry, DetectionsKey(f"answer-{number}"))
    lane.finish(refused, FrameOutcome(dead_reason="IMAGE_MISSING"))
    under_way = lane.pending
    lane.finish(given, out("given"))
    lane.finish(asked, FrameOutcome(dead_reason="IMAGE_CORRUPT"))
    voided.event_key = None
    commit = lane.next_commit(10)
    assert commit is not None
    lane.remove_committed(commit)
    lane.replace_window(DuplicateWindow(10), under_way)
    known = [number for number in range(4) if lane.window.contains(DetectionsKey(f"answer-{number}"))]
    assert known == [1], "what was committed while the window was read may not have stood there yet"


def test_remove_committed_of_void_records_keeps_new_queue(lane: PartitionQueue) -> None:
    add(lane, 0).outcome = out("old")
    commit = lane.next_commit(10)
    assert commit is not None
    lane.start_assignment(LIVE, 2)
    lane.append(PendingRecord.from_record(record(0, epoch=2)))
    lane.remove_committed(commit)
    assert len(lane.by_topic[LIVE]) == 1


def test_duplicate_window_drops_the_oldest_first() -> None:
    window = DuplicateWindow(2)
    assert window.add(DetectionsKey("a"))
    assert window.add(DetectionsKey("b"))
    assert not window.add(DetectionsKey("a"))
    assert window.add(DetectionsKey("c"))
    assert not window.add(DetectionsKey("a"))
    assert window.add(DetectionsKey("b"))
    assert len(window) == 2


async def test_free_slots_leave_out_held_partitions() -> None:
    flow = FramesInProgress(max_frames=2)
    lane = flow.queue(3)
    lane.start_assignment(LIVE, 1)
    first, second = PendingRecord.from_record(record(0)), PendingRecord.from_record(record(1))
    lane.append(first)
    lane.append(second)
    assert flow.free_slots() == 0
    waiting = asyncio.create_task(flow.wait_for_slot(30))
    await asyncio.sleep(0)
    flow.hold(lane, first)
    await asyncio.wait_for(waiting, 5)
    assert (flow.free_slots(), flow.held_partitions) == (2, [3])
    flow.release(lane, first)
    assert (flow.free_slots(), flow.held_partitions) == (0, [])
    flow.finish(lane, first, out("first"))
    assert flow.finished.is_set()
    commit = lane.next_commit(10)
    assert commit is not None
    flow.remove_committed(lane, commit)
    assert flow.free_slots() == 1
    flow.drop_lost(lane, [LIVE])
    assert flow.free_slots() == 2


async def test_memory_budget_is_given_in_order_of_requests() -> None:
    memory, got = MemoryBudget(100), list[str]()

    async def take(name: str, size: int) -> None:
        await memory.take(size)
        got.append(name)

    await take("larger than all, but alone", 1_000)
    tasks = [asyncio.create_task(take(*each)) for each in (("big", 90), ("given up", 5), ("small", 10), ("last", 10))]
    await asyncio.sleep(0)
    tasks[1].cancel()
    await asyncio.sleep(0)
    memory.give(1_000)
    await asyncio.sleep(0)
    assert got[1:] == ["big", "small"], "the last fits beside the small one only"
    memory.give(90)
    await asyncio.gather(*tasks, return_exceptions=True)
    assert got[3:] == ["last"]
    memory.give(20)
    await take("all", 100)


def test_priority_order_polls_every_topic_first_in_turn() -> None:
    order = PriorityOrder(("live", "jobs", "backfill"), share_every=4)
    turns = [order.next_order() for _ in range(16)]
    assert [turn[0] for turn in turns].count("live") == 12
    assert [turn[0] for turn in turns if turn[0] != "live"] == ["jobs", "backfill", "jobs", "backfill"]
    assert all(sorted(turn) == ["backfill", "jobs", "live"] for turn in turns)
    assert [turn[1] for turn in turns if turn[0] == "live"] == ["jobs"] * 12


def test_duplicate_window_contains_live_frame_of_another_version() -> None:
    window = DuplicateWindow(3)
    assert window.add(DetectionsKey("by-v1", "frame", live=True))
    assert not window.add(DetectionsKey("by-v2", "frame", live=True))
    assert window.add(DetectionsKey("replayed-by-v2", "frame")), "a replay may ask another version"
    window.remove(DetectionsKey("replayed-by-v2", "frame"))
    assert not window.add(DetectionsKey("by-v2", "frame", live=True))
    window.remove(DetectionsKey("by-v1", "frame", live=True))
    assert window.add(DetectionsKey("by-v2", "frame", live=True)), "what was not given after all may be given"


def test_duplicate_window_drops_frames_with_their_events() -> None:
    window = DuplicateWindow(1)
    assert window.add(DetectionsKey("a1", "a", live=True))
    assert window.add(DetectionsKey("b1", "b", live=True))
    assert window.add(DetectionsKey("a2", "a", live=True))


def test_event_of_job_is_no_duplicate_of_live_frame() -> None:
    window = DuplicateWindow(3)
    assert window.add(DetectionsKey("job", None))
    assert window.add(DetectionsKey("live", "frame", live=True))
