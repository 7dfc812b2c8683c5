"""Deletes expired and compacted records, a limited number per round.

The age of a record is known from *marks*: a round stores where each partition ends at that moment of the file's own
time (:mod:`.clock`). All records before a mark are at least as old as the mark, whatever their timestamps are. Records
that a group has not committed stay, however old they are.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field

from infra.broker.embedded.file.sql import READ_PARTITIONS, offset_of, row_id

ROUND_RECORDS = 2_000
"""The most records that one round reads; publishing waits no longer than that takes."""
_MARKS_PER_RETENTION = 50
"""How exact ages are: a record stays at most a fiftieth of the retention time too long."""
_SAMPLE_RECORDS = 200


@dataclass(frozen=True, slots=True)
class RetainedForGroup:
    """Counts the records past their retention that stay because one group has not committed them."""

    records: int
    size_bytes: int
    """Estimated from a sample."""


@dataclass(frozen=True, slots=True)
class CleaningResult:
    """Holds the result of one round."""

    more: bool
    """Whether there is more to do."""
    retained: Mapping[str, RetainedForGroup] = field(default_factory=dict)
    """By group; known when there is no more to do."""


@dataclass(frozen=True, slots=True)
class _Partition:
    slot: int
    cleanup: str
    first: int
    compacted: int
    end: int
    expired: int
    """All records before this offset are older than the topic's retention."""


def clean(connection: sqlite3.Connection, elapsed_ms: int, most: int = ROUND_RECORDS) -> CleaningResult:
    """Clean for one round at ``elapsed_ms`` of the file's own time; call it in a write transaction."""
    _mark(connection, elapsed_ms)
    partitions = _partitions(connection, elapsed_ms)
    cursors = _cursors(connection)
    left = most
    for one in partitions:
        if one.cleanup == "compact":
            left -= _compact(connection, one, left)
            left -= _drop_tombstones(connection, one, left)
        else:
            # A group without a cursor here has read nothing of it, but one with a cursor retains what it has not read.
            kept = min([one.expired, *cursors.get(one.slot, {}).values()])
            left -= _drop_old(connection, one, kept, left)
        if left <= 0:
            return CleaningResult(more=True)
    _drop_old_marks(connection, partitions)
    return CleaningResult(more=False, retained=_retained_for_groups(connection, partitions, cursors))


def _mark(connection: sqlite3.Connection, elapsed_ms: int) -> None:
    """Store where the partitions end now, if they grew and their last mark is old enough."""
    connection.execute(
        "INSERT OR REPLACE INTO marks SELECT p.slot, :now, p.next_offset FROM partitions p "
        "JOIN topics t ON t.name = p.topic LEFT JOIN "
        "(SELECT slot, max(elapsed_ms) AS at, max(end_offset) AS end_offset FROM marks GROUP BY slot) m USING (slot) "
        "WHERE p.next_offset > coalesce(m.end_offset, 0) "
        "AND (m.at IS NULL OR :now - m.at >= t.retention_s * 1000 / :marks)",
        {"now": elapsed_ms, "marks": _MARKS_PER_RETENTION},
    )


def _partitions(connection: sqlite3.Connection, elapsed_ms: int) -> list[_Partition]:
    rows = connection.execute(
        "SELECT slot, cleanup, first_offset, compacted_offset, next_offset, coalesce((SELECT max(end_offset) "
        "FROM marks m WHERE m.slot = p.slot AND m.elapsed_ms < ? - t.retention_s * 1000), 0) FROM partitions p "
        "JOIN topics t ON t.name = p.topic WHERE next_offset > first_offset",
        (elapsed_ms,),
    )
    return [_Partition(*row) for row in rows]


def _cursors(connection: sqlite3.Connection) -> dict[int, dict[str, int]]:
    """Return the next offset of each group, by slot, for all partitions of the topics that it reads."""
    rows = connection.execute(f"SELECT p.slot, g.group_name, coalesce(c.next_offset, 0) {READ_PARTITIONS}")
    found: dict[int, dict[str, int]] = {}
    for slot, group, offset in rows:
        found.setdefault(slot, {})[group] = offset
    return found


def _drop_old(connection: sqlite3.Connection, one: _Partition, until: int, most: int) -> int:
    """Delete at most ``most`` records from the start of the partition, up to but without the offset ``until``."""
    until = min(until, one.first + most)
    if until <= one.first:
        return 0
    connection.execute(
        "DELETE FROM records WHERE id >= ? AND id < ?", (row_id(one.slot, one.first), row_id(one.slot, until))
    )
    connection.execute("UPDATE partitions SET first_offset = ? WHERE slot = ?", (until, one.slot))
    return until - one.first


def _drop_old_marks(connection: sqlite3.Connection, partitions: list[_Partition]) -> None:
    """Delete marks that are not needed because a later one is old enough."""
    connection.executemany(
        "DELETE FROM marks WHERE slot = ? AND end_offset < ?", [(one.slot, one.expired) for one in partitions]
    )


def _retained_for_groups(
    connection: sqlite3.Connection, partitions: list[_Partition], cursors: Mapping[int, Mapping[str, int]]
) -> dict[str, RetainedForGroup]:
    found: dict[str, RetainedForGroup] = {}
    for one in partitions:
        if one.cleanup == "compact":
            continue
        for group, offset in cursors.get(one.slot, {}).items():
            first = max(offset, one.first)
            if first < one.expired:
                former = found.get(group, RetainedForGroup(0, 0))
                size = _size(connection, one.slot, first, one.expired)
                found[group] = RetainedForGroup(former.records + one.expired - first, former.size_bytes + size)
    return found


def _size(connection: sqlite3.Connection, slot: int, first: int, end: int) -> int:
    (mean,) = connection.execute(
        "SELECT avg(length(key) + coalesce(length(headers), 0) + coalesce(length(value), 0)) FROM "
        "(SELECT key, headers, value FROM records WHERE id >= ? AND id < ? LIMIT ?)",
        (row_id(slot, first), row_id(slot, end), _SAMPLE_RECORDS),
    ).fetchone()
    return int((mean or 0) * (end - first))


def _compact(connection: sqlite3.Connection, one: _Partition, most: int) -> int:
    """Read the next ``most`` records after those of the last round, and delete the older records of their keys."""
    if one.compacted == one.end:
        return 0
    found = connection.execute(
        "SELECT key, id FROM records WHERE id >= ? AND id < ? ORDER BY id LIMIT ?",
        (row_id(one.slot, one.compacted), row_id(one.slot, one.end), most),
    ).fetchall()
    for key, row in found:
        former = connection.execute("SELECT id FROM latest WHERE slot = ? AND key = ?", (one.slot, key)).fetchone()
        if former is not None:
            connection.execute("DELETE FROM records WHERE id = ?", former)
        connection.execute("INSERT OR REPLACE INTO latest VALUES (?, ?, ?)", (one.slot, key, row))
    reached = offset_of(found[-1][1]) + 1 if found else one.end
    connection.execute("UPDATE partitions SET compacted_offset = ? WHERE slot = ?", (reached, one.slot))
    return len(found)


def _drop_tombstones(connection: sqlite3.Connection, one: _Partition, most: int) -> int:
    """Delete tombstones older than the retention time, so that every consumer had the time to read them."""
    served = connection.execute(
        "SELECT r.id, r.key FROM records r JOIN latest l ON l.slot = ? AND l.key = r.key AND l.id = r.id "
        "WHERE r.value IS NULL AND r.id >= ? AND r.id < ? LIMIT ?",
        (one.slot, row_id(one.slot, 0), row_id(one.slot, one.expired), most),
    ).fetchall()
    connection.executemany("DELETE FROM records WHERE id = ?", [(row,) for row, _ in served])
    connection.executemany("DELETE FROM latest WHERE slot = ? AND key = ?", [(one.slot, key) for _, key in served])
    return len(served)
