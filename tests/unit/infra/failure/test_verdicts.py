"""Verdicts about failed records: dead, tried again or held; one alone, several, or many."""

from __future__ import annotations

import pytest

from infra.errors import RecordError
from infra.failure.settings import RetrySettings
from infra.failure.verdicts import WINDOW_S, FailureHistory, Verdict, Verdicts
from schemas.errors import EventError
from tests.factories import ManualClock

POLICY = RetrySettings(record_attempts=3, max_dead_share=0.5, min_dead=20)
ODD = ValueError("odd")
RETRY, DEAD, HOLD = Verdict.RETRY, Verdict.DEAD, Verdict.HOLD


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(1_000.0)


@pytest.fixture
def verdicts(clock: ManualClock) -> Verdicts:
    return Verdicts(POLICY, clock)


@pytest.mark.parametrize("error", [RecordError("too large"), EventError("no JSON")])
def test_an_error_about_the_record_by_type_is_dead_at_once(verdicts: Verdicts, error: Exception) -> None:
    assert verdicts.record_failure(FailureHistory(), error) is DEAD


def test_record_that_fails_between_other_successes_is_dead_after_its_attempts(verdicts: Verdicts) -> None:
    trouble = FailureHistory()
    assert verdicts.record_failure(trouble, ODD) is RETRY
    assert verdicts.record_failure(trouble, ODD) is RETRY
    verdicts.record_success()
    assert verdicts.record_failure(trouble, ODD) is DEAD
    assert trouble.attempts == 3


def test_record_is_held_while_no_other_record_succeeds(verdicts: Verdicts) -> None:
    verdicts.record_success()
    trouble = FailureHistory()
    assert [verdicts.record_failure(trouble, ODD) for _ in range(6)] == [RETRY, RETRY, HOLD, HOLD, HOLD, HOLD]
    verdicts.record_success()
    assert verdicts.record_failure(trouble, ODD) is DEAD


def test_record_failure_same_error_for_all_records_returns_hold(verdicts: Verdicts) -> None:
    troubles = [FailureHistory() for _ in range(50)]
    last = [[verdicts.record_failure(trouble, ODD) for trouble in troubles] for _ in range(10)][-1]
    assert set(last) == {HOLD}


def test_success_before_the_last_two_failures_does_not_count(verdicts: Verdicts) -> None:
    trouble = FailureHistory()
    assert verdicts.record_failure(trouble, ODD) is RETRY
    verdicts.record_success()
    assert verdicts.record_failure(trouble, ODD) is RETRY
    # From here on no record succeeds: an outage may have begun.
    assert verdicts.record_failure(trouble, ODD) is HOLD


def test_with_one_attempt_another_record_must_still_succeed() -> None:
    verdicts = Verdicts(RetrySettings(record_attempts=1))
    trouble = FailureHistory()
    assert verdicts.record_failure(trouble, ODD) is HOLD
    verdicts.record_success()
    assert verdicts.record_failure(trouble, ODD) is DEAD


def test_too_large_a_share_of_dead_letters_opens_the_breaker(verdicts: Verdicts) -> None:
    for _ in range(10):
        verdicts.record_success()
    found = [verdicts.record_failure(FailureHistory(), RecordError("bad")) for _ in range(12)]
    assert found == [DEAD] * 10 + [HOLD] * 2
    text = verdicts.hold_reason(RecordError("bad"))
    assert "with this record 11 of 21" in text
    assert "retry.max_dead_share=0.5" in text
    assert "STANDGALE_RETRY__MAX_DEAD_SHARE" in text


def test_few_dead_letters_never_open_the_breaker(verdicts: Verdicts) -> None:
    assert {verdicts.record_failure(FailureHistory(), RecordError("bad")) for _ in range(19)} == {DEAD}
    assert verdicts.record_failure(FailureHistory(), RecordError("bad")) is HOLD


def test_dead_letters_of_more_than_a_minute_ago_do_not_count(verdicts: Verdicts, clock: ManualClock) -> None:
    for _ in range(100):
        assert verdicts.record_failure(FailureHistory(), RecordError("bad")) is DEAD
        clock.now += WINDOW_S / 10


def test_an_open_breaker_stays_open_until_a_held_record_passes(verdicts: Verdicts, clock: ManualClock) -> None:
    trouble = FailureHistory()
    while verdicts.record_failure(trouble, RecordError("bad")) is DEAD:
        trouble = FailureHistory()
    clock.now += 10 * WINDOW_S
    # Another record passing says nothing about the ones that die.
    verdicts.record_success()
    assert verdicts.record_failure(trouble, RecordError("bad")) is HOLD
    verdicts.record_success(trouble)
    assert verdicts.record_failure(FailureHistory(), RecordError("bad")) is DEAD


def test_forget_record_of_held_record_closes_the_breaker(verdicts: Verdicts, clock: ManualClock) -> None:
    trouble = FailureHistory()
    while verdicts.record_failure(trouble, RecordError("bad")) is DEAD:
        trouble = FailureHistory()
    clock.now += 2 * WINDOW_S
    assert "20 of 20 within 60 s" in verdicts.hold_reason(RecordError("bad"))
    verdicts.forget_record(FailureHistory())
    assert verdicts.record_failure(FailureHistory(), RecordError("bad")) is HOLD
    verdicts.forget_record(trouble)
    assert verdicts.record_failure(FailureHistory(), RecordError("bad")) is DEAD


def test_a_share_of_one_never_holds() -> None:
    verdicts = Verdicts(RetrySettings(max_dead_share=1.0))
    assert {verdicts.record_failure(FailureHistory(), RecordError("bad")) for _ in range(200)} == {DEAD}


def test_record_other_success_does_not_count_for_the_share(verdicts: Verdicts) -> None:
    trouble = FailureHistory()
    for _ in range(2):
        assert verdicts.record_failure(trouble, ODD) is RETRY
        assert verdicts.needs_other_record(trouble)
    verdicts.record_other_success()
    assert not verdicts.needs_other_record(trouble)
    assert verdicts.record_failure(trouble, ODD) is DEAD
    for _ in range(40):
        verdicts.record_other_success()
    assert [verdicts.record_failure(FailureHistory(), EventError("no JSON")) for _ in range(19)] == [DEAD] * 18 + [HOLD]


def test_breaker_counts_no_record_whose_cause_another_one_was_counted_for(verdicts: Verdicts) -> None:
    """Many frames of one client's medium that is refused do not hold those of others."""
    again = RecordError("the token is refused")
    again.counts = False
    assert {verdicts.record_failure(FailureHistory(), again) for _ in range(200)} == {DEAD}
    verdicts.record_success()
    assert verdicts.record_failure(FailureHistory(), RecordError("too large")) is DEAD
