"""Runs the rounds of cleaning for one process, and reports what they find: clocks that were set, groups that hold."""

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
    """Cleans in the writer's transactions; only the writer's thread uses it."""

    def __init__(self, clocks: Callable[[], Clocks] = read_clocks) -> None:
        self._clocks = clocks
        self._warned_at: dict[str, float] = {}
        self._jump_ms = 0
        self._held: Mapping[str, RetainedForGroup] | None = None

    def work(self, connection: sqlite3.Connection) -> bool:
        """Clean for one round, in a write transaction; True when there is more to do."""
        elapsed = advance(connection, self._clocks())
        cleaned = clean(connection, elapsed.elapsed_ms)
        self._jump_ms = elapsed.jump_ms
        self._held = None if cleaned.more else cleaned.held
        return cleaned.more

    def report(self) -> None:
        """Log and count what the last round found; call it once the round is committed."""
        if self._jump_ms:
            logger.warning(describe_jump(self._jump_ms))
        if self._held is None:
            return
        for group in self._warned_at.keys() - self._held.keys():
            RETENTION_HELD.labels(group).set(0)
            del self._warned_at[group]
        for group, held in self._held.items():
            RETENTION_HELD.labels(group).set(held.records)
            self._warn(group, held)

    def _warn(self, group: str, held: RetainedForGroup) -> None:
        now = time.monotonic()
        if now - self._warned_at.get(group, float("-inf")) < _WARNING_INTERVAL_S:
            return
        self._warned_at[group] = now
        logger.warning(
            "group %s has not committed %d records (about %.1f MB) that are past their retention; they stay until it "
            "has. Start its consumers, or, if the group is no longer in use, run: standgale topics forget-group %s",
            group,
            held.records,
            held.size_bytes / 1e6,
            group,
        )
