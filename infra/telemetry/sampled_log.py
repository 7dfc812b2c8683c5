"""Logs events that clients can cause at will: some lines of each kind, then their number."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from contextvars import Context
from dataclasses import dataclass

_MOST_KINDS = 1_000


@dataclass(slots=True)
class _Window:
    """Counts the events of one kind within one interval."""

    until: float
    level: int
    shown: int = 0
    left_out: int = 0


class SampledLog:
    """Writes at most ``burst`` lines of a kind within ``every_s``, and at the end how many more there were.

    So a flood of requests neither fills a disk nor takes the time of the event loop, and its size is in the log.
    """

    def __init__(self, logger: logging.Logger, *, burst: int = 5, every_s: float = 10.0) -> None:
        self._logger = logger
        self._burst = burst
        self._every_s = every_s
        self._windows: dict[str, _Window] = {}

    def log(
        self,
        level: int,
        kind: str,
        message: str,
        *values: object,
        extra: Mapping[str, object] | None = None,
        error: BaseException | None = None,
    ) -> None:
        """Write one line, or count it when ``kind`` has had its lines; call it in an event loop."""
        if not self._logger.isEnabledFor(level):
            return
        now = time.monotonic()
        window = self._windows.get(kind)
        if window is None or now >= window.until:
            self._end(kind)
            if len(self._windows) >= _MOST_KINDS:
                kind = "other"
            window = self._windows[kind] = _Window(now + self._every_s, level)
        if window.shown < self._burst:
            window.shown += 1
            self._logger.log(level, message, *values, extra=dict(extra or {}), exc_info=error)
            return
        window.left_out += 1
        if window.left_out == 1:
            # In an empty context, or the line would carry the ids of one request.
            asyncio.get_running_loop().call_later(self._every_s, self._end, kind, context=Context())

    def _end(self, kind: str) -> None:
        window = self._windows.pop(kind, None)
        if window is not None and window.left_out:
            self._logger.log(
                window.level,
                "%s: %d more like this in %g s, not logged one by one",
                kind,
                window.left_out,
                self._every_s,
                extra={"left_out": window.left_out},
            )
