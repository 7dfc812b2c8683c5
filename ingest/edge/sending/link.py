"""Follows whether the gateway takes frames: for the status, and for one log line at each change."""

from __future__ import annotations

import logging

from infra.process.monotonic import monotonic_s
from infra.texts import counted
from ingest.edge.sending.responses import NotSent
from schemas.timestamps import format_utc, utc_now

logger = logging.getLogger(__name__)


class Link:
    """Holds the state between this device and the gateway."""

    def __init__(self) -> None:
        self.problem: str | None = None
        """Why frames are not sent now; None while they are, or before the first upload."""
        self.last_sent_at: str | None = None
        self.last_error: str | None = None
        self.last_error_at: str | None = None
        self._code: str | None = None
        self._since_s = 0.0

    def responded(self, waiting: int, *, accepted: bool) -> None:
        """Note that the gateway accepted or refused a frame; ``waiting`` frames are still in the queue."""
        if accepted:
            self.last_sent_at = format_utc(utc_now())
        if self.problem is not None:
            outage_s = monotonic_s() - self._since_s
            logger.info("the gateway takes frames again after %.0f s; %s to send", outage_s, counted(waiting, "frame"))
            self.problem = self._code = None

    def failed(self, outcome: NotSent, waiting: int) -> None:
        """Note that a frame was not sent."""
        if self.problem is None:
            self._since_s = monotonic_s()
        self.problem = self.last_error = outcome.reason
        self.last_error_at = format_utc(utc_now())
        if outcome.code != self._code:
            self._code = outcome.code
            level = logging.ERROR if outcome.needs_person else logging.WARNING
            # Further failures of the same kind are in the status only: an outage must not fill the disk with logs.
            logger.log(
                level,
                "%s; it is tried again, and frames are kept (%s in the spool)",
                outcome.reason,
                counted(waiting, "frame"),
                extra={"code": outcome.code},
            )
