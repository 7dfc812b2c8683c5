"""Tests retention and compaction on a file without a broker."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.broker.embedded.cleaning.cleaning_round import clean
from infra.broker.embedded.file import catalog, log
from infra.broker.embedded.file.connection import open_writer
from infra.broker.embedded.file.log import ReadRequest, Transaction
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
    catalog.apply_topics(connection, [spec("events", "delete"), spec("models", "compact")])
    yield connection
    connection.close()


def append(file: sqlite3.Connection, topic: str, *records: tuple[str, bytes | None]) -> None:
    transaction = Transaction(file)
    log.append(transaction, [OutRecord(topic, key, value) for key, value in records])
    transaction.flush()


def left(file: sqlite3.Connection, topic: str) -> list[tuple[int, str | None, bytes | None]]:
    want = ReadRequest(TopicPartition(topic, 0), catalog.load_topics(file)[topic].slots[0], 0)
    got = log.read(file, [want], 1_000)
    if got.read_on:
        (end,) = (bound[1] for bound in log.bounds(file, topic).values())
        assert got.read_on == {want.source: end}
    return [(record.offset, record.key, record.value) for record in got.records]


def commit_as(file: sqlite3.Connection, group: str, offset: int | None) -> None:
    slot = catalog.load_topics(file)["events"].slots[0]
    file.execute("INSERT OR REPLACE INTO cursors VALUES (?, ?, NULL, 1, ?)", (group, slot, offset))


def test_expired_records_are_deleted_in_limited_rounds(file: sqlite3.Connection) -> None:
    append(file, "events", *((f"key-{number}", b"old") for number in range(25)))
    clean(file, 0)
    append(file, "events", ("key", b"young"))

    assert clean(file, HOUR_MS + 1, most=10).more is True
    assert log.bounds(file, "events") == {0: (10, 26)}
    assert len(left(file, "events")) == 16
    assert clean(file, HOUR_MS + 2, most=20).more is False
    assert left(file, "events") == [(25, "key", b"young")]
    assert log.bounds(file, "events") == {0: (25, 26)}
    assert clean(file, 3 * HOUR_MS).more is False
    assert log.bounds(file, "events") == {0: (26, 26)}
    append(file, "events", ("key", b"next"))
    assert left(file, "events") == [(26, "key", b"next")]


def test_record_stays_for_its_retention_with_any_timestamp(file: sqlite3.Connection) -> None:
    append(file, "events", ("key", b"1"), ("key", b"2"))
    # From clocks that were years behind and ahead: neither shows how old a record is.
    file.execute("UPDATE records SET timestamp_ms = CASE value WHEN ? THEN 0 ELSE 1 << 50 END", (b"1",))
    clean(file, 0)
    clean(file, HOUR_MS)
    assert len(left(file, "events")) == 2
    clean(file, HOUR_MS + 1)
    assert left(file, "events") == []


def test_marks_are_few_and_ages_exact_to_a_fiftieth(file: sqlite3.Connection) -> None:
    minute_ms = 60_000
    for minute in range(300):
        append(file, "events", ("key", b"%d" % minute))
        clean(file, minute * minute_ms)
    (marks,) = file.execute("SELECT count(*) FROM marks").fetchone()
    assert marks <= 53
    oldest = left(file, "events")[0][0]
    assert 300 - 60 - 3 <= oldest <= 300 - 60


def test_uncommitted_records_of_a_group_stay_and_are_counted(file: sqlite3.Connection) -> None:
    append(file, "events", *(("key", bytes(1_000)) for _ in range(10)))
    commit_as(file, "fast", 10)
    commit_as(file, "slow", 4)
    clean(file, 0)
    cleaned = clean(file, 30 * HOUR_MS)
    assert log.bounds(file, "events") == {0: (4, 10)}
    assert cleaned.retained["slow"].records == 6
    assert 6_000 <= cleaned.retained["slow"].size_bytes <= 6_100
    assert "fast" not in cleaned.retained

    commit_as(file, "new", None)
    assert clean(file, 31 * HOUR_MS).retained["new"].records == 6
    file.execute("DELETE FROM cursors WHERE group_name = 'new'")
    commit_as(file, "slow", 10)
    assert clean(file, 32 * HOUR_MS).retained == {}
    assert log.bounds(file, "events") == {0: (10, 10)}


def test_group_retains_records_of_partitions_without_a_cursor(file: sqlite3.Connection) -> None:
    commit_as(file, "group", 0)
    file.execute("INSERT INTO partitions (topic, partition) VALUES ('events', 1)")
    append(file, "events", *((f"key-{number}", b"x") for number in range(20)))
    clean(file, 0)
    clean(file, 30 * HOUR_MS)
    assert sum(end - first for first, end in log.bounds(file, "events").values()) == 20


def test_compaction_keeps_the_newest_record_of_each_key(file: sqlite3.Connection) -> None:
    append(file, "models", ("a", b"1"), ("b", b"1"), ("a", b"2"), ("c", b"1"), ("a", b"3"))
    while clean(file, 0, most=2).more:
        pass
    assert left(file, "models") == [(1, "b", b"1"), (3, "c", b"1"), (4, "a", b"3")]

    append(file, "models", ("b", None), ("c", b"2"))
    clean(file, HOUR_MS)
    assert left(file, "models") == [(4, "a", b"3"), (5, "b", None), (6, "c", b"2")]
    clean(file, 2 * HOUR_MS + 1)
    assert left(file, "models") == [(4, "a", b"3"), (6, "c", b"2")]
    append(file, "models", ("b", b"back"))
    clean(file, 2 * HOUR_MS + 2)
    assert left(file, "models") == [(4, "a", b"3"), (6, "c", b"2"), (7, "b", b"back")]
    assert log.bounds(file, "models") == {0: (0, 8)}


def test_lag_counts_only_records_that_exist(file: sqlite3.Connection) -> None:
    append(file, "events", ("key", b"1"), ("key", b"2"))
    clean(file, 0)
    append(file, "events", ("key", b"3"))
    clean(file, HOUR_MS + 1)
    assert log.lag(file, "group", ["events"]) == {TopicPartition("events", 0): 1}


def test_read_stops_at_its_byte_limit_and_continues_there(
    file: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "MAX_READ_BYTES", 2_500)
    append(file, "events", *(("key", bytes(1_000)) for _ in range(5)))
    want = ReadRequest(TopicPartition("events", 0), catalog.load_topics(file)["events"].slots[0], 0)
    got = log.read(file, [want], 100)
    assert [record.offset for record in got.records] == [0, 1, 2]
    assert got.read_on == {want.source: 3}
