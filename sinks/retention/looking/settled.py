"""Finds the time before which all consumer groups have read every event about frames, and what was made of it.

A frame event that the detector has read becomes a detections event, which the sinks have yet to read. So it is not
enough that every group has read what was published before a time H. This is: at a time S, all had read what was
published before H; later, at T, all had read what was published before S. What was made of the events before H was
published before S. A sink that has read that may publish, too (the commits of the archive); so all must have read what
was published before T as well.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from infra.broker.port import Admin, GroupState
from infra.database.pool import Database
from infra.process.monotonic import monotonic_s
from schemas.timestamps import utc_now
from schemas.topics import ARCHIVE_COMMITS, DETECTIONS, FRAME_TOPICS, FRAMES_DEAD, REDRIVE, SINKS_DEAD

_TOPICS = frozenset((*FRAME_TOPICS, DETECTIONS, ARCHIVE_COMMITS, FRAMES_DEAD, SINKS_DEAD, REDRIVE))
"""Topics whose events name pictures."""
CLOCKS_DIFFER = timedelta(seconds=60)
"""How far the broker's clock may be from this machine's."""
_LOOK_EVERY_S = 0.5
_STEPS = 2
_KEPT = 200
_STORE = "INSERT INTO retention_snapshots (taken_at, read_before) VALUES ($1, $2) ON CONFLICT DO NOTHING"
_FORGET = """
DELETE FROM retention_snapshots WHERE taken_at < (
    SELECT min(taken_at) FROM (SELECT taken_at FROM retention_snapshots ORDER BY taken_at DESC LIMIT $1) AS newest)
"""
_LATEST = """
SELECT max(read_before) FROM retention_snapshots
WHERE taken_at < (SELECT max(read_before) FROM retention_snapshots WHERE taken_at < $1) - $2::interval
"""


@dataclass(frozen=True, slots=True)
class Reading:
    """Says how far the groups have read at one moment."""

    taken_at: datetime
    groups: int
    """How many read topics whose events name pictures"""
    read_before: datetime | None
    """All have read what was published before; None: they have read everything"""
    slowest: str = ""
    """The group that is furthest behind"""

    def has_passed(self, moment: datetime) -> bool:
        """Whether all have read what was published until ``moment``."""
        return self.read_before is None or self.read_before > moment + CLOCKS_DIFFER


@dataclass(frozen=True, slots=True)
class Settled:
    """Says before which time everything was read; ``before`` is None while that is not known, and ``why`` says why."""

    before: datetime | None
    why: str = ""


def reading_of(states: Sequence[GroupState], taken_at: datetime) -> Reading:
    """Return how far the groups in ``states`` have read."""
    readers = [state for state in states if _TOPICS.intersection(state.topics)]
    behind = [(state.oldest_unread_ms, state.name) for state in readers if state.oldest_unread_ms is not None]
    if not behind:
        return Reading(taken_at, len(readers), None)
    oldest_ms, name = min(behind)
    return Reading(taken_at, len(readers), datetime.fromtimestamp(oldest_ms / 1000, UTC), name)


async def take_snapshot(admin: Admin, database: Database) -> Reading:
    """Read how far the groups are, and keep it for later runs."""
    reading = reading_of(await admin.groups(), utc_now())
    if reading.groups:
        async with database.acquire(writing=True) as connection:
            await connection.execute(_STORE, reading.taken_at, _read_before(reading))
            await connection.execute(_FORGET, _KEPT)
    return reading


async def settled_before(
    admin: Admin, database: Database, *, wait_s: float, tell: Callable[[str], None] = lambda text: None
) -> Settled:
    """Return the time; wait at most ``wait_s`` for groups that read at this moment, and ``tell`` once for which one."""
    first = reading_of(await admin.groups(), utc_now())
    if not first.groups:
        return Settled(None, "no consumer group has read a frame yet, so no frame is known to be read by all")
    until_s = monotonic_s() + wait_s
    moment, steps, told = first.taken_at, 0, False
    while True:
        latest = reading_of(await admin.groups(), utc_now())
        if latest.has_passed(moment):
            moment, steps = latest.taken_at, steps + 1
            if steps == _STEPS:
                return Settled(_read_before(first))
        elif monotonic_s() >= until_s:
            break
        else:
            if not told:
                tell(f"waiting for the consumer group {latest.slowest}, at most {wait_s:g} s")
                told = True
            await asyncio.sleep(_LOOK_EVERY_S)
    assert latest.read_before is not None
    async with database.acquire() as connection:
        before: datetime | None = await connection.fetchval(_LATEST, latest.read_before - CLOCKS_DIFFER, CLOCKS_DIFFER)
    return Settled(before, _why(latest))


def _read_before(reading: Reading) -> datetime:
    everything = reading.taken_at - CLOCKS_DIFFER
    return everything if reading.read_before is None else min(everything, reading.read_before)


def _why(reading: Reading) -> str:
    assert reading.read_before is not None
    return (
        f"the consumer group {reading.slowest} has not read events since {reading.read_before:%Y-%m-%d %H:%M:%S} UTC; "
        "wait when it gathers a batch, as the archive does for up to lakefs.batch_timeout_s; start its consumers "
        "when they do not run; delete only a group that nobody needs any more (standgale topics forget-group)"
    )
