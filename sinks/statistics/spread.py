"""Counts times in buckets, so that percentiles of several parts can be combined, in any order."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from schemas.statistics_events import Spread


def _bucket_bounds() -> tuple[int, ...]:
    """Return the upper bounds in milliseconds: each is a tenth above the one before, up to about a month."""
    bounds, bound = [0], 1
    while bound < 3_000_000_000:
        bounds.append(bound)
        bound = max(bound + 1, bound * 11 // 10)
    return tuple(bounds)


_BOUNDS = _bucket_bounds()


@dataclass(frozen=True, slots=True)
class Times:
    """Holds the times of some frames."""

    sum_ms: int = 0
    max_ms: int = 0
    buckets: Mapping[int, int] = field(default_factory=dict)
    """How many times are in each bucket that is not empty"""

    def plus(self, other: Times) -> Times:
        """Return the times of both."""
        both = Counter(self.buckets)
        both.update(other.buckets)
        return Times(self.sum_ms + other.sum_ms, max(self.max_ms, other.max_ms), dict(both))

    def spread(self) -> Spread:
        """Return what is reported of them; there must be at least one."""
        count = sum(self.buckets.values())
        return Spread(
            mean_ms=round(self.sum_ms / count, 1),
            p50_ms=self._percentile(count, 50),
            p95_ms=self._percentile(count, 95),
            p99_ms=self._percentile(count, 99),
            max_ms=self.max_ms,
        )

    def _percentile(self, count: int, percent: int) -> int:
        """Return the upper bound of the bucket in which the time at ``percent`` of them, from the shortest on, lies."""
        wanted = -(-count * percent // 100)
        places = sorted(self.buckets)
        for place, until in zip(places, accumulate(self.buckets[each] for each in places), strict=True):
            if until >= wanted and place < len(_BOUNDS):
                return min(_BOUNDS[place], self.max_ms)
        return self.max_ms


def bucket_of(time_ms: int) -> int:
    """Return the number of the bucket of ``time_ms``; what is longer than all bounds is in one of its own."""
    return bisect_left(_BOUNDS, time_ms)


def times_of(times_ms: Sequence[int]) -> Times:
    """Return the times of some frames, at least one."""
    return Times(sum(times_ms), max(times_ms), dict(Counter(map(bucket_of, times_ms))))
