"""Groups that read topics about frames count, the slowest of them decides, and others do not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from infra.broker.port import GroupState
from sinks.retention.looking.settled import CLOCKS_DIFFER, reading_of

NOW = datetime(2026, 5, 1, tzinfo=UTC)


def group(name: str, topic: str, behind_s: float | None) -> GroupState:
    oldest = None if behind_s is None else int((NOW - timedelta(seconds=behind_s)).timestamp() * 1000)
    return GroupState(name, 1, (topic,), 1, None, oldest)


def test_the_slowest_group_that_reads_frames_decides() -> None:
    states = [group("a", "detections", 500), group("b", "frames.live", 900), group("c", "jobs", 10_000)]
    found = reading_of(states, NOW)
    assert (found.groups, found.slowest, found.read_before) == (2, "b", NOW - timedelta(seconds=900))
    assert found.has_passed(NOW - timedelta(seconds=900) - 2 * CLOCKS_DIFFER)
    assert not found.has_passed(NOW - timedelta(seconds=900) - CLOCKS_DIFFER / 2)


def test_groups_that_have_read_everything_have_passed_any_time() -> None:
    found = reading_of([group("a", "detections", None)], NOW)
    assert (found.groups, found.read_before) == (1, None)
    assert found.has_passed(NOW)
