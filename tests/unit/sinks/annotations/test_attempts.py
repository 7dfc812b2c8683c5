"""Posts that fail: tried again for a time that depends on whether others are taken."""

from __future__ import annotations

from uuid import UUID

import pytest

from infra.errors import RecordError, TransientError
from sinks.annotations.attempts import Attempts, Recent
from sinks.annotations.errors import AnnotationFailedError
from sinks.annotations.records import Key
from sinks.annotations.settings import AnnotationsSettings
from tests.factories import ManualClock

RUN = UUID(int=1)
ONE, OTHER = (RUN, UUID(int=2)), (RUN, UUID(int=3))


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(1_000.0)


@pytest.fixture
def attempts(clock: ManualClock) -> Attempts:
    return Attempts(AnnotationsSettings(retry_s=100, give_up_s=1_000), clock)


def fails_until(attempts: Attempts, clock: ManualClock, key: Key, **how: bool) -> float:
    """Let a post fail once a second; for how long it is tried."""
    began = clock()
    while isinstance(error := attempts.error_after(key, "answered 500", **how), TransientError):
        clock.now += 1
    assert isinstance(error, AnnotationFailedError)
    return clock() - began


def test_a_post_that_fails_with_all_others_is_tried_for_the_long_time(attempts: Attempts, clock: ManualClock) -> None:
    assert fails_until(attempts, clock, ONE) == 1_000


def test_a_page_of_a_proxy_is_given_up_only_while_others_are_taken(attempts: Attempts, clock: ManualClock) -> None:
    for _ in range(3):
        assert isinstance(attempts.error_after(ONE, "answered 200", is_elsewhere=True), TransientError)
        clock.now += 1_000
    attempts.note_taken(OTHER)
    error = attempts.error_after(ONE, "answered 200", is_elsewhere=True)
    assert isinstance(error, AnnotationFailedError)


def test_a_success_before_its_first_failure_changes_nothing(attempts: Attempts, clock: ManualClock) -> None:
    attempts.note_taken(OTHER)
    clock.now += 1
    assert fails_until(attempts, clock, ONE) == 1_000


def test_a_post_that_fails_while_others_are_taken_is_tried_for_the_short_time(
    attempts: Attempts, clock: ManualClock
) -> None:
    attempts.error_after(ONE, "answered 500")
    clock.now += 1
    attempts.note_taken(OTHER)
    assert fails_until(attempts, clock, ONE) == 99


def test_an_outage_makes_failures_before_it_meaningless(attempts: Attempts, clock: ManualClock) -> None:
    attempts.error_after(ONE, "answered 500")
    clock.now += 500
    attempts.note_away()
    assert fails_until(attempts, clock, ONE) == 1_000


def test_a_token_that_is_refused_has_the_short_time_and_counts_once_for_its_run(
    attempts: Attempts, clock: ManualClock
) -> None:
    assert fails_until(attempts, clock, ONE, is_callers=True) == 100
    assert attempts.for_run(RecordError("refused"), RUN).counts is False
    assert attempts.for_run(RecordError("refused"), UUID(int=9)).counts is True


def test_a_post_that_was_given_up_begins_anew_when_it_comes_again(attempts: Attempts, clock: ManualClock) -> None:
    fails_until(attempts, clock, ONE)
    assert not attempts.has_failed(ONE)
    assert isinstance(attempts.error_after(ONE, "answered 500"), TransientError)


def test_recent_forgets_the_oldest_entries() -> None:
    recent: Recent[int, str] = Recent(2)
    for number in (1, 2, 1, 3):
        recent.put(number, str(number))
    assert [recent.get(number) for number in (1, 2, 3)] == ["1", None, "3"]
