"""Chooses between live frames and the backlog."""

from __future__ import annotations

from ingest.edge.spool.entry import Entry


class Turns:
    """Sends live frames first, and gives the backlog its share of the bytes while live frames wait.

    Within live frames and within the backlog the order is that of arrival.
    """

    def __init__(self, backlog_share: float) -> None:
        self._per_live_byte = backlog_share / (1 - backlog_share)
        self._credit = 0.0

    def choose(self, live: Entry | None, backlog: Entry | None) -> Entry | None:
        """Return the frame to send now."""
        if live is None or backlog is None:
            return live or backlog
        return backlog if self._per_live_byte and self._credit >= backlog.size_bytes else live

    def sent(self, entry: Entry, live: Entry | None, backlog: Entry | None) -> None:
        """Note that ``entry`` was sent while ``live`` and ``backlog`` were the first of their turns."""
        if live is None or backlog is None:
            self._credit = 0.0
        elif entry is live:
            gained = entry.size_bytes * self._per_live_byte
            # More than the next frame needs is not saved up.
            self._credit = min(self._credit + gained, backlog.size_bytes + gained)
        else:
            self._credit -= entry.size_bytes
