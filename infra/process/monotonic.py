"""Measures durations with a clock that only goes forward, also while the machine sleeps."""

from __future__ import annotations

import time

# On Linux CLOCK_MONOTONIC stops while the machine sleeps; on macOS it does not.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def monotonic_s() -> float:
    """Return seconds since an unknown moment; only differences have a meaning."""
    return time.clock_gettime(_CLOCK)
