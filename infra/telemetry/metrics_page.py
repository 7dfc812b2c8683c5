"""Renders the page of the Prometheus metrics, for everybody who asks at most a few times a second."""

from __future__ import annotations

import time

from prometheus_client import generate_latest

_PER_SECOND = 4


class MetricsPage:
    """Keeps the page that was rendered last, because rendering takes the event loop some milliseconds.

    Up to four requests a second get a new page; others in that second get the last one.
    """

    def __init__(self) -> None:
        self._page = b""
        self._rendered_at: list[float] = []

    def render(self) -> bytes:
        """Return the page."""
        now = time.monotonic()
        self._rendered_at = [moment for moment in self._rendered_at if now - moment < 1.0]
        if len(self._rendered_at) < _PER_SECOND:
            self._rendered_at.append(now)
            self._page = generate_latest()
        return self._page
