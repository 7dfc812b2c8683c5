"""Counts the time that retention uses: how long the machine has been running, which setting its clock does not change.

A record's timestamp is from the wall clock, which may be years wrong until a person sets it. So the file counts the
time itself: every round of cleaning adds the time that the machine has run since the round before. Time in which the
machine was off is not counted, because after a start it cannot be distinguished from a wrong clock. Records then stay
longer, never shorter.
"""

from __future__ import annotations

import sqlite3
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from infra.process.monotonic import monotonic_s

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_JUMP_MS = 60_000
"""A clock that moves by more than this between two rounds was set, not only corrected."""


@dataclass(frozen=True, slots=True)
class Clocks:
    """Holds the machine's clocks at one moment."""

    boot: str
    """The id of the machine's last start; empty where the system has none."""
    running_ms: int
    """The time since that start."""
    wall_ms: int


@dataclass(frozen=True, slots=True)
class Elapsed:
    """Holds the file's own count of time, after a round."""

    elapsed_ms: int
    jump_ms: int = 0
    """By how much the wall clock was set since the round before; 0 when it was not."""


def read_clocks() -> Clocks:
    """Read all clocks."""
    try:
        boot = _BOOT_ID.read_text().strip()
    except OSError:
        boot = ""
    return Clocks(boot, int(monotonic_s() * 1000), time.time_ns() // 1_000_000)


def advance(connection: sqlite3.Connection, now: Clocks) -> Elapsed:
    """Add the time since the last call, by any process, to the file's count; call it in a write transaction."""
    row = connection.execute("SELECT boot, running_ms, wall_ms, elapsed_ms FROM clock").fetchone()
    found = Elapsed(0) if row is None else _since(Clocks(*row[:3]), row[3], now)
    connection.execute(
        "INSERT OR REPLACE INTO clock VALUES (1, ?, ?, ?, ?)",
        (now.boot, now.running_ms, now.wall_ms, found.elapsed_ms),
    )
    return found


def _since(before: Clocks, elapsed_ms: int, now: Clocks) -> Elapsed:
    ran_ms = now.running_ms - before.running_ms
    if now.boot != before.boot or ran_ms < 0:
        return Elapsed(elapsed_ms)
    jump_ms = now.wall_ms - before.wall_ms - ran_ms
    return Elapsed(elapsed_ms + ran_ms, jump_ms if abs(jump_ms) > _JUMP_MS else 0)


def describe_jump(jump_ms: int) -> str:
    """Return a log text about a clock that was set."""
    way = "forward" if jump_ms > 0 else "back"
    return (
        f"the machine's clock was set {way} by {timedelta(seconds=abs(jump_ms) // 1000)}; retention deletes nothing "
        "because of it, as it uses the time the machine has been running, but the timestamps of records published "
        "before and after cannot be compared"
    )
