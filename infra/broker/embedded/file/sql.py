"""Defines the tables of the embedded broker's file, and computes row numbers from partition and offset.

A record's row number is its partition's slot and its offset in one integer. So a partition is one contiguous range of
one b-tree: it needs no further index, and reading it is a range scan.
"""

from __future__ import annotations

SCHEMA_VERSION = 1
OFFSET_BITS = 40
_OFFSET_MASK = (1 << OFFSET_BITS) - 1

SCHEMA = (
    """
    CREATE TABLE topics (
        name TEXT PRIMARY KEY,
        partitions INTEGER NOT NULL,
        retention_s INTEGER NOT NULL,
        max_message_bytes INTEGER NOT NULL,
        cleanup TEXT NOT NULL
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE partitions (
        slot INTEGER PRIMARY KEY AUTOINCREMENT, -- never used twice
        topic TEXT NOT NULL REFERENCES topics (name),
        partition INTEGER NOT NULL,
        first_offset INTEGER NOT NULL DEFAULT 0,
        next_offset INTEGER NOT NULL DEFAULT 0,
        compacted_offset INTEGER NOT NULL DEFAULT 0, -- compaction has read every record before this one
        UNIQUE (topic, partition)
    ) STRICT
    """,
    """
    CREATE TABLE records (
        id INTEGER PRIMARY KEY, -- slot and offset, see row_id
        timestamp_ms INTEGER NOT NULL,
        key TEXT NOT NULL,
        headers BLOB,
        value BLOB
    ) STRICT
    """,
    # Tombstones are few; this finds the expired ones.
    "CREATE INDEX tombstones ON records (id, timestamp_ms) WHERE value IS NULL",
    """
    CREATE TABLE latest ( -- compacted topics: the newest record compaction has seen of each key
        slot INTEGER NOT NULL,
        key TEXT NOT NULL,
        id INTEGER NOT NULL,
        PRIMARY KEY (slot, key)
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE groups (
        name TEXT PRIMARY KEY,
        generation INTEGER NOT NULL -- grows with every change of an owner
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE members (
        group_name TEXT NOT NULL,
        member TEXT NOT NULL,
        incarnation TEXT NOT NULL, -- distinguishes a static member's process from the one before it
        topics TEXT NOT NULL, -- a JSON list
        start TEXT NOT NULL,
        beat_ms INTEGER NOT NULL, -- monotonic clock of the machine
        session_ms INTEGER NOT NULL,
        PRIMARY KEY (group_name, member)
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE cursors (
        group_name TEXT NOT NULL,
        slot INTEGER NOT NULL,
        member TEXT, -- NULL: no member owns it now
        epoch INTEGER NOT NULL, -- grows with every change of the owner
        next_offset INTEGER, -- NULL: never committed
        PRIMARY KEY (group_name, slot)
    ) STRICT, WITHOUT ROWID
    """,
)

ADDED = (
    """
    CREATE TABLE IF NOT EXISTS clock ( -- one row: the file's own count of time, see clock.py
        id INTEGER PRIMARY KEY CHECK (id = 1),
        boot TEXT NOT NULL,
        running_ms INTEGER NOT NULL,
        wall_ms INTEGER NOT NULL,
        elapsed_ms INTEGER NOT NULL
    ) STRICT
    """,
    """
    CREATE TABLE IF NOT EXISTS marks ( -- a partition's end at a moment of the file's own time, see cleaning_round.py
        slot INTEGER NOT NULL,
        elapsed_ms INTEGER NOT NULL,
        end_offset INTEGER NOT NULL,
        PRIMARY KEY (slot, elapsed_ms)
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE IF NOT EXISTS seen ( -- when a group last gave a sign of life
        group_name TEXT PRIMARY KEY,
        seen_ms INTEGER NOT NULL -- the machine's clock
    ) STRICT, WITHOUT ROWID
    """,
)
"""Tables that files of earlier releases lack and those releases do not need, so the schema version stays the same."""

READ_PARTITIONS = """
    FROM partitions p
    JOIN (SELECT DISTINCT topic, group_name FROM cursors JOIN partitions USING (slot)) g USING (topic)
    LEFT JOIN cursors c ON c.slot = p.slot AND c.group_name = g.group_name
"""
"""Selects every partition (p) of the topics that each group (g) reads, with the group's cursor (c) if it has one."""


def row_id(slot: int, offset: int) -> int:
    """Return the row number of the record at ``offset`` of the partition ``slot``."""
    return slot << OFFSET_BITS | offset


def offset_of(row: int) -> int:
    """Return the offset in a row number."""
    return row & _OFFSET_MASK
