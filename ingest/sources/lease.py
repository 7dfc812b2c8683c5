"""Knows for how long this process has a source, by a clock that goes on while process or machine are suspended."""

from __future__ import annotations

from collections.abc import Callable

from infra.process.monotonic import monotonic_s
from ingest.sources.errors import LeaseLostError

_MARGIN = 0.1
"""The share of a lease that is not used: two clocks differ a little, and a publish is on its way for a moment."""


class Lease:
    """Is the right to pull one source; every frame asks it before it is published."""

    def __init__(self, source: str, number: int, *, clock: Callable[[], float] = monotonic_s) -> None:
        """Hold the lease ``number`` of ``source``, which ends at once unless it is extended."""
        self.source = source
        self.number = number
        self._clock = clock
        self._until_s = clock()

    def extend(self, asked_at_s: float, lease_s: float) -> None:
        """Count ``lease_s`` from ``asked_at_s``, when the database was asked: it counts from a later moment."""
        self._until_s = max(self._until_s, asked_at_s + lease_s * (1 - _MARGIN))

    def end(self) -> None:
        """Give the lease up."""
        self._until_s = self._clock()

    def remaining_s(self) -> float:
        """Return for how long the source is still this process's; 0 or less: no longer."""
        return self._until_s - self._clock()

    def require(self) -> None:
        """Raise LeaseLostError unless the source is still this process's."""
        late_s = -self.remaining_s()
        if late_s >= 0:
            raise LeaseLostError(
                f"source {self.source}: its lease ended {late_s:.1f} s ago (sources.lease_s), because it could not be "
                "renewed or this process stood still; another process may pull it now"
            )
