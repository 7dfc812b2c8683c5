"""Checks the order in which the frame topics are polled."""

from __future__ import annotations

from detectors.worker.frames.priorities import PriorityOrder


def test_priority_order_polls_every_topic_first_in_turn() -> None:
    order = PriorityOrder(("live", "jobs", "backfill"), share_every=4)
    turns = [order.next_order() for _ in range(16)]
    assert [turn[0] for turn in turns].count("live") == 12
    assert [turn[0] for turn in turns if turn[0] != "live"] == ["jobs", "backfill", "jobs", "backfill"]
    assert all(sorted(turn) == ["backfill", "jobs", "live"] for turn in turns)
    assert [turn[1] for turn in turns if turn[0] == "live"] == ["jobs"] * 12
