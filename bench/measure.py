"""Compares two runs that take turns, by the median of the pairs of their rates."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

Run = Callable[[], Awaitable[float]]
"""One run; returns its rate (units per second)."""


@dataclass(frozen=True, slots=True)
class Compared:
    """Holds the rates of two runs that took turns, round by round."""

    ours: tuple[float, ...]
    bare: tuple[float, ...]

    @property
    def ratio(self) -> float:
        """Return the median over the rounds of ours / bare: a pause of the machine slows both of a round."""
        return median(one / other for one, other in zip(self.ours, self.bare, strict=True))

    @property
    def our_rate(self) -> float:
        """Return the median rate of ours."""
        return median(self.ours)

    @property
    def bare_rate(self) -> float:
        """Return the median rate of what ours is compared with."""
        return median(self.bare)


async def take_turns(ours: Run, bare: Run, rounds: int) -> Compared:
    """Run both ``rounds`` times, the first one alternating, after one round of each that does not count."""
    await bare()
    await ours()
    found: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds):
        if number % 2:
            found[0].append(await ours())
            found[1].append(await bare())
        else:
            found[1].append(await bare())
            found[0].append(await ours())
    return Compared(tuple(found[0]), tuple(found[1]))


def rate(count: int, start: float) -> float:
    """Return ``count`` per second since ``start`` (time.perf_counter)."""
    return count / (time.perf_counter() - start)


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that ``share`` (0 to 100) percent of ``values`` do not exceed. ValueError without values."""
    if not values:
        raise ValueError("nothing was measured, so there is no percentile")
    return float(np.percentile(np.asarray(values), share))
