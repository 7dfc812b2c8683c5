"""Keeps sources and their leases in PostgreSQL; all times are the database's, so no clock of a process matters."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import asyncpg
import orjson

from infra.database.clock_tests import is_ahead
from infra.database.pool import Connection, Database
from infra.database.results import rows_changed
from infra.database.transaction import transaction
from ingest.sources.errors import SourceError
from schemas.event_base import DEVICE_ID_PATTERN

_NAME_MAX = 100
_NAME = re.compile(DEVICE_ID_PATTERN)
MOST_SOURCES = 10_000
"""In one database; every process reads their number each time it looks."""

_ADD = """
INSERT INTO video_sources (name, device_id, address, has_login, options) VALUES ($1, $2, $3, $4, $5)
"""
# A holder that is alive gives the source up itself, so that no other pulls it at the same time.
_REMOVE = "UPDATE video_sources SET removed_at = coalesce(removed_at, clock_timestamp()) WHERE name = $1"
_CLEAN = """
DELETE FROM video_sources WHERE name IN (
    SELECT name FROM video_sources
    WHERE removed_at IS NOT NULL AND (holder IS NULL OR lease_until <= clock_timestamp())
    ORDER BY name FOR UPDATE SKIP LOCKED
)
"""
_LIST = """
SELECT name, device_id, address, has_login, options, created_at, removed_at, holder, lease_until, state, reason, counts,
       lag_s, began_at, accepted_at, reported_at, coalesce(lease_until > clock_timestamp(), false) AS is_held,
       extract(epoch FROM clock_timestamp() - reported_at)::float8 AS report_age_s
FROM video_sources ORDER BY name
"""
_JOIN = """
INSERT INTO video_pullers (puller, joined_at, alive_until)
VALUES ($1, clock_timestamp(), clock_timestamp() + $2 * interval '1 second')
ON CONFLICT (puller) DO UPDATE SET alive_until = EXCLUDED.alive_until,
    -- One that was away for longer joins anew: those that were there keep what they have.
    joined_at = CASE WHEN video_pullers.alive_until > clock_timestamp() THEN video_pullers.joined_at
        ELSE EXCLUDED.joined_at END
"""
_LEAVE = "DELETE FROM video_pullers WHERE puller = $1"
_LONGEST = "greatest(10 * $1 * interval '1 second', '2 hours')"
# After the clock of the database was set back; who is alive renews them in time.
_BRING_BACK_PULLERS = f"""
UPDATE video_pullers SET alive_until = clock_timestamp() + $1 * interval '1 second'
WHERE {is_ahead("alive_until", _LONGEST)}
"""  # noqa: S608 (constants)
_BRING_BACK_LEASES = f"""
UPDATE video_sources SET lease_until = clock_timestamp() + $1 * interval '1 second' WHERE name IN (
    SELECT name FROM video_sources WHERE {is_ahead("lease_until", _LONGEST)} ORDER BY name FOR UPDATE
)
"""  # noqa: S608 (constants)
_BURY = "DELETE FROM video_pullers WHERE alive_until <= clock_timestamp() - interval '1 hour'"
_PULLERS = "SELECT puller FROM video_pullers WHERE alive_until > clock_timestamp() ORDER BY joined_at, puller"
_TOTAL = "SELECT count(*) FROM video_sources WHERE removed_at IS NULL AND state <> 'ended'"
# One statement for all, because one for each would take longer than a lease where the database is far away. It locks in
# the order of names, as all who lock several rows.
_REPORT = """
WITH given AS (
    SELECT * FROM unnest($3::text[], $4::bigint[], $5::text[], $6::text[], $7::text[], $8::float8[], $9::timestamptz[],
        $10::timestamptz[], $11::boolean[])
        AS one (name, lease, state, reason, counts, lag_s, began_at, accepted_at, gives_up)
), held AS (
    SELECT source.name FROM video_sources AS source JOIN given USING (name)
    WHERE holder = $1 AND source.lease = given.lease AND lease_until > clock_timestamp()
        AND (removed_at IS NULL OR gives_up)
    ORDER BY source.name FOR UPDATE OF source
)
UPDATE video_sources AS source SET state = given.state, reason = given.reason, counts = given.counts::jsonb,
    lag_s = given.lag_s, began_at = given.began_at, accepted_at = given.accepted_at, reported_at = clock_timestamp(),
    lease_until = CASE WHEN gives_up THEN NULL ELSE clock_timestamp() + $2 * interval '1 second' END,
    holder = CASE WHEN gives_up THEN NULL ELSE holder END
FROM given JOIN held USING (name)
WHERE source.name = given.name AND lease_until > clock_timestamp()
RETURNING source.name, gives_up
"""
_TAKE = """
UPDATE video_sources SET holder = $1, lease = lease + 1, lease_until = clock_timestamp() + $2 * interval '1 second'
WHERE name IN (
    SELECT name FROM video_sources
    WHERE removed_at IS NULL AND state <> 'ended' AND (lease_until IS NULL OR lease_until <= clock_timestamp())
    ORDER BY name FOR UPDATE SKIP LOCKED LIMIT $3
)
RETURNING name, device_id, address, has_login, options, lease, counts, began_at, accepted_at
"""


def require_names(name: str, device_id: str) -> None:
    """Raise SourceError unless a source and its device may be called so."""
    for what, text, most in (("name", name, _NAME_MAX), ("device", device_id, 255)):
        if len(text) > most or not _NAME.fullmatch(text):
            raise SourceError(
                f"the {what} {text[:80]!a} of a source takes 1 to {most} letters, digits, dots, underscores and "
                "hyphens, and begins with a letter or digit"
            )


@dataclass(frozen=True, slots=True)
class ListedSource:
    """Describes one source, as `source list` and `source status` show it; without its login."""

    name: str
    device_id: str
    address: str
    has_login: bool
    options: dict[str, str]
    created_at: datetime
    removed_at: datetime | None
    holder: str | None
    lease_until: datetime | None
    state: str
    reason: str | None
    counts: dict[str, int]
    lag_s: float | None
    began_at: datetime | None
    accepted_at: datetime | None
    reported_at: datetime | None
    is_held: bool
    report_age_s: float | None


@dataclass(frozen=True, slots=True)
class Report:
    """Says what a process knows about a source that it has; ``gives_up``: it pulls it no longer."""

    name: str
    lease: int
    state: str
    reason: str | None
    counts: dict[str, int]
    lag_s: float
    began_at: datetime | None
    accepted_at: datetime | None
    gives_up: bool = False


@dataclass(frozen=True, slots=True)
class TakenSource:
    """Is a source that this process has from now on, with what is known from its holder before."""

    name: str
    device_id: str
    address: str
    has_login: bool
    options: dict[str, str]
    lease: int
    counts: dict[str, int]
    began_at: datetime | None
    accepted_at: datetime | None


@dataclass(frozen=True, slots=True)
class Round:
    """Is the result of one look at the table."""

    renewed: frozenset[str]
    """The sources of which the lease was extended"""
    taken: Sequence[TakenSource] = field(default=())
    share: int = 0
    """How many sources this process is to have"""
    left_out: int = 0
    """How many more would be its share, if it were allowed to have so many"""


class SourceTable:
    """Reads and writes the tables; all methods raise the errors of :meth:`Database.acquire`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, name: str, device_id: str, address: str, *, has_login: bool, options: dict[str, str]) -> None:
        """Add a source, which processes pull within seconds. Raises SourceError where that is not possible."""
        require_names(name, device_id)
        async with self._database.acquire() as connection:
            await connection.execute(_CLEAN)
            if await connection.fetchval("SELECT count(*) FROM video_sources") >= MOST_SOURCES:
                raise SourceError(f"there are {MOST_SOURCES} sources already, the most there may be; remove some")
            try:
                await connection.execute(_ADD, name, device_id, address, has_login, _json(options))
            except asyncpg.UniqueViolationError:
                raise SourceError(await _why_not_added(connection, name, device_id)) from None

    async def remove(self, name: str) -> None:
        """Remove the source ``name``; it is gone once no process pulls it. Raises SourceError if it is unknown."""
        async with self._database.acquire() as connection:
            if not rows_changed(await connection.execute(_REMOVE, name)):
                raise SourceError(f"there is no source {name[:80]!a}; standgale source list shows all")
            await connection.execute(_CLEAN)

    async def has(self, name: str) -> bool:
        """Return whether ``name`` is in the table, also one that was removed but is still pulled."""
        async with self._database.acquire() as connection:
            await connection.execute(_CLEAN)
            return bool(await connection.fetchval("SELECT true FROM video_sources WHERE name = $1", name))

    async def list(self) -> Sequence[ListedSource]:
        """Return all sources by name, with what their holders reported."""
        async with self._database.acquire() as connection:
            rows = await connection.fetch(_LIST)
        return tuple(ListedSource(**_read(row)) for row in rows)

    async def look(self, puller: str, reports: Sequence[Report], *, lease_s: float, most: int) -> Round:
        """Renew the leases of ``reports`` for ``puller``, give up those that it wants, and take what is its share.

        All in one transaction, which the caller limits in time.
        """
        # Shorter than a lease: a process that is frozen in here would keep its rows locked, and nobody could take them.
        async with self._database.acquire() as connection, transaction(connection, idle_limit_s=lease_s / 2):
            await connection.execute(_JOIN, puller, lease_s)
            renewed = await _renew(connection, puller, reports, lease_s)
            await connection.execute(_BRING_BACK_LEASES, lease_s)
            await connection.execute(_BRING_BACK_PULLERS, lease_s)
            await connection.execute(_CLEAN)
            await connection.execute(_BURY)
            pullers = [row["puller"] for row in await connection.fetch(_PULLERS)]
            due = share_of(puller, pullers, await connection.fetchval(_TOTAL))
            share = min(most, due)
            wanted = share - len(renewed)
            rows = await connection.fetch(_TAKE, puller, lease_s, wanted) if wanted > 0 else []
        return Round(renewed, tuple(TakenSource(**_read(row)) for row in rows), share, due - share)

    async def leave(self, puller: str, reports: Sequence[Report]) -> None:
        """Give up all sources of ``puller``, which ends."""
        async with self._database.acquire() as connection, transaction(connection):
            await _renew(connection, puller, reports, 0.0)
            await connection.execute(_LEAVE, puller)
            await connection.execute(_CLEAN)


def share_of(puller: str, pullers: Sequence[str], sources: int) -> int:
    """Return how many of ``sources`` are for ``puller``; those that joined first have one more where it is uneven."""
    if puller not in pullers:
        return 0
    each, rest = divmod(sources, len(pullers))
    return each + (pullers.index(puller) < rest)


async def _renew(connection: Connection, puller: str, reports: Sequence[Report], lease_s: float) -> frozenset[str]:
    if not reports:
        return frozenset()
    columns = [list(column) for column in zip(*map(_values, reports), strict=True)]
    rows = await connection.fetch(_REPORT, puller, lease_s, *columns)
    return frozenset(row["name"] for row in rows if not row["gives_up"])


def _values(report: Report) -> tuple[object, ...]:
    return (
        *(report.name, report.lease, report.state, report.reason, _json(report.counts), report.lag_s),
        *(report.began_at, report.accepted_at, report.gives_up),
    )


async def _why_not_added(connection: Connection, name: str, device_id: str) -> str:
    rows = await connection.fetch(
        "SELECT name, device_id, removed_at FROM video_sources WHERE name = $1 OR device_id = $2", name, device_id
    )
    for row in rows:
        if row["removed_at"] is not None:
            return f"source {row['name']} was removed, but is still being stopped; try again in a few seconds"
        if row["name"] == name:
            return f"there is a source {name} already; remove it first, or choose another name"
    taken = rows[0]["name"] if rows else "another source"
    return (
        f"device {device_id} is that of source {taken} already; a device has one source, because the frames of two "
        "would not be in order: give another --device"
    )


def _json(value: object) -> str:
    return orjson.dumps(value).decode()


def _read(row: asyncpg.Record) -> dict[str, Any]:
    values = dict(row)
    for name in ("options", "counts"):
        values[name] = orjson.loads(values[name])
    return values
