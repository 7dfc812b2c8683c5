"""Remembers posts that failed, and decides whether one is tried again or is a dead letter."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar
from uuid import UUID

from infra.errors import RecordError
from sinks.annotations.errors import AnnotationFailedError, AnnotationsUnavailableError
from sinks.annotations.records import Key
from sinks.annotations.settings import AnnotationsSettings

_MOST = 5_000
KeyT = TypeVar("KeyT")
ValueT = TypeVar("ValueT")


class Recent(Generic[KeyT, ValueT]):
    """Is a mapping of the newest entries; the oldest ones make room for them."""

    def __init__(self, most: int = _MOST) -> None:
        self._entries: OrderedDict[KeyT, ValueT] = OrderedDict()
        self._most = most

    def get(self, key: KeyT) -> ValueT | None:
        """Return the entry of ``key``; None: it has none."""
        return self._entries.get(key)

    def put(self, key: KeyT, value: ValueT) -> None:
        """Keep ``value`` as the newest entry."""
        self._entries.pop(key, None)
        self._entries[key] = value
        while len(self._entries) > self._most:
            self._entries.popitem(last=False)

    def drop(self, key: KeyT) -> None:
        """Forget the entry of ``key``, if there is one."""
        self._entries.pop(key, None)


@dataclass(slots=True)
class _Failing:
    first_at: float
    last_at: float
    is_alone: bool = False
    """Whether another post was taken between two of its failures"""


class Attempts:
    """Knows which posts fail, since when, and whether others were taken meanwhile."""

    def __init__(self, settings: AnnotationsSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._clock = clock
        self._failing: Recent[Key, _Failing] = Recent()
        self._taken_at = float("-inf")
        self._refused_runs: Recent[UUID, bool] = Recent()

    def has_failed(self, key: Key) -> bool:
        """Whether the post of ``key`` failed and was not taken since."""
        return self._failing.get(key) is not None

    def note_taken(self, key: Key) -> None:
        """Note that the service took the post of ``key``."""
        self._taken_at = self._clock()
        self._failing.drop(key)

    def note_away(self) -> None:
        """Forget all failures: the service cannot be connected to, so they say nothing about single posts."""
        self._failing = Recent()

    def error_after(self, key: Key, reason: str, *, is_callers: bool = False, is_elsewhere: bool = False) -> Exception:
        """Return the error of the post of ``key``, which failed now because of ``reason``.

        An AnnotationFailedError, which makes it a dead letter, once its time is over: annotations.retry_s when others
        are taken, or when the reason is the caller's token; annotations.give_up_s when not. Before it a transient one.
        ``is_elsewhere``: something else than the service has answered, so it is no dead letter while no other is taken.
        """
        now = self._clock()
        failing = self._failing.get(key)
        if failing is None:
            failing = _Failing(now, now)
        elif failing.last_at < self._taken_at:
            failing.is_alone = True
        failing.last_at = now
        self._failing.put(key, failing)
        names = ("retry_s",) if failing.is_alone or is_callers else ("give_up_s",)
        patience_s = float(getattr(self._settings, names[0]))
        if is_elsewhere and not failing.is_alone:
            patience_s = float("inf")
        if now - failing.first_at < patience_s:
            return AnnotationsUnavailableError(reason)
        self._failing.drop(key)
        others = "while others were taken" if failing.is_alone else "and no other was taken"
        error = AnnotationFailedError(
            f"{reason}; it was tried for {now - failing.first_at:.0f} s ({self._settings.named(*names)}) {others}"
        )
        return self.for_run(error, key[0]) if is_callers else error

    def for_run(self, error: RecordError, run: UUID) -> RecordError:
        """Return ``error``, whose cause is the token or the medium of ``run``; only the first one of a run counts.

        Otherwise the many frames of one video, whose medium the service does not know, would hold those of all others.
        """
        error.counts = self._refused_runs.get(run) is None
        self._refused_runs.put(run, True)
        return error
