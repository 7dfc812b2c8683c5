"""The gateway's time: its own clock, corrected by the broker's where the two differ too much."""

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
    """Compared with the broker's clock at each acknowledged publish, and carried on from there by a steady clock.

    So neither a clock that is wrong nor one that is set while the gateway runs gives frames a wrong time. Up to
    ``tolerance_s`` the own clock is taken as it is.
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
        """For a gateway without health reports."""
        return cls(Health().part("broker"))

    @property
    def compared(self) -> bool:
        """Whether a publish has shown, or could not show, how far apart the clocks are."""
        return self._compared

    @property
    def broker_ahead_s(self) -> float | None:
        """How far the broker's clock was ahead at the last publish that showed it."""
        return self._broker_ahead_s

    def set_broker_offset(self, broker_ahead_s: float | None) -> None:
        """Take over what a publish has shown just now (:meth:`Publisher.clock_ahead_s`)."""
        self._compared = True
        if broker_ahead_s is None:
            return
        self._broker_ahead_s = broker_ahead_s
        self._metric.set(broker_ahead_s)
        self._brokers_at = self._wall() + timedelta(seconds=broker_ahead_s), self._steady()
        self._report(broker_ahead_s)

    def now(self) -> datetime:
        """The time now, UTC: the own clock's unless it is too far from the broker's."""
        own, brokers = self._wall(), self._brokers()
        return own if abs((own - brokers).total_seconds()) <= self._tolerance_s else brokers

    def latest(self) -> datetime:
        """The later time of both clocks: what is after it is in the future, whichever of them is wrong."""
        return max(self._wall(), self._brokers())

    def _brokers(self) -> datetime:
        if self._brokers_at is None:
            return self._wall()
        moment, steady = self._brokers_at
        return moment + timedelta(seconds=self._steady() - steady)

    def _report(self, broker_ahead_s: float) -> None:
        """Keep the note in health up to date; the log has a line per change only."""
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
