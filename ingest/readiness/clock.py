"""Gives the gateway's time: this machine's clock, or the broker's where the two differ too much."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime, timedelta

from infra.process.health import Health, HealthPart
from infra.process.monotonic import monotonic_s
from ingest.metrics import CLOCK_AHEAD
from schemas.timestamps import utc_now

logger = logging.getLogger(__name__)

_NOTE = "clock"
_TOLERANCE_S = 5.0


class GatewayClock:
    """Compares the clocks at each acknowledged publish, and continues the broker's time with a monotonic clock.

    So frames get the right time also when this machine's clock is wrong or is set while the gateway runs. Up to a
    difference of ``tolerance_s`` this machine's clock is used.
    """

    def __init__(
        self,
        part: HealthPart,
        *,
        tolerance_s: float = _TOLERANCE_S,
        wall: Callable[[], datetime] = utc_now,
        steady: Callable[[], float] = monotonic_s,
    ) -> None:
        self._part = part
        self._tolerance_s = tolerance_s
        self._wall = wall
        self._steady = steady
        self._compared = False
        self._broker_ahead_s: float | None = None
        self._brokers_at: tuple[datetime, float] | None = None
        self._direction: str | None = None
        self._metric = CLOCK_AHEAD.labels("broker")

    @classmethod
    def without_broker(cls) -> GatewayClock:
        """Make a clock for a gateway without health reports."""
        return cls(Health().part("broker"))

    @property
    def compared(self) -> bool:
        """Whether a publish has compared the clocks, with or without a result."""
        return self._compared

    @property
    def broker_ahead_s(self) -> float | None:
        """How far the broker's clock was ahead at the last comparison with a result."""
        return self._broker_ahead_s

    def set_difference(self, broker_ahead_s: float | None) -> None:
        """Use the result of the last publish (:meth:`Publisher.clock_ahead_s`)."""
        self._compared = True
        if broker_ahead_s is None:
            return
        self._broker_ahead_s = broker_ahead_s
        self._metric.set(broker_ahead_s)
        self._brokers_at = self._wall() + timedelta(seconds=broker_ahead_s), self._steady()
        self._report(broker_ahead_s)

    def now(self) -> datetime:
        """Return the time now, UTC: this machine's unless it is too far from the broker's."""
        own, brokers = self._wall(), self._brokers()
        return own if abs((own - brokers).total_seconds()) <= self._tolerance_s else brokers

    def latest(self) -> datetime:
        """Return the later time of both clocks; a time after it is in the future even if one clock is wrong."""
        return max(self._wall(), self._brokers())

    def _brokers(self) -> datetime:
        if self._brokers_at is None:
            return self._wall()
        moment, steady = self._brokers_at
        return moment + timedelta(seconds=self._steady() - steady)

    def _report(self, broker_ahead_s: float) -> None:
        """Update the note in health; log only changes."""
        wrong = abs(broker_ahead_s) > self._tolerance_s
        if not wrong and self._direction is None:
            return
        direction = ("behind" if broker_ahead_s > 0 else "ahead of") if wrong else None
        words = f"this machine's clock is {abs(broker_ahead_s):.0f} s {direction} the broker's"
        self._part.set_note(_NOTE, f"{words}; the broker's is used" if wrong else None)
        if direction == self._direction:
            return
        self._direction = direction
        if wrong:
            logger.warning("%s: frames get the broker's time; set the clock of this machine or of the broker", words)
        else:
            logger.info("the clocks of this machine and the broker agree again")
