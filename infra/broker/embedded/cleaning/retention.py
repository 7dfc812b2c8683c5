"""Runs the rounds of cleaning for one process, and reports clocks that were set and groups that retain old records."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable, Mapping

from infra.broker.embedded.cleaning.cleaning_round import RetainedForGroup, clean
from infra.broker.embedded.cleaning.clock import Clocks, advance, describe_jump, read_clocks
from infra.broker.metrics import RETENTION_HELD

_WARNING_INTERVAL_S = 3600.0
"""Between two warnings about the same group."""

logger = logging.getLogger(__name__)


class Retention:
    """Cleans in the writer's transactions; used by the writer's thread only."""

    def __init__(self, clocks: Callable[[], Clocks] = read_clocks) -> None:
        self._clocks = clocks
        self._warned_at: dict[str, float] = {}
        self._jump_ms = 0
        self._retained: Mapping[str, RetainedForGroup] | None = None

    def work(self, connection: sqlite3.Connection) -> bool:
        """Clean for one round, in a write transaction; return whether there is more to do."""
        elapsed = advance(connection, self._clocks())
        cleaned = clean(connection, elapsed.elapsed_ms)
        self._jump_ms = elapsed.jump_ms
        self._retained = None if cleaned.more else cleaned.retained
        return cleaned.more

    def report(self) -> None:
        """Log and count the result of the last round; call it after the round is committed."""
        if self._jump_ms:
            logger.warning(describe_jump(self._jump_ms))
        if self._retained is None:
            return
        for group in self._warned_at.keys() - self._retained.keys():
            RETENTION_HELD.labels(group).set(0)
            del self._warned_at[group]
        for group, retained in self._retained.items():
            RETENTION_HELD.labels(group).set(retained.records)
            self._warn(group, retained)

    def _warn(self, group: str, retained: RetainedForGroup) -> None:
        now = time.monotonic()
        if now - self._warned_at.get(group, float("-inf")) < _WARNING_INTERVAL_S:
            return
        self._warned_at[group] = now
        logger.warning(
            "group %s has not committed %d records (about %.1f MB) that are past their retention; they stay until it "
            "does. Start its consumers, or, if the group is no longer in use, run: standgale topics forget-group %s",
            group,
            retained.records,
            retained.size_bytes / 1e6,
            group,
        )
