"""Lists all groups of the file, with lag, members and last sign of life, and deletes a group."""

from __future__ import annotations

import sqlite3
import time
from collections import defaultdict

from infra.broker.checks import group_in_use, group_not_found
from infra.broker.embedded.file.catalog import WHERE
from infra.broker.embedded.file.log import Transaction
from infra.broker.embedded.file.sql import READ_PARTITIONS, row_id
from infra.broker.port import GroupState


def now_ms() -> int:
    """Return the time that heartbeats use: one clock for all processes of the machine, which cannot be set.

    It starts at zero with the machine: heartbeats from before a reboot are in its future.
    """
    return int(time.monotonic() * 1000)


def record_sign_of_life(connection: sqlite3.Connection, group: str) -> None:
    """Store that a member of ``group`` gave a sign of life now."""
    connection.execute("INSERT OR REPLACE INTO seen VALUES (?, ?)", (group, time.time_ns() // 1_000_000))


def group_states(connection: sqlite3.Connection) -> list[GroupState]:
    """Return every group, by name."""
    topics: dict[str, set[str]] = defaultdict(set)
    lags: dict[str, int] = defaultdict(int)
    oldest: dict[str, int] = {}
    rows = connection.execute(
        "SELECT g.group_name, p.topic, p.slot, max(p.first_offset, coalesce(c.next_offset, 0)), p.next_offset "
        f"{READ_PARTITIONS}"
    ).fetchall()
    for group, topic, slot, next_offset, end in rows:
        topics[group].add(topic)
        lags[group] += max(0, end - next_offset)
        record = connection.execute(
            "SELECT timestamp_ms FROM records WHERE id >= ? AND id < ? ORDER BY id LIMIT 1",
            (row_id(slot, next_offset), row_id(slot, end)),
        ).fetchone()
        if record is not None:
            oldest[group] = min(record[0], oldest.get(group, record[0]))
    seen = dict(connection.execute("SELECT group_name, seen_ms FROM seen").fetchall())
    names = sorted(name for (name,) in connection.execute("SELECT name FROM groups"))
    return [
        GroupState(
            name=name,
            members=_members(connection, name),
            topics=tuple(sorted(topics[name])),
            lag=lags[name],
            seen_ms=seen.get(name),
            oldest_unread_ms=oldest.get(name),
        )
        for name in names
    ]


def delete_group(transaction: Transaction, name: str) -> None:
    """Delete the group ``name``. Raises GroupError, and deletes nothing, when it has members or does not exist."""
    connection = transaction.connection
    if connection.execute("SELECT 1 FROM groups WHERE name = ?", (name,)).fetchone() is None:
        raise group_not_found(name, WHERE)
    if _members(connection, name):
        raise group_in_use(name)
    for table in ("members", "cursors", "seen"):
        connection.execute(f"DELETE FROM {table} WHERE group_name = ?", (name,))  # noqa: S608 (no outside text)
    connection.execute("DELETE FROM groups WHERE name = ?", (name,))


def _members(connection: sqlite3.Connection, group: str) -> int:
    """Count the processes in the group now, without those whose session is over or that a reboot has ended."""
    at_ms = now_ms()
    (count,) = connection.execute(
        "SELECT count(*) FROM members WHERE group_name = ? AND beat_ms + session_ms >= ? AND beat_ms <= ?",
        (group, at_ms, at_ms),
    ).fetchone()
    return int(count)
