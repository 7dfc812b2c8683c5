"""While live frames come, few others are in progress."""

from __future__ import annotations

from detectors.worker.frames.background import Background
from detectors.worker.partitions.frames_in_progress import FramesInProgress
from detectors.worker.partitions.partition_queue import FrameOutcome, PendingRecord
from infra.broker.port import CommitPoint, TopicPartition
from schemas.topics import FRAMES_BACKFILL, FRAMES_JOBS, FRAMES_LIVE


def test_room_is_limited_while_live_frames_come() -> None:
    in_progress, clock = FramesInProgress(max_frames=16, max_background=2), [100.0]
    background = Background(in_progress, now=lambda: clock[0])
    assert background.room(12) == 12
    background.live_came()
    assert background.room(12) == 2
    assert background.room(1) == 1
    for partition, topic in enumerate((FRAMES_LIVE, FRAMES_BACKFILL, FRAMES_BACKFILL, FRAMES_BACKFILL)):
        in_progress.queue(partition).append(PendingRecord(TopicPartition(topic, partition), CommitPoint(1, 1)))
        assert background.room(12) == max(0, 2 - partition)
    in_progress.hold(in_progress.queue(1), "a store that is away")
    assert background.room(12) == 0
    in_progress.hold(in_progress.queue(2), "another one")
    assert background.room(12) == 1
    clock[0] += 11.0
    assert background.room(12) == 12


def test_room_is_free_again_when_a_frame_is_finished_before_its_commit() -> None:
    in_progress, clock = FramesInProgress(max_frames=16, max_background=1), [100.0]
    background, queue = Background(in_progress, now=lambda: clock[0]), in_progress.queue(0)
    background.live_came()
    first, second = (PendingRecord(TopicPartition(FRAMES_JOBS, 0), CommitPoint(each, 1)) for each in (1, 2))
    queue.append(first)
    assert background.room(12) == 0
    in_progress.finish(queue, first, FrameOutcome())
    assert background.room(12) == 1
    queue.append(second)
    assert background.room(12) == 0
    # What waits for its model computes nothing.
    in_progress.begin_wait(second)
    assert background.room(12) == 1
