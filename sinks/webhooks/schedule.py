"""Says when a delivery that failed is tried again: over a day, at growing distances, with some chance in each."""

from __future__ import annotations

from datetime import timedelta
from random import uniform

DELAYS_S: tuple[float, ...] = (5, 60, 300, 1_800, 7_200, 18_000, 28_800, 36_000)
"""After the first attempt, the second, …: those that Standard Webhooks recommends; 26 hours in all."""
MAX_ATTEMPTS = len(DELAYS_S) + 1
_MOST_ASKED_S = 3_600.0


def delay_after(attempts: int, asked_s: float | None = None) -> timedelta | None:
    """Return how long to wait after ``attempts`` attempts; None when it was the last one.

    ``asked_s``: what the receiver asked for (Retry-After); a longer wait than our own is granted, up to an hour.
    """
    if attempts >= MAX_ATTEMPTS:
        return None
    delay_s = DELAYS_S[attempts - 1] * uniform(0.9, 1.1)  # noqa: S311 (spreads load, guards nothing)
    if asked_s is not None:
        delay_s = max(delay_s, min(asked_s, _MOST_ASKED_S))
    return timedelta(seconds=delay_s)
