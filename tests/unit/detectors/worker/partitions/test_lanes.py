"""The lanes of the detector: finished prefixes only, per partition, and nothing of a lost ownership."""

from __future__ import annotations

import asyncio

import pytest

from detectors.worker.frames.priorities import PriorityOrder
from detectors.worker.partitions.frames_in_progress import Flow
from detectors.worker.partitions.partition_queue import Entry, Lane, Outcome
from detectors.worker.partitions.window import AnswerKey, DuplicateWindow
from detectors.worker.pipeline.memory_budget import Memory
from infra.broker.port import CommitPoint, InRecord, OutRecord, TopicPartition

LIVE = TopicPartition("frames.live", 3)
JOBS = TopicPartition("frames.jobs", 3)


def record(offset: int, source: TopicPartition = LIVE, epoch: int = 1) -> InRecord:
    return InRecord(source.topic, source.partition, offset, 0, "drone", b"", (), epoch)


def out(name: str) -> Outcome:
    return Outcome((OutRecord("detections", "drone", name.encode()),))


@pytest.fixture
def lane() -> Lane:
    lane = Lane(3, DuplicateWindow(10))
    lane.assigned(LIVE, 1)
    lane.assigned(JOBS, 1)
    return lane


def add(lane: Lane, offset: int, source: TopicPartition = LIVE) -> Entry:
    entry = Entry.of(record(offset, source))
    lane.add(entry)
    return entry


def test_only_the_finished_prefix_is_ready_in_offset_order(lane: Lane) -> None:
    first, second, third = (add(lane, offset) for offset in (5, 6, 8))
    third.outcome = out("third")
    assert lane.ready(10) is None
    first.outcome = out("first")
    commit = lane.ready(10)
    assert commit is not None
    assert commit.progress == {LIVE: CommitPoint(6, 1)}
    second.outcome = Outcome()
    commit = lane.ready(10)
    assert commit is not None
    assert [each.value for each in commit.outputs] == [b"first", b"third"]
    assert commit.progress == {LIVE: CommitPoint(9, 1)}
    lane.committed(commit)
    assert len(lane) == 0
    assert lane.ready(10) is None


def test_partitions_of_one_number_share_a_commit_and_do_not_wait_for_each_other(lane: Lane) -> None:
    add(lane, 0)
    job = add(lane, 7, JOBS)
    job.outcome = out("job")
    commit = lane.ready(10)
    assert commit is not None
    assert commit.progress == {JOBS: CommitPoint(8, 1)}


def test_a_commit_is_bounded(lane: Lane) -> None:
    for offset in range(5):
        add(lane, offset).outcome = out(str(offset))
    commit = lane.ready(2)
    assert commit is not None
    assert commit.progress == {LIVE: CommitPoint(2, 1)}


def test_a_new_ownership_voids_what_ran_under_the_former_one(lane: Lane) -> None:
    lane.window = DuplicateWindow(10)
    entry = add(lane, 0)
    assert lane.answers(entry, AnswerKey("answer"))
    assert lane.knows(LIVE, 1)
    assert not lane.knows(LIVE, 2)
    lane.assigned(LIVE, 2)
    assert entry.void
    lane.settle(entry, out("late"))
    assert lane.ready(10) is None
    assert lane.window.add(AnswerKey("answer")), "a frame that was not answered must be answerable again"


def test_what_ends_under_a_former_ownership_leaves_the_answers_of_the_present_one_alone(lane: Lane) -> None:
    stale = add(lane, 0)
    lane.answers(stale, AnswerKey("answer"))
    lane.assigned(LIVE, 2)
    fresh = Entry.of(record(0, epoch=2))
    lane.add(fresh)
    assert lane.answers(fresh, AnswerKey("answer"))
    lane.settle(stale, Outcome(refused="IMAGE_MISSING"))
    assert lane.window.knows(AnswerKey("answer"))
    assert stale.outcome is None


def test_a_refused_answer_is_in_no_window_whenever_that_is_read_again(lane: Lane) -> None:
    refused, given, voided, asked = (add(lane, offset) for offset in range(4))
    for number, entry in enumerate((refused, given, voided, asked)):
        lane.answers(entry, AnswerKey(f"answer-{number}"))
    lane.settle(refused, Outcome(refused="IMAGE_MISSING"))
    under_way = lane.entries
    lane.settle(given, out("given"))
    lane.settle(asked, Outcome(refused="IMAGE_CORRUPT"))
    voided.answer = None
    commit = lane.ready(10)
    assert commit is not None
    lane.committed(commit)
    lane.renew(DuplicateWindow(10), under_way)
    known = [number for number in range(4) if lane.window.knows(AnswerKey(f"answer-{number}"))]
    assert known == [1], "what was committed while the window was read may not have stood there yet"


def test_committing_what_was_voided_meanwhile_takes_nothing_from_the_new_queue(lane: Lane) -> None:
    add(lane, 0).outcome = out("old")
    commit = lane.ready(10)
    assert commit is not None
    lane.assigned(LIVE, 2)
    lane.add(Entry.of(record(0, epoch=2)))
    lane.committed(commit)
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


async def test_the_flow_counts_frames_and_leaves_out_lanes_that_are_held() -> None:
    flow = Flow(max_frames=2)
    lane = flow.lane(3)
    lane.assigned(LIVE, 1)
    first, second = Entry.of(record(0)), Entry.of(record(1))
    lane.add(first)
    lane.add(second)
    assert flow.room() == 0
    waiting = asyncio.create_task(flow.wait_for_room(30))
    await asyncio.sleep(0)
    flow.hold(lane, first)
    await asyncio.wait_for(waiting, 5)
    assert (flow.room(), flow.held) == (2, [3])
    flow.go_on(lane, first)
    assert (flow.room(), flow.held) == (0, [])
    flow.settle(lane, first, out("first"))
    assert flow.finished.is_set()
    commit = lane.ready(10)
    assert commit is not None
    flow.committed(lane, commit)
    assert flow.room() == 1
    flow.lost(lane, [LIVE])
    assert flow.room() == 2


async def test_memory_is_given_in_the_order_in_which_it_is_asked_for() -> None:
    memory, got = Memory(100), list[str]()

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
