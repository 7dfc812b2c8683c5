"""The lanes of the detector: finished prefixes only, per partition, and nothing of a lost ownership."""

from __future__ import annotations

import asyncio

import pytest

from detectors.worker.flow import Flow
from detectors.worker.lanes import Entry, Lane
from detectors.worker.priorities import PriorityOrder
from detectors.worker.window import AnswerKey, DuplicateWindow
from infra.broker.port import InRecord, OutRecord, Progress, TopicPartition

LIVE = TopicPartition("frames.live", 3)
JOBS = TopicPartition("frames.jobs", 3)


def record(offset: int, source: TopicPartition = LIVE, epoch: int = 1) -> InRecord:
    return InRecord(source.topic, source.partition, offset, 0, "drone", b"", (), epoch)


def out(name: str) -> tuple[OutRecord, ...]:
    return (OutRecord("detections", "drone", name.encode()),)


@pytest.fixture
def lane() -> Lane:
    lane = Lane(3, DuplicateWindow(10))
    lane.assigned(LIVE, 1)
    lane.assigned(JOBS, 1)
    return lane


def add(lane: Lane, offset: int, source: TopicPartition = LIVE) -> Entry:
    entry = Entry(record(offset, source))
    lane.add(entry)
    return entry


def test_only_the_finished_prefix_is_ready_in_offset_order(lane: Lane) -> None:
    first, second, third = (add(lane, offset) for offset in (5, 6, 8))
    third.outputs = out("third")
    assert lane.ready(10) is None
    first.outputs = out("first")
    commit = lane.ready(10)
    assert commit is not None
    assert commit.progress == {LIVE: Progress(6, 1)}
    second.outputs = ()
    commit = lane.ready(10)
    assert commit is not None
    assert [each.value for each in commit.outputs] == [b"first", b"third"]
    assert commit.progress == {LIVE: Progress(9, 1)}
    assert lane.committed(commit) == 3
    assert lane.ready(10) is None


def test_partitions_of_one_number_share_a_commit_and_do_not_wait_for_each_other(lane: Lane) -> None:
    add(lane, 0)
    job = add(lane, 7, JOBS)
    job.outputs = out("job")
    commit = lane.ready(10)
    assert commit is not None
    assert commit.progress == {JOBS: Progress(8, 1)}


def test_a_commit_is_bounded(lane: Lane) -> None:
    for offset in range(5):
        add(lane, offset).outputs = out(str(offset))
    commit = lane.ready(2)
    assert commit is not None
    assert commit.progress == {LIVE: Progress(2, 1)}


def test_a_new_ownership_voids_what_ran_under_the_former_one(lane: Lane) -> None:
    entry = add(lane, 0)
    entry.answer = AnswerKey("answer")
    lane.window.add(AnswerKey("answer"))
    assert lane.knows(record(0, epoch=1))
    assert not lane.knows(record(0, epoch=2))
    assert lane.assigned(LIVE, 2) == [entry]
    entry.outputs = out("late")
    assert lane.ready(10) is None
    assert lane.window.add(AnswerKey("answer")), "a frame that was not answered must be answerable again"


def test_committing_what_was_voided_meanwhile_takes_nothing_from_the_new_queue(lane: Lane) -> None:
    add(lane, 0).outputs = out("old")
    commit = lane.ready(10)
    assert commit is not None
    lane.assigned(LIVE, 2)
    lane.add(Entry(record(0, epoch=2)))
    assert lane.committed(commit) == 0
    assert len(lane.queues[LIVE]) == 1


def test_the_window_forgets_the_oldest_first() -> None:
    window = DuplicateWindow(2)
    assert window.add(AnswerKey("a"))
    assert window.add(AnswerKey("b"))
    assert not window.add(AnswerKey("a"))
    assert window.add(AnswerKey("c"))
    assert not window.add(AnswerKey("a"))
    assert window.add(AnswerKey("b"))
    assert len(window) == 2


async def test_the_flow_counts_frames_and_bytes() -> None:
    flow = Flow(max_frames=2, max_bytes=100)
    flow.lane(3).assigned(LIVE, 1)
    big = Entry(record(0))
    flow.accept(big)
    assert flow.fits(1_000), "a frame larger than the bound runs alone"
    flow.reserve(big, 1_000)
    assert not flow.fits(1)
    other = Entry(record(1))
    flow.accept(other)
    assert flow.room() == 0
    waiting = asyncio.create_task(flow.wait_for_room(30))
    await asyncio.sleep(0)
    flow.release(big)
    await asyncio.wait_for(waiting, 5)
    assert flow.fits(100)
    flow.finish(big, out("big"))
    assert flow.finished.is_set()
    commit = flow.lane(3).ready(10)
    assert commit is not None
    flow.committed(flow.lane(3), commit)
    assert flow.room() == 1
    flow.lost(flow.lane(3), [LIVE])
    assert flow.room() == 2


def test_every_topic_gets_its_turn_first() -> None:
    order = PriorityOrder(("live", "jobs", "backfill"), share_every=4)
    turns = [order.next() for _ in range(16)]
    assert [turn[0] for turn in turns].count("live") == 12
    assert [turn[0] for turn in turns if turn[0] != "live"] == ["jobs", "backfill", "jobs", "backfill"]
    assert all(sorted(turn) == ["backfill", "jobs", "live"] for turn in turns)
    assert [turn[1] for turn in turns if turn[0] == "live"] == ["jobs"] * 12


def test_a_live_frame_that_another_version_answered_is_known() -> None:
    window = DuplicateWindow(3)
    assert window.add(AnswerKey("by-v1", "frame", live=True))
    assert not window.add(AnswerKey("by-v2", "frame", live=True))
    assert window.add(AnswerKey("replayed-by-v2", "frame")), "a replay may ask another version"
    window.forget(AnswerKey("replayed-by-v2", "frame"))
    assert not window.add(AnswerKey("by-v2", "frame", live=True))
    window.forget(AnswerKey("by-v1", "frame", live=True))
    assert window.add(AnswerKey("by-v2", "frame", live=True)), "what was not given after all may be given"


def test_the_window_forgets_frames_with_their_answers() -> None:
    window = DuplicateWindow(1)
    assert window.add(AnswerKey("a1", "a", live=True))
    assert window.add(AnswerKey("b1", "b", live=True))
    assert window.add(AnswerKey("a2", "a", live=True))


def test_the_answer_of_a_job_says_nothing_about_the_live_frame() -> None:
    window = DuplicateWindow(3)
    assert window.add(AnswerKey("job", None))
    assert window.add(AnswerKey("live", "frame", live=True))
