"""A clock that nobody sets: for spans of time that must hold when the wall clock jumps and when the machine sleeps."""

from __future__ import annotations

import time

# On Linux the ordinary monotonic clock stands still while the machine sleeps; on macOS this one does not.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def steady_s() -> float:
    """Seconds since some moment in the past; only differences mean anything."""
    return time.clock_gettime(_CLOCK)
