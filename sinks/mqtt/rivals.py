"""Finds out that another process connects with the same client id, so that each ends the connection of the other."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable

from infra.process.health import HealthPart

logger = logging.getLogger(__name__)

_MOST_ENDS = 3
_WITHIN_S = 60.0
_WHAT = "keeping the connection"


class Rivals:
    """Counts connections that ended as they do when the broker gives their name to another process.

    Events get through all the same, between two ends, so no write fails for long enough to be seen: the part is not
    ready from the third end within a minute until a minute has passed without one.
    """

    def __init__(self, health: HealthPart | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._health = health
        self._clock = clock
        self._ends: deque[float] = deque(maxlen=_MOST_ENDS)
        self._reported = False

    def note_end(self, reason: str) -> None:
        """Count a connection that ended for ``reason``, or a look at one that is not made again because of it."""
        self._forget_old()
        self._ends.append(self._clock())
        if len(self._ends) < _MOST_ENDS:
            return
        text = f"connections end again and again: {reason}"
        if self._health is not None:
            self._health.set_waiting(_WHAT, text)
        if not self._reported:
            logger.warning("%s", text)
        self._reported = True

    def note_no_broker(self) -> None:
        """Forget the ends, because the broker took no new connection: it was away, and gave the name to nobody."""
        self._ends.clear()

    def look(self) -> None:
        """Report that the connection is kept, after a minute without an end."""
        self._forget_old()
        if self._reported and not self._ends:
            self._reported = False
            logger.info("the connection to the MQTT broker is kept again")
            if self._health is not None:
                self._health.clear_waiting(_WHAT)

    def _forget_old(self) -> None:
        while self._ends and self._clock() - self._ends[0] > _WITHIN_S:
            self._ends.popleft()
