"""I14: the counts of a flight in one line, and what does not fit together."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from ingest.flights.flight import Failure, Flight

WHEN = datetime(2026, 5, 1, tzinfo=UTC)
FLIGHT = Flight("north", WHEN)


def test_summary_names_what_is_known() -> None:
    failures = (Failure("IMAGE_CORRUPT", "", 2, ()), Failure("TOO_MANY_TILES", "", 1, ()))
    assert FLIGHT.summary == "0 arrived, 0 detected, 0 failed"
    some = replace(FLIGHT, announced=483, arrived=483, detected=470, failed=3, failures=failures)
    assert some.summary == ("483 of 483 arrived, 470 detected, 10 waiting, 3 failed: 2 IMAGE_CORRUPT, 1 TOO_MANY_TILES")
    assert (some.waiting, some.missing, some.complete) == (10, 0, False)


def test_a_flight_is_complete_when_closed_and_all_frames_are_finished() -> None:
    closed = replace(FLIGHT, announced=3, count=2, closed_at=WHEN, arrived=2, detected=1, failed=1)
    assert closed.complete
    assert closed.problems == ["announced with 3 frames, closed with 2"]
    assert not replace(closed, detected=0).complete
    assert not replace(closed, count=None, closed_at=None).complete
    late = replace(closed, arrived=3, detected=2)
    assert not late.complete
    assert late.problems[1:] == ["1 more frame arrived than the 2 counted"]
    early = replace(closed, count=1, arrived=0, detected=0, failed=0)
    assert (early.missing, early.problems[1:]) == (1, ["closed with 1 frame, but 1 did not arrive yet"])
    assert replace(FLIGHT, count=0, closed_at=WHEN).complete
