"""Passes work of frames between threads: that of live frames first, and that of others in the pauses between them."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from enum import IntEnum
from typing import Generic, TypeVar

T = TypeVar("T")

LONGEST_HOLD_S = 1.0


class Rank(IntEnum):
    """Says which items come first."""

    LIVE = 0
    BACKGROUND = 1
    """Frames of jobs and backfill"""
    END = 2
    """After all that wait"""


class RankedQueue(Generic[T]):
    """Is a queue for several threads, in order of arrival for each rank.

    While background items are held, only those that waited for a second are passed on: a live frame between two of its
    passes must find the engine free, but a flood of live frames must not stop all others.
    """

    def __init__(self, most: int = 0, *, longest_hold_s: float = LONGEST_HOLD_S) -> None:
        """At most ``most`` items wait, besides those that are held; 0: any number.

        ``longest_hold_s``: a background item that waited so long is passed on although it should be held.
        """
        self._most = most
        self._longest_hold_s = longest_hold_s
        self._waiting: dict[Rank, deque[tuple[float, T]]] = {rank: deque() for rank in Rank}
        self._running: dict[Rank, int] = dict.fromkeys(Rank, 0)
        self._is_held = False
        self._is_single = False
        self._changed = threading.Condition()

    def put(self, item: T, rank: Rank) -> None:
        """Add ``item``; wait while the queue is full."""
        with self._changed:
            while self._is_full(rank):
                self._changed.wait()
            self._waiting[rank].append((time.monotonic(), item))
            self._changed.notify_all()

    def get(self, timeout_s: float | None = None) -> T:
        """Return the next item; wait for it. Raises queue.Empty after ``timeout_s``."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        with self._changed:
            while (rank := self._next()) is None:
                left_s = None if deadline is None else deadline - time.monotonic()
                if left_s is not None and left_s <= 0:
                    raise queue.Empty
                self._changed.wait(self._wait_s(left_s))
            self._running[rank] += 1
            self._changed.notify_all()
            return self._waiting[rank].popleft()[1]

    def task_done(self, rank: Rank) -> None:
        """Note that an item of ``rank`` that was returned is finished."""
        with self._changed:
            self._running[rank] -= 1
            self._changed.notify_all()

    def hold_background(self, held: bool) -> None:
        """Begin or end to hold background items."""
        with self._changed:
            self._is_held = held
            self._changed.notify_all()

    def run_one_background(self, single: bool) -> None:
        """Begin or end to pass on a background item only when all earlier ones are finished."""
        with self._changed:
            self._is_single = single
            self._changed.notify_all()

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    @property
    def has_unfinished(self) -> bool:
        """Whether an item waits that is not held, or was returned and is not finished."""
        with self._changed:
            return sum(self._running.values()) + self._not_held() > 0

    def _is_full(self, rank: Rank) -> bool:
        """Whether an item of ``rank`` has to wait; not a held one, because its thread is needed for live frames."""
        if not self._most or (self._is_held and rank is Rank.BACKGROUND):
            return False
        return self._not_held() >= self._most

    def _not_held(self) -> int:
        return len(self) - (len(self._waiting[Rank.BACKGROUND]) if self._is_held else 0)

    def _next(self) -> Rank | None:
        """Return the rank of the next item; None when there is none that may be passed on."""
        background = self._waiting[Rank.BACKGROUND]
        may_run = bool(background) and not (self._is_single and self._running[Rank.BACKGROUND])
        if may_run and time.monotonic() - background[0][0] >= self._longest_hold_s:
            return Rank.BACKGROUND
        if self._waiting[Rank.LIVE]:
            return Rank.LIVE
        if background:
            # The end comes after all that wait, also what is held.
            return Rank.BACKGROUND if may_run and not self._is_held else None
        return Rank.END if self._waiting[Rank.END] else None

    def _wait_s(self, left_s: float | None) -> float | None:
        """Return how long to wait for a change: until the first item that is held is due, at most."""
        background = self._waiting[Rank.BACKGROUND]
        if not background:
            return left_s
        if self._is_single and self._running[Rank.BACKGROUND]:
            # The end of the one that runs is a change.
            return left_s
        due_s = max(0.0, background[0][0] + self._longest_hold_s - time.monotonic()) + 0.001
        return due_s if left_s is None else min(left_s, due_s)
