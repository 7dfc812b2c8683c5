"""While live frames come, few others are in progress."""

from __future__ import annotations

from detectors.worker.frames.background import Background
from detectors.worker.partitions.frames_in_progress import FramesInProgress
from detectors.worker.partitions.partition_queue import PendingRecord
from infra.broker.port import CommitPoint, TopicPartition
from schemas.topics import FRAMES_BACKFILL, FRAMES_LIVE


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
