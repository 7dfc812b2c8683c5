"""Live items overtake others, which are held while live frames are in progress, but not for ever."""

from __future__ import annotations

import queue
import threading
import time

from detectors.worker.pipeline.ranked_queue import Rank, RankedQueue


def filled(*items: tuple[str, Rank], most: int = 0, longest_hold_s: float = 1.0) -> RankedQueue[str]:
    made = RankedQueue[str](most, longest_hold_s=longest_hold_s)
    for item, rank in items:
        made.put(item, rank)
    return made


def drained(waiting: RankedQueue[str]) -> list[str]:
    found = []
    try:
        while True:
            found.append(waiting.get(0))
    except queue.Empty:
        return found


def test_get_returns_live_items_first_and_the_end_last() -> None:
    waiting = filled(("end", Rank.END), ("b1", Rank.BACKGROUND), ("l1", Rank.LIVE), ("b2", Rank.BACKGROUND))
    waiting.put("l2", Rank.LIVE)
    assert drained(waiting) == ["l1", "l2", "b1", "b2", "end"]


def test_get_holds_background_items_and_the_end_after_them() -> None:
    waiting = filled(("b", Rank.BACKGROUND), ("end", Rank.END))
    waiting.hold_background(True)
    assert drained(waiting) == []
    waiting.put("l", Rank.LIVE)
    assert drained(waiting) == ["l"]
    waiting.hold_background(False)
    assert drained(waiting) == ["b", "end"]


def test_get_returns_a_held_item_that_waited_long() -> None:
    waiting = filled(("b", Rank.BACKGROUND), ("l", Rank.LIVE), longest_hold_s=0.05)
    waiting.hold_background(True)
    assert waiting.get(0) == "l"
    began = time.monotonic()
    assert waiting.get(5.0) == "b"
    assert time.monotonic() - began < 2.0
    waiting.put("b", Rank.BACKGROUND)
    time.sleep(0.06)
    waiting.put("l", Rank.LIVE)
    assert drained(waiting) == ["b", "l"]


def test_get_of_a_waiting_thread_ends_when_nothing_is_held_any_more() -> None:
    waiting, found = filled(("b", Rank.BACKGROUND)), list[str]()
    waiting.hold_background(True)
    thread = threading.Thread(target=lambda: found.append(waiting.get()))
    thread.start()
    time.sleep(0.05)
    assert found == []
    waiting.hold_background(False)
    thread.join(2.0)
    assert found == ["b"]


def test_put_waits_while_full_but_never_for_held_items() -> None:
    waiting = filled(("l1", Rank.LIVE), ("b1", Rank.BACKGROUND), most=2)
    done = threading.Event()

    def put() -> None:
        waiting.put("l2", Rank.LIVE)
        done.set()

    threading.Thread(target=put, daemon=True).start()
    assert not done.wait(0.05)
    waiting.hold_background(True)
    assert done.wait(2.0)
    waiting.put("b2", Rank.BACKGROUND)  # its thread has to pack live frames
    assert drained(waiting) == ["l1", "l2"]


def test_unfinished_items_are_those_that_run_or_may_run() -> None:
    waiting = filled(("b", Rank.BACKGROUND))
    assert waiting.has_unfinished
    waiting.hold_background(True)
    assert not waiting.has_unfinished
    waiting.put("l", Rank.LIVE)
    waiting.get()
    assert waiting.has_unfinished
    waiting.task_done(Rank.LIVE)
    assert not waiting.has_unfinished


def test_get_returns_one_background_item_at_a_time_while_asked_to() -> None:
    waiting = filled(("b1", Rank.BACKGROUND), ("b2", Rank.BACKGROUND), longest_hold_s=0.01)
    waiting.run_one_background(True)
    assert drained(waiting) == ["b1"]
    time.sleep(0.02)
    waiting.put("l", Rank.LIVE)
    assert drained(waiting) == ["l"], "nor when it waited long"
    thread = threading.Thread(target=lambda: waiting.put(waiting.get(2.0) + " again", Rank.LIVE))
    thread.start()
    waiting.task_done(Rank.BACKGROUND)
    thread.join(2.0)
    assert drained(waiting) == ["b2 again"]
    waiting.put("b3", Rank.BACKGROUND)
    waiting.run_one_background(False)
    assert drained(waiting) == ["b3"]
