"""Checks how many frames may be in progress, and that held partitions use no slots."""

from __future__ import annotations

import asyncio

from detectors.worker.partitions.frames_in_progress import FramesInProgress
from detectors.worker.partitions.partition_queue import FrameOutcome, PendingRecord
from infra.broker.port import InRecord, TopicPartition

LIVE = TopicPartition("frames.live", 3)


def record(offset: int) -> InRecord:
    return InRecord(*LIVE, offset, 0, "drone", b"", (), 1)


async def test_free_slots_leave_out_held_partitions() -> None:
    in_progress = FramesInProgress(max_frames=2)
    queue = in_progress.queue(3)
    queue.start_assignment(LIVE, 1)
    first, second = PendingRecord.from_record(record(0)), PendingRecord.from_record(record(1))
    queue.append(first)
    queue.append(second)
    assert in_progress.free_slots() == 0
    waiting = asyncio.create_task(in_progress.wait_for_slot(30))
    await asyncio.sleep(0)
    in_progress.hold(queue, first)
    await asyncio.wait_for(waiting, 5)
    assert (in_progress.free_slots(), in_progress.held_partitions) == (2, [3])
    in_progress.release(queue, first)
    assert (in_progress.free_slots(), in_progress.held_partitions) == (0, [])
    in_progress.finish(queue, first, FrameOutcome())
    assert in_progress.finished.is_set()
    commit = queue.next_commit(10)
    assert commit is not None
    in_progress.remove_committed(queue, commit)
    assert in_progress.free_slots() == 1
    in_progress.drop_lost(queue, [LIVE])
    assert in_progress.free_slots() == 2


async def test_a_partition_has_at_most_three_quarters_of_the_slots() -> None:
    in_progress = FramesInProgress(max_frames=8)
    queue = in_progress.queue(3)
    queue.start_assignment(LIVE, 1)
    assert in_progress.most_at_once == 6
    for offset in range(5):
        queue.append(PendingRecord.from_record(record(offset)))
    assert (in_progress.full_partitions, in_progress.most_at_once) == ([], 1)
    queue.append(last := PendingRecord.from_record(record(5)))
    assert (in_progress.full_partitions, in_progress.most_at_once, in_progress.free_slots()) == ([3], 6, 2)
    in_progress.hold(queue, last)
    assert in_progress.full_partitions == [], "a held one uses no slots"
    assert [FramesInProgress(max_frames=slots).most_at_once for slots in (1, 2, 3, 4, 16)] == [1, 1, 2, 3, 12]


async def test_a_slot_that_is_freed_before_the_wait_ends_it_at_once() -> None:
    in_progress = FramesInProgress(max_frames=2)
    queue = in_progress.queue(3)
    in_progress.hold(queue, "reason")
    await asyncio.wait_for(in_progress.wait_for_slot(30), 5)
    waiting = asyncio.create_task(in_progress.wait_for_slot(30))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    in_progress.release(queue, "reason")
    await asyncio.wait_for(waiting, 5)
