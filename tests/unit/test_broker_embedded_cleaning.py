"""Retention and compaction of the embedded broker, on a file without a broker around it."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.broker.embedded import catalog, log
from infra.broker.embedded.cleaning import clean
from infra.broker.embedded.connection import open_writer
from infra.broker.embedded.log import Transaction, Want
from infra.broker.port import OutRecord, TopicPartition
from schemas.topics import TopicSpec

HOUR_MS = 3_600_000


def spec(name: str, cleanup: str) -> TopicSpec:
    return TopicSpec.model_validate(
        {
            "name": name,
            "group": "test",
            "partitions": 1,
            "key": "device_id",
            "events": (),
            "about": "a test",
            "replication": 1,
            "min_insync_replicas": 1,
            "retention_s": 3600,
            "max_message_bytes": 100_000,
            "cleanup": cleanup,
        }
    )


@pytest.fixture
def file(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    connection = open_writer(tmp_path / "folder" / "broker.sqlite")
    catalog.mend(connection, [spec("events", "delete"), spec("models", "compact")])
    yield connection
    connection.close()


def append(file: sqlite3.Connection, topic: str, *records: tuple[str, bytes | None]) -> None:
    transaction = Transaction(file)
    log.append(transaction, [OutRecord(topic, key, value) for key, value in records])
    transaction.flush()


def left(file: sqlite3.Connection, topic: str) -> list[tuple[int, str | None, bytes | None]]:
    want = Want(TopicPartition(topic, 0), catalog.load(file)[topic].slots[0], 0)
    got = log.read(file, [want], 1_000)
    if got.read_on:
        (end,) = (bound[1] for bound in log.bounds(file, topic).values())
        assert got.read_on == {want.source: end}
    return [(record.offset, record.key, record.value) for record in got.records]


def now_ms() -> int:
    return int(time.time() * 1000)


def test_records_past_retention_go_in_bounded_rounds(file: sqlite3.Connection) -> None:
    append(file, "events", *((f"key-{number}", b"old") for number in range(25)))
    file.execute("UPDATE records SET timestamp_ms = timestamp_ms - ?", (2 * HOUR_MS,))
    append(file, "events", ("key", b"young"))

    assert clean(file, now_ms(), most=10) is True
    assert log.bounds(file, "events") == {0: (10, 26)}
    assert len(left(file, "events")) == 16
    assert clean(file, now_ms(), most=20) is False
    assert left(file, "events") == [(25, "key", b"young")]
    assert log.bounds(file, "events") == {0: (25, 26)}
    assert clean(file, now_ms() + 2 * HOUR_MS) is False
    assert log.bounds(file, "events") == {0: (26, 26)}
    append(file, "events", ("key", b"next"))
    assert left(file, "events") == [(26, "key", b"next")]


def test_compaction_keeps_the_newest_of_each_key(file: sqlite3.Connection) -> None:
    append(file, "models", ("a", b"1"), ("b", b"1"), ("a", b"2"), ("c", b"1"), ("a", b"3"))
    while clean(file, now_ms(), most=2):
        pass
    assert left(file, "models") == [(1, "b", b"1"), (3, "c", b"1"), (4, "a", b"3")]

    append(file, "models", ("b", None), ("c", b"2"))
    clean(file, now_ms())
    assert left(file, "models") == [(4, "a", b"3"), (5, "b", None), (6, "c", b"2")]
    clean(file, now_ms() + 2 * HOUR_MS)
    assert left(file, "models") == [(4, "a", b"3"), (6, "c", b"2")]
    append(file, "models", ("b", b"back"))
    clean(file, now_ms())
    assert left(file, "models") == [(4, "a", b"3"), (6, "c", b"2"), (7, "b", b"back")]
    assert log.bounds(file, "models") == {0: (0, 8)}


def test_a_lag_counts_only_what_is_still_there(file: sqlite3.Connection) -> None:
    append(file, "events", ("key", b"1"), ("key", b"2"), ("key", b"3"))
    file.execute("UPDATE records SET timestamp_ms = 0 WHERE value <> ?", (b"3",))
    clean(file, now_ms())
    assert log.lag(file, "group", ["events"]) == {TopicPartition("events", 0): 1}


def test_a_read_stops_at_its_bytes_and_goes_on_from_there(
    file: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "MAX_READ_BYTES", 2_500)
    append(file, "events", *(("key", bytes(1_000)) for _ in range(5)))
    want = Want(TopicPartition("events", 0), catalog.load(file)["events"].slots[0], 0)
    got = log.read(file, [want], 100)
    assert [record.offset for record in got.records] == [0, 1, 2]
    assert got.read_on == {want.source: 3}
