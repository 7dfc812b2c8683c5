"""Appends records to partitions inside a write transaction, and reads them."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import orjson

from infra.broker.checks import check_size
from infra.broker.embedded.file import catalog
from infra.broker.embedded.file.catalog import StoredTopic
from infra.broker.embedded.file.sql import offset_of, row_id
from infra.broker.partitioning import partition_for
from infra.broker.port import InRecord, OutRecord, TopicDifference, TopicPartition
from schemas.cloudevents import Headers
from schemas.topics import TopicSpec

MAX_READ_BYTES = 32 * 1024 * 1024
"""One read stops after the record that exceeds this, so that a large ``max_records`` cannot fill the memory."""

_Row = tuple[int, int, str, bytes | None, bytes | None]


@dataclass(slots=True)
class Transaction:
    """Collects rows and partition ends of an open write transaction; ``flush`` writes them together."""

    connection: sqlite3.Connection
    declared: Mapping[str, TopicSpec] = field(default_factory=dict)
    _topics: dict[str, StoredTopic] = field(default_factory=dict)
    _found: dict[str, StoredTopic] = field(default_factory=dict)
    _ends: dict[int, int] = field(default_factory=dict)
    _rows: list[_Row] = field(default_factory=list)

    def topic(self, name: str) -> StoredTopic:
        """Return the topic called ``name``. Raises TopicMismatchError."""
        topic = self._found.get(name)
        if topic is None:
            topic = self._found[name] = catalog.find_topic(self._loaded(name), name, self.declared)
        return topic

    def slots(self, name: str) -> tuple[int, ...]:
        """Return the slots of the topic, also when its partition count is not the declared one."""
        return catalog.find_topic(self._loaded(name), name, {}).slots

    def reload_topics(self) -> None:
        """Read the topics again at the next use, because this transaction changed them."""
        self._topics, self._found = {}, {}

    def _loaded(self, name: str) -> Mapping[str, StoredTopic]:
        if name not in self._topics:
            self._topics = catalog.load_topics(self.connection)
        return self._topics

    def end(self, slot: int) -> int:
        """Return the offset that the next record of ``slot`` will have."""
        end = self._ends.get(slot)
        if end is None:
            query = "SELECT next_offset FROM partitions WHERE slot = ?"
            (end,) = self.connection.execute(query, (slot,)).fetchone()
            self._ends[slot] = end
        return end

    def add(self, slot: int, row: tuple[int, str, bytes | None, bytes | None]) -> None:
        """Collect one record, given as timestamp, key, headers and value, for the end of ``slot``."""
        end = self.end(slot)
        self._rows.append((row_id(slot, end), *row))
        self._ends[slot] = end + 1

    def flush(self) -> None:
        """Write the collected rows."""
        if not self._rows:
            return
        self.connection.executemany("INSERT INTO records VALUES (?, ?, ?, ?, ?)", self._rows)
        ends = [(end, slot) for slot, end in self._ends.items()]
        self.connection.executemany("UPDATE partitions SET next_offset = ? WHERE slot = ?", ends)
        self._rows.clear()


def apply_topics_in(transaction: Transaction, specs: Collection[TopicSpec]) -> list[TopicDifference]:
    """Apply ``specs`` as :func:`catalog.apply_topics` does, after the earlier work of the transaction."""
    # What was published in this transaction counts as unread.
    transaction.flush()
    differences = catalog.apply_topics(transaction.connection, specs)
    transaction.reload_topics()
    return differences


def append(transaction: Transaction, records: Sequence[OutRecord]) -> None:
    """Append all ``records``, or raise RecordTooLargeError or TopicMismatchError and append none."""
    now_ms = time.time_ns() // 1_000_000
    placed = []
    for record in records:
        topic = transaction.topic(record.topic)
        headers = _encode_headers(record.headers)
        check_size(record, topic.max_message_bytes)
        slot = topic.slots[partition_for(record.key, len(topic.slots))]
        placed.append((slot, (now_ms, record.key, headers, record.value)))
    for slot, row in placed:
        transaction.add(slot, row)


def _encode_headers(headers: Headers) -> bytes | None:
    # Latin-1 has one character for each of the 256 bytes, so JSON keeps any bytes.
    return orjson.dumps([(name, value.decode("latin-1")) for name, value in headers]) if headers else None


def _decode_headers(stored: bytes | None) -> Headers:
    if stored is None:
        return ()
    pairs: list[tuple[str, str]] = orjson.loads(stored)
    return tuple((name, value.encode("latin-1")) for name, value in pairs)


@dataclass(frozen=True, slots=True)
class ReadRequest:
    """Names a partition to read, and the first offset."""

    source: TopicPartition
    slot: int
    offset: int
    epoch: int = 0


@dataclass(frozen=True, slots=True)
class ReadResult:
    """Holds the records of one read, and where to continue."""

    records: list[InRecord]
    read_on: dict[TopicPartition, int]
    """Per partition the offset of the next read."""


def read(connection: sqlite3.Connection, requests: Sequence[ReadRequest], max_records: int) -> ReadResult:
    """Return up to ``max_records`` records, partition after partition in the order of ``requests``."""
    # The ends are read first, so that a gap before them is known to be left by compaction, and is skipped.
    ends = load_ends(connection)
    result = ReadResult([], {})
    budget = MAX_READ_BYTES
    for request in requests:
        end = ends.get(request.slot, 0)
        limit = max_records - len(result.records)
        if limit <= 0 or budget <= 0:
            break
        if request.offset >= end:
            continue
        rows = connection.execute(
            "SELECT id, timestamp_ms, key, headers, value FROM records WHERE id >= ? AND id < ? ORDER BY id LIMIT ?",
            (row_id(request.slot, request.offset), row_id(request.slot, end), limit),
        )
        read_on = end
        for taken, row in enumerate(rows, start=1):
            record = _in_record(request, row)
            result.records.append(record)
            budget -= len(record.value or b"")
            if taken == limit or budget <= 0:
                read_on = record.offset + 1
                break
        result.read_on[request.source] = read_on
    return result


def _in_record(request: ReadRequest, row: _Row) -> InRecord:
    row_number, timestamp_ms, key, headers, value = row
    return InRecord(
        topic=request.source.topic,
        partition=request.source.partition,
        offset=offset_of(row_number),
        timestamp_ms=timestamp_ms,
        key=key,
        value=value,
        headers=_decode_headers(headers),
        epoch=request.epoch,
    )


def load_ends(connection: sqlite3.Connection) -> dict[int, int]:
    """Return the offset that the next record will have, for every slot."""
    return dict(connection.execute("SELECT slot, next_offset FROM partitions").fetchall())


def bounds(
    connection: sqlite3.Connection, name: str, declared: Mapping[str, TopicSpec] | None = None
) -> dict[int, tuple[int, int]]:
    """Return per partition of the topic the first offset there is and the next one. Raises TopicMismatchError."""
    catalog.check_topics(connection, (name,), declared or {})
    rows = connection.execute(
        "SELECT partition, first_offset, next_offset FROM partitions WHERE topic = ? ORDER BY partition", (name,)
    )
    return {partition: (first, end) for partition, first, end in rows}


def lag(connection: sqlite3.Connection, group: str, topics: Collection[str]) -> dict[TopicPartition, int]:
    """Return how many records of ``topics`` ``group`` has not committed, per partition. Raises TopicMismatchError."""
    catalog.check_topics(connection, topics, {})
    rows = connection.execute(
        "SELECT topic, partition, p.next_offset - max(first_offset, coalesce(c.next_offset, 0)) FROM partitions p "
        "LEFT JOIN cursors c ON c.slot = p.slot AND c.group_name = ?",
        (group,),
    )
    return {TopicPartition(topic, partition): max(0, behind) for topic, partition, behind in rows if topic in topics}
