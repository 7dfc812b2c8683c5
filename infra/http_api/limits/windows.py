"""Keeps the counts of sliding windows for the library ``limits``, in bounded memory and at a constant cost.

The library's own memory storage keeps every key until a thread has looked through all of them: with a million
addresses that would stop the gateway again and again.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from math import floor

from limits.storage import SlidingWindowCounterSupport, Storage


@dataclass(slots=True)
class _Window:
    """Holds the counts of one key in the present window and in the one before."""

    number: int
    current: int = 0
    previous: int = 0


class BoundedWindows(Storage, SlidingWindowCounterSupport):
    """Counts for at most ``most`` keys; beyond that the keys that were counted least recently are forgotten.

    Windows follow a monotonic clock. Of the window before, that share counts which is still within the time of a rate.
    """

    STORAGE_SCHEME = None

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._most = most
        self._clock = clock
        self._windows: OrderedDict[str, _Window] = OrderedDict()

    def __len__(self) -> int:
        return len(self._windows)

    def acquire_sliding_window_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        """Count ``amount`` and return True, or return False when that would be more than ``limit``."""
        window, previous_ttl, _ = self._window(key, expiry)
        if floor(window.previous * previous_ttl / expiry + window.current) + amount > limit:
            return False
        window.current += amount
        self._windows[key] = window
        self._windows.move_to_end(key)
        if len(self._windows) > self._most:
            self._windows.popitem(last=False)
        return True

    def get_sliding_window(self, key: str, expiry: int) -> tuple[int, float, int, float]:
        """Return count and seconds to live of the window before, then of the present one."""
        window, previous_ttl, current_ttl = self._window(key, expiry)
        return window.previous, previous_ttl, window.current, current_ttl

    def clear_sliding_window(self, key: str, expiry: int) -> None:
        """Forget ``key``."""
        self.clear(key)

    def _window(self, key: str, expiry: int) -> tuple[_Window, float, float]:
        now = self._clock()
        number, elapsed_s = int(now // expiry), now % expiry
        window = self._windows.get(key) or _Window(number)
        if window.number != number:
            window.previous = window.current if window.number == number - 1 else 0
            window.current, window.number = 0, number
        return window, expiry - elapsed_s, 2 * expiry - elapsed_s

    @property
    def base_exceptions(self) -> tuple[type[Exception], ...]:
        """The errors of the storage: none, it is memory."""
        return ()

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        """Count ``amount`` without a limit."""
        window, *_ = self._window(key, expiry)
        window.current += amount
        self._windows[key] = window
        return window.current

    def get(self, key: str) -> int:
        """Return what the last window of ``key`` has counted."""
        window = self._windows.get(key)
        return 0 if window is None else window.current

    def get_expiry(self, key: str) -> float:
        """Return the time now: a key has no end of its own."""
        return self._clock()

    def check(self) -> bool:
        """Return True: memory is always there."""
        return True

    def reset(self) -> int:
        """Forget all keys, and return how many there were."""
        count = len(self._windows)
        self._windows.clear()
        return count

    def clear(self, key: str) -> None:
        """Forget ``key``."""
        self._windows.pop(key, None)
