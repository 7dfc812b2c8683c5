"""Decides what becomes of a record that failed: try it again, give it up as a dead letter, or hold everything.

A record is dead at once when its error says so by type. Any other error may be the fault of what the record is given to
(a model, a database), so such a record is dead only when it fails by itself: it failed, then another record passed,
then it failed again. As long as nothing passes, it is held. A breaker over the dead letters holds too when too large a
share of all records became dead letters.
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
"""The breaker looks at the records of so many seconds."""


class Verdict(Enum):
    """What to do with a record that failed."""

    RETRY = auto()
    """Try it again after a pause; another record may be tried meanwhile."""
    DEAD = auto()
    """Commit it as a dead letter."""
    HOLD = auto()
    """Commit nothing beyond it, say so in health, and try it again until it passes or is found dead."""


@dataclass(slots=True)
class FailureHistory:
    """What is known of one record that fails: from its first failure (:func:`history_of`) until it is settled."""

    attempts: int = 0
    """Tries that failed"""
    held: bool = False
    """Whether the last verdict was HOLD"""
    counts: bool = True
    """Whether the breaker counts it: not what somebody sent again to see what becomes of it"""
    passes_seen: int = -1
    """How many records had passed when it failed last; -1 before its first failure"""


def history_of(record: InRecord) -> FailureHistory:
    """What is known of ``record`` at its first failure."""
    return FailureHistory(counts=target_group_of(record.headers) is None)


@dataclass(slots=True)
class _Second:
    at: int
    passed: int = 0
    dead: int = 0


def fails_by_type(error: BaseException) -> bool:
    """Whether ``error`` is about the record itself, now and always."""
    return isinstance(error, RecordError | EventError)


class Verdicts:
    """Judges the failing records of one consumer. Knows of all records of the last minute how they ended."""

    def __init__(self, policy: RetrySettings, clock: Callable[[], float] = time.monotonic) -> None:
        self._policy = policy
        self._clock = clock
        self._passes = 0
        self._seconds: deque[_Second] = deque()
        # While the breaker is open: the records that passed and died in the minute before, the next dead one included.
        self._open: tuple[int, int] | None = None

    def record_success(self, trouble: FailureHistory | None = None, *, records: int = 1) -> None:
        """Count ``records`` that were handled; call it for every one that failed before with its ``trouble``.

        When a held record passes, its cause is mended: the breaker closes, and the dead letters before it are
        forgotten.
        """
        self._passes += records
        if trouble is not None and trouble.held:
            trouble.held = False
            self._open = None
            self._seconds.clear()
        self._this_second().passed += records

    def forget_record(self, trouble: FailureHistory) -> None:
        """Forget the record of ``trouble``, which is judged here no longer; if it was held, the breaker closes."""
        if trouble.held:
            trouble.held = False
            self._open = None

    def record_other_success(self) -> None:
        """Note that something else passed than a record: a known good one, which is no share of the records."""
        self._passes += 1

    def needs_other_record(self, trouble: FailureHistory) -> bool:
        """Whether nothing has passed since the record of ``trouble`` failed last."""
        return trouble.passes_seen == self._passes

    def record_failure(self, trouble: FailureHistory, error: BaseException) -> Verdict:
        """Judge a record whose try just failed with ``error`` (never a TransientError: that one is retried)."""
        alone = 0 <= trouble.passes_seen < self._passes
        trouble.attempts += 1
        trouble.passes_seen = self._passes
        verdict = self._decide(trouble, error, alone)
        trouble.held = verdict is Verdict.HOLD
        return verdict

    def hold_reason(self, error: BaseException) -> str:
        """Why the last record is held that failed with ``error``, for health and log: with what to do about it."""
        if self._open is not None:
            passed, dead = self._open
            return (
                f"too many dead letters: with this record {dead} of {passed + dead} within {WINDOW_S} s, which is more "
                f"than retry.max_dead_share={self._policy.max_dead_share:g} allows (from retry.min_dead="
                f"{self._policy.min_dead} records on), so it is held: {error_text(error)}. Mend the cause and it goes "
                "on by itself; if these records are to be given up, raise STANDGALE_RETRY__MAX_DEAD_SHARE and restart"
            )
        return (
            f"a record fails and no other record passes, so the record may not be the cause: {error_text(error)}; it "
            "is tried again until it passes, or until another record passes and this one fails again"
        )

    def _decide(self, trouble: FailureHistory, error: BaseException, alone: bool) -> Verdict:
        if not fails_by_type(error):
            if trouble.attempts < self._policy.record_attempts:
                return Verdict.RETRY
            if not alone:
                return Verdict.HOLD
        if trouble.counts:
            if self._breaker_is_open():
                return Verdict.HOLD
            self._this_second().dead += 1
        return Verdict.DEAD

    def _breaker_is_open(self) -> bool:
        """Whether one more dead letter is too many; once it was, it stays so until a held record passes."""
        if self._open is None:
            self._this_second()
            passed = sum(second.passed for second in self._seconds)
            dead = sum(second.dead for second in self._seconds) + 1
            if passed + dead >= self._policy.min_dead and dead > self._policy.max_dead_share * (passed + dead):
                self._open = (passed, dead)
        return self._open is not None

    def _this_second(self) -> _Second:
        """The count of the present second; those that are too old are dropped."""
        at = int(self._clock())
        while self._seconds and self._seconds[0].at <= at - WINDOW_S:
            self._seconds.popleft()
        if not self._seconds or self._seconds[-1].at != at:
            self._seconds.append(_Second(at))
        return self._seconds[-1]
