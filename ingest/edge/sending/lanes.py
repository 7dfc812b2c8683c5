"""Chooses between live frames and the backlog."""

from __future__ import annotations

from ingest.edge.spool.spool import Entry

_MOST_CREDIT_FRAMES = 4


class Lanes:
    """Gives live frames the way, and the backlog its share of the bytes while live frames wait.

    Within live frames and within the backlog the order is that of arrival.
    """

    def __init__(self, backlog_share: float) -> None:
        self._per_live_byte = backlog_share / (1 - backlog_share)
        self._credit = 0.0

    def choose(self, live: Entry | None, backlog: Entry | None) -> Entry | None:
        """Return the frame to send now."""
        if live is None or backlog is None:
            return live or backlog
        return backlog if self._credit >= backlog.size_bytes else live

    def sent(self, entry: Entry, *, is_live: bool, both_wait: bool) -> None:
        """Note that ``entry`` was sent; ``both_wait``: frames of the other lane waited meanwhile."""
        if not both_wait:
            self._credit = 0.0
        elif is_live:
            gained = entry.size_bytes * self._per_live_byte
            self._credit = min(self._credit + gained, max(_MOST_CREDIT_FRAMES * entry.size_bytes, self._credit))
        else:
            self._credit -= entry.size_bytes
