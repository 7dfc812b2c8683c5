"""A clock that only runs forward: measures spans of time while the wall clock jumps and the machine sleeps."""

from __future__ import annotations

import time

# On Linux CLOCK_MONOTONIC stops while the machine sleeps; on macOS it goes on.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def monotonic_s() -> float:
    """Seconds since some moment in the past; only differences mean anything."""
    return time.clock_gettime(_CLOCK)
