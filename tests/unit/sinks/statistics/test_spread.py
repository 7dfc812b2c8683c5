"""Times are counted in buckets: sums are exact, and percentiles at most a tenth too high."""

from __future__ import annotations

import random
from functools import reduce

import pytest

from sinks.statistics.spread import Times, times_of


@pytest.mark.parametrize("scale", [50, 5_000, 5_000_000])
def test_percentiles_are_at_most_a_tenth_too_high(scale: int) -> None:
    rng = random.Random(scale)
    times = [rng.randrange(scale) for _ in range(2_000)]
    spread = reduce(Times.plus, (times_of(times[start : start + 7]) for start in range(0, 2_000, 7))).spread()
    ordered = sorted(times)
    assert spread.mean_ms == round(sum(times) / len(times), 1)
    assert spread.max_ms == ordered[-1]
    for found, percent in ((spread.p50_ms, 50), (spread.p95_ms, 95), (spread.p99_ms, 99)):
        right = ordered[len(ordered) * percent // 100 - 1]
        assert right <= found <= right * 1.1 + 1


def test_times_beyond_all_buckets_are_reported_as_their_maximum() -> None:
    years = 10**11
    spread = times_of([0]).plus(times_of([years])).spread()
    assert (spread.p50_ms, spread.p99_ms, spread.max_ms) == (0, years, years)
