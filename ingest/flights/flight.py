"""Describes a flight, what is wrong with its counts, and what a device may do with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Failure:
    """Counts the frames of a flight that failed for one reason; ``frames`` names some of them."""

    reason: str
    message: str
    count: int
    frames: tuple[UUID, ...]


@dataclass(frozen=True, slots=True)
class Flight:
    """Holds what is known of a flight at one moment."""

    flight_id: str
    opened_at: datetime
    announced: int | None = None
    """How many frames the device said that it would send"""
    closed_at: datetime | None = None
    count: int | None = None
    """How many frames the device said at the end that it has sent"""
    arrived: int = 0
    detected: int = 0
    failed: int = 0
    removed: int = 0
    """How many of those that arrived retention has removed since; they still count, as detected or failed"""
    failures: Sequence[Failure] = ()

    @property
    def expected(self) -> int | None:
        """How many frames there should be: the count at the end, else the announced one."""
        return self.count if self.count is not None else self.announced

    @property
    def waiting(self) -> int:
        """How many frames arrived and have no answer yet."""
        return self.arrived - self.detected - self.failed

    @property
    def missing(self) -> int | None:
        """How many frames did not arrive yet."""
        return None if self.expected is None else max(0, self.expected - self.arrived)

    @property
    def complete(self) -> bool:
        """Whether it is closed, all frames arrived, no more than counted, and each has an answer."""
        return self.count is not None and self.arrived == self.count and self.waiting == 0

    @property
    def problems(self) -> list[str]:
        """What does not fit together."""
        found = []
        if self.count is not None and self.announced is not None and self.count != self.announced:
            found.append(f"announced with {self.announced} {_frames(self.announced)}, closed with {self.count}")
        if self.expected is not None and self.arrived > self.expected:
            more = self.arrived - self.expected
            found.append(f"{more} more {_frames(more)} arrived than the {self.expected} counted")
        if self.count is not None and self.arrived < self.count:
            found.append(
                f"closed with {self.count} {_frames(self.count)}, but {self.count - self.arrived} did not arrive yet"
            )
        return found

    @property
    def summary(self) -> str:
        """One line for people."""
        of = "" if self.expected is None else f" of {self.expected}"
        parts = [f"{self.arrived}{of} arrived", f"{self.detected} detected"]
        if self.waiting:
            parts.append(f"{self.waiting} waiting")
        reasons = ", ".join(f"{failure.count} {failure.reason}" for failure in self.failures)
        parts.append(f"{self.failed} failed{f': {reasons}' if reasons else ''}")
        return ", ".join(parts)


def _frames(count: int) -> str:
    return "frame" if count == 1 else "frames"


class Flights(Protocol):
    """Keeps flights; each is one device's, and no call returns another device's.

    All raise DatabaseUnavailableError or RefusedError while the database cannot be used.
    """

    async def announce(self, device_id: str, flight_id: str, count: int) -> Flight:
        """Open a flight of ``count`` frames, or change the announced count; the same again changes nothing.

        Raises FlightClosedError when it is closed and was announced otherwise, TooManyFlightsError.
        """
        ...

    async def close(self, device_id: str, flight_id: str, count: int) -> Flight:
        """Close a flight, which had ``count`` frames; the same again changes nothing.

        Raises FlightClosedError when it was closed with another count.
        """
        ...

    async def get(self, device_id: str, flight_id: str) -> Flight | None:
        """Return a flight, or None when the device has none with this id."""
        ...

    async def newest(self, device_id: str, limit: int, before: str | None) -> list[Flight]:
        """Return at most ``limit`` flights, the newest first; with ``before``, those that follow that flight."""
        ...
