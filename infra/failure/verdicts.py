"""Decides whether a failed record is tried again, becomes a dead letter, or holds its partition.

A record becomes a dead letter at once when the type of its error says that the record is the cause. Any other error may
be caused by the model or the database that the record was given to. Such a record becomes a dead letter only when it
fails while other records succeed: it failed, then another record succeeded, then it failed again. As long as no record
succeeds, it is held. The breaker holds it too when too large a share of all records became dead letters.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto

from infra.broker.port import InRecord
from infra.errors import RecordError
from infra.failure.error_texts import error_text
from infra.failure.redrive import target_group_of
from infra.failure.settings import RetrySettings
from schemas.errors import EventError

WINDOW_S = 60
"""The breaker counts the records of so many seconds."""


class Verdict(Enum):
    """Says what to do with a record that failed."""

    RETRY = auto()
    """Try it again after a pause; another record may be tried during the pause."""
    DEAD = auto()
    """Commit a dead letter for it."""
    HOLD = auto()
    """Commit nothing after it, report it in health, and try it again until it succeeds or is dead."""


@dataclass(slots=True)
class FailureHistory:
    """Keeps what is known of one record from its first failure (:func:`history_of`) until it is finished."""

    attempts: int = 0
    """Attempts that failed"""
    held: bool = False
    """Whether the last verdict was HOLD"""
    counts: bool = True
    """Whether the breaker counts it; it does not count records that a person sent again"""
    passes_seen: int = -1
    """How many records had succeeded when it failed last; -1 before its first failure"""


def history_of(record: InRecord) -> FailureHistory:
    """Return the history of ``record`` at its first failure."""
    return FailureHistory(counts=target_group_of(record.headers) is None)


@dataclass(slots=True)
class _Second:
    at: int
    passed: int = 0
    dead: int = 0


def fails_by_type(error: BaseException) -> bool:
    """Whether the type of ``error`` says that the record is the cause, now and always."""
    return isinstance(error, RecordError | EventError)


class Verdicts:
    """Decides about the failed records of one consumer, and counts the results of the last minute."""

    def __init__(self, policy: RetrySettings, clock: Callable[[], float] = time.monotonic) -> None:
        self._policy = policy
        self._clock = clock
        self._passes = 0
        self._seconds: deque[_Second] = deque()
        # While the breaker is open: records that succeeded and dead letters in the last minute, with the next one.
        self._open: tuple[int, int] | None = None

    def record_success(self, history: FailureHistory | None = None, *, records: int = 1) -> None:
        """Count ``records`` that succeeded; for one that failed before give its ``history``.

        When a held record succeeds, its cause is repaired: the breaker closes, and its counts begin anew.
        """
        self._passes += records
        if history is not None and history.held:
            history.held = False
            self._open = None
            self._seconds.clear()
        self._this_second().passed += records

    def forget_record(self, history: FailureHistory) -> None:
        """Drop the record of ``history``, which is not decided here any more; if it was held, the breaker closes."""
        if history.held:
            history.held = False
            self._open = None

    def record_other_success(self) -> None:
        """Note a success that is not a record's (the proof image); the share of dead letters does not count it."""
        self._passes += 1

    def needs_other_record(self, history: FailureHistory) -> bool:
        """Whether no record has succeeded since the one of ``history`` failed last."""
        return history.passes_seen == self._passes

    def record_failure(self, history: FailureHistory, error: BaseException) -> Verdict:
        """Count a failed attempt and return the verdict; ``error`` is no TransientError, which would be retried."""
        alone = 0 <= history.passes_seen < self._passes
        history.attempts += 1
        history.passes_seen = self._passes
        verdict = self._decide(history, error, alone)
        history.held = verdict is Verdict.HOLD
        return verdict

    def hold_reason(self, error: BaseException) -> str:
        """Return why the record that failed last, with ``error``, is held, and what to do; for health and log."""
        if self._open is not None:
            passed, dead = self._open
            return (
                f"too many dead letters: with this record {dead} of {passed + dead} within {WINDOW_S} s, which is more "
                f"than retry.max_dead_share={self._policy.max_dead_share:g} allows (from retry.min_dead="
                f"{self._policy.min_dead} records on), so it is held: {error_text(error)}. Correct the cause, and "
                "processing continues without a restart; to give these records up, raise "
                "STANDGALE_RETRY__MAX_DEAD_SHARE and restart"
            )
        return (
            f"a record fails and no other record succeeds, so the record may not be the cause: {error_text(error)}; it "
            "is tried again until it succeeds, or until another record succeeds and this one fails again"
        )

    def _decide(self, history: FailureHistory, error: BaseException, alone: bool) -> Verdict:
        if not fails_by_type(error):
            if history.attempts < self._policy.record_attempts:
                return Verdict.RETRY
            if not alone:
                return Verdict.HOLD
        if history.counts and not (isinstance(error, RecordError) and not error.counts):
            if self._breaker_is_open():
                return Verdict.HOLD
            self._this_second().dead += 1
        return Verdict.DEAD

    def _breaker_is_open(self) -> bool:
        """Whether one more dead letter is too many; once open, the breaker stays open until a held record succeeds."""
        if self._open is None:
            self._this_second()
            passed = sum(second.passed for second in self._seconds)
            dead = sum(second.dead for second in self._seconds) + 1
            if passed + dead >= self._policy.min_dead and dead > self._policy.max_dead_share * (passed + dead):
                self._open = (passed, dead)
        return self._open is not None

    def _this_second(self) -> _Second:
        """Return the counts of the present second, after dropping those that are too old."""
        at = int(self._clock())
        while self._seconds and self._seconds[0].at <= at - WINDOW_S:
            self._seconds.popleft()
        if not self._seconds or self._seconds[-1].at != at:
            self._seconds.append(_Second(at))
        return self._seconds[-1]
