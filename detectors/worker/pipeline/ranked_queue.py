"""Passes work of frames between threads: that of live frames first, and that of others in the pauses between them."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from enum import IntEnum
from typing import Generic, TypeVar

T = TypeVar("T")

_LONGEST_HOLD_S = 1.0


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

    def __init__(self, most: int = 0) -> None:
        """At most ``most`` items wait, besides those that are held; 0: any number."""
        self._most = most
        self._waiting: dict[Rank, deque[tuple[float, T]]] = {rank: deque() for rank in Rank}
        self._running = 0
        self._is_held = False
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
            while (source := self._next()) is None:
                left_s = None if deadline is None else deadline - time.monotonic()
                if left_s is not None and left_s <= 0:
                    raise queue.Empty
                self._changed.wait(self._wait_s(left_s))
            self._running += 1
            self._changed.notify_all()
            return source.popleft()[1]

    def task_done(self) -> None:
        """Note that an item that was returned is finished."""
        with self._changed:
            self._running -= 1

    def hold_background(self, held: bool) -> None:
        """Begin or end to hold background items."""
        with self._changed:
            self._is_held = held
            self._changed.notify_all()

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    @property
    def has_unfinished(self) -> bool:
        """Whether an item waits that is not held, or was returned and is not finished."""
        with self._changed:
            return self._running + self._not_held() > 0

    def _is_full(self, rank: Rank) -> bool:
        """Whether an item of ``rank`` has to wait; not a held one, because its thread is needed for live frames."""
        if not self._most or (self._is_held and rank is Rank.BACKGROUND):
            return False
        return self._not_held() >= self._most

    def _not_held(self) -> int:
        return len(self) - (len(self._waiting[Rank.BACKGROUND]) if self._is_held else 0)

    def _next(self) -> deque[tuple[float, T]] | None:
        """Return where the next item is; None when there is none that is not held."""
        background = self._waiting[Rank.BACKGROUND]
        is_due = bool(background) and time.monotonic() - background[0][0] >= _LONGEST_HOLD_S
        if is_due or (background and not self._is_held and not self._waiting[Rank.LIVE]):
            return background
        if self._waiting[Rank.LIVE]:
            return self._waiting[Rank.LIVE]
        # The end comes after all that wait, also what is held.
        return self._waiting[Rank.END] if self._waiting[Rank.END] and not background else None

    def _wait_s(self, left_s: float | None) -> float | None:
        """Return how long to wait for a change: until the first item that is held is due, at most."""
        background = self._waiting[Rank.BACKGROUND]
        if not background:
            return left_s
        due_s = max(0.0, background[0][0] + _LONGEST_HOLD_S - time.monotonic()) + 0.001
        return due_s if left_s is None else min(left_s, due_s)
