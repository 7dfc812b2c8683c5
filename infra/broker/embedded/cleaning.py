"""Retention and compaction: drops what has served its time, a bounded piece of work per round."""

from __future__ import annotations

import sqlite3

from infra.broker.embedded.log import slot_range
from infra.broker.embedded.sql import offset_of, row_id

ROUND_RECORDS = 2_000
"""Records one round looks at, at most; publishing waits for no more than that."""


def clean(connection: sqlite3.Connection, now_ms: int, most: int = ROUND_RECORDS) -> bool:
    """One round, in a write transaction; True when there is more to do."""
    rows = connection.execute(
        "SELECT slot, cleanup, retention_s, first_offset, compacted_offset, next_offset FROM partitions p "
        "JOIN topics t ON t.name = p.topic WHERE next_offset > first_offset"
    ).fetchall()
    left = most
    for slot, cleanup, retention_s, first, compacted, end in rows:
        cutoff_ms = now_ms - retention_s * 1000
        if cleanup == "compact":
            left -= _compact(connection, slot, (compacted, end), left)
            left -= _drop_tombstones(connection, slot, cutoff_ms, left)
        else:
            left -= _drop_old(connection, (slot, first, end), cutoff_ms, left)
        if left <= 0:
            return True
    return False


def _drop_old(connection: sqlite3.Connection, place: tuple[int, int, int], cutoff_ms: int, most: int) -> int:
    """Drop at most ``most`` records from the start of the partition that are older than ``cutoff_ms``."""
    slot, first, end = place
    oldest = connection.execute(
        "SELECT timestamp_ms FROM records WHERE id >= ? AND id < ? ORDER BY id LIMIT 1",
        (row_id(slot, first), row_id(slot, end)),
    ).fetchone()
    if oldest is None or oldest[0] >= cutoff_ms:
        return 0
    (last,) = connection.execute(
        "SELECT max(id) FROM (SELECT id, timestamp_ms FROM records WHERE id >= ? AND id < ? ORDER BY id LIMIT ?) "
        "WHERE timestamp_ms < ?",
        (row_id(slot, first), row_id(slot, end), most, cutoff_ms),
    ).fetchone()
    dropped = connection.execute("DELETE FROM records WHERE id >= ? AND id <= ?", (row_id(slot, first), last))
    connection.execute("UPDATE partitions SET first_offset = ? WHERE slot = ?", (offset_of(last) + 1, slot))
    return dropped.rowcount


def _compact(connection: sqlite3.Connection, slot: int, todo: tuple[int, int], most: int) -> int:
    """Look at the next ``most`` records after the ones looked at before, and drop the older ones of their keys."""
    compacted, end = todo
    if compacted == end:
        return 0
    found = connection.execute(
        "SELECT key, id FROM records WHERE id >= ? AND id < ? ORDER BY id LIMIT ?",
        (row_id(slot, compacted), row_id(slot, end), most),
    ).fetchall()
    for key, row in found:
        former = connection.execute("SELECT id FROM latest WHERE slot = ? AND key = ?", (slot, key)).fetchone()
        if former is not None:
            connection.execute("DELETE FROM records WHERE id = ?", former)
        connection.execute("INSERT OR REPLACE INTO latest VALUES (?, ?, ?)", (slot, key, row))
    reached = offset_of(found[-1][1]) + 1 if found else end
    connection.execute("UPDATE partitions SET compacted_offset = ? WHERE slot = ?", (reached, slot))
    return len(found)


def _drop_tombstones(connection: sqlite3.Connection, slot: int, cutoff_ms: int, most: int) -> int:
    """Drop tombstones that stood for the retention time, so that every consumer had the time to see them."""
    served = connection.execute(
        "SELECT r.id, r.key FROM records r JOIN latest l ON l.slot = ? AND l.key = r.key AND l.id = r.id "
        "WHERE r.value IS NULL AND r.id >= ? AND r.id < ? AND r.timestamp_ms < ? LIMIT ?",
        (slot, *slot_range(slot), cutoff_ms, most),
    ).fetchall()
    connection.executemany("DELETE FROM records WHERE id = ?", [(row,) for row, _ in served])
    connection.executemany("DELETE FROM latest WHERE slot = ? AND key = ?", [(slot, key) for _, key in served])
    return len(served)
