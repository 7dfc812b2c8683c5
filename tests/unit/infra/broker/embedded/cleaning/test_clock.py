"""Tests retention while the machine's clock is wrong, and the log texts about it."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from infra.broker.embedded import writer
from infra.broker.embedded.adapter import EmbeddedBroker
from infra.broker.embedded.cleaning.clock import Clocks, advance, describe_jump, read_clocks
from infra.broker.embedded.cleaning.retention import Retention
from infra.broker.embedded.file.connection import open_writer
from infra.broker.embedded.file.log import Transaction, append
from infra.broker.metrics import RETENTION_HELD
from infra.broker.port import GroupSpec, OutRecord, Reader
from schemas.topics import load_topics

DAY_MS = 86_400_000
TIMEOUT_S = 30.0


@pytest.fixture
def file(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    connection = open_writer(tmp_path / "broker.sqlite")
    yield connection
    connection.close()


def test_file_of_an_earlier_release_gets_missing_tables(tmp_path: Path, file: sqlite3.Connection) -> None:
    file.execute("DROP TABLE clock")
    file.execute("DROP TABLE marks")
    open_writer(tmp_path / "broker.sqlite").close()
    retention = Retention()
    assert retention.work(file) is False


def test_file_time_counts_running_time_and_reports_jumps(file: sqlite3.Connection) -> None:
    assert advance(file, Clocks("boot-1", 1_000, 5_000)).elapsed_ms == 0
    assert advance(file, Clocks("boot-1", 31_000, 35_100)).jump_ms == 0
    forward = advance(file, Clocks("boot-1", 32_000, 36_100 + 30 * DAY_MS))
    assert (forward.elapsed_ms, forward.jump_ms) == (31_000, 30 * DAY_MS)
    back = advance(file, Clocks("boot-1", 33_000, 37_100))
    assert (back.elapsed_ms, back.jump_ms) == (32_000, -30 * DAY_MS)
    assert "forward by 30 days" in describe_jump(forward.jump_ms)
    assert "back by 30 days" in describe_jump(back.jump_ms)


def test_time_between_two_starts_of_the_machine_does_not_count(file: sqlite3.Connection) -> None:
    advance(file, Clocks("boot-1", 1_000, 5_000))
    assert advance(file, Clocks("boot-1", 2_000, 6_000)).elapsed_ms == 1_000
    # A clock without a battery, set while the machine started: a year ahead of its time before.
    started = advance(file, Clocks("boot-2", 50_000, 365 * DAY_MS))
    assert (started.elapsed_ms, started.jump_ms) == (1_000, 0)
    assert advance(file, Clocks("boot-2", 51_000, 365 * DAY_MS)).elapsed_ms == 2_000
    # Where the system has no id of its start, time that runs backwards shows a start.
    advance(file, Clocks("", 51_000, 0))
    assert advance(file, Clocks("", 3_000, 0)).elapsed_ms == 2_000


def test_clocks_of_this_machine_are_read() -> None:
    first, second = read_clocks(), read_clocks()
    assert first.boot == second.boot
    assert 0 < first.running_ms <= second.running_ms
    assert abs(first.wall_ms - time.time() * 1000) < 60_000


async def until_round_is_over(path: Path) -> None:
    """Wait until two more rounds of cleaning are committed."""
    with sqlite3.connect(path) as connection:
        seen: set[tuple[int]] = set()
        async with asyncio.timeout(TIMEOUT_S):
            while len(seen) < 3:
                seen.update(connection.execute("SELECT running_ms FROM clock").fetchall())
                await asyncio.sleep(0.01)
    connection.close()


async def count(reader: Reader) -> int:
    return sum(end - first for first, end in (await reader.bounds("frames.live")).values())


@pytest.mark.parametrize("days", [-30, 30])
async def test_setting_the_clock_deletes_no_record(
    days: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(writer, "_CLEANING_INTERVAL_S", 0.02)
    right: Callable[[], int] = time.time_ns
    path = tmp_path / "broker.sqlite"
    monkeypatch.setattr(time, "time_ns", lambda: right() + days * DAY_MS * 1_000_000)
    broker = EmbeddedBroker(path, load_topics())
    publisher, reader = await broker.publisher(), await broker.reader()
    await publisher.publish([OutRecord("frames.live", "drone-1", b"of a wrong clock")] * 50)
    await until_round_is_over(path)

    monkeypatch.setattr(time, "time_ns", right)
    with caplog.at_level(logging.WARNING):
        await until_round_is_over(path)
    await publisher.publish([OutRecord("frames.live", "drone-2", b"of the right one")])
    await until_round_is_over(path)

    assert "clock was set " + ("forward" if days < 0 else "back") in caplog.text
    assert await count(reader) == 51
    # A group that joins only now gets all of them.
    consumer = await broker.consumer(GroupSpec("detector", ("frames.live",)))
    records = 0
    async with asyncio.timeout(TIMEOUT_S):
        while records < 51:
            records += len(await consumer.poll(max_records=100, timeout_s=0.1))
    await consumer.close()
    await broker.close()


def test_group_that_retains_records_is_logged_once_with_advice(
    file: sqlite3.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    file.execute("INSERT INTO topics VALUES ('events', 1, 3600, 100000, 'delete')")
    file.execute("INSERT INTO partitions (topic, partition) VALUES ('events', 0)")
    transaction = Transaction(file)
    append(transaction, [OutRecord("events", "key", bytes(100_000 - 100))] * 3)
    transaction.flush()
    file.execute("INSERT INTO cursors VALUES ('old-sink', 1, NULL, 1, 1)")
    clocks = [Clocks("boot", day * DAY_MS, day * DAY_MS) for day in range(5)]
    retention = Retention(lambda: clocks.pop(0))
    for _ in range(3):
        assert retention.work(file) is False
        retention.report()

    (warning,) = (record.getMessage() for record in caplog.records)
    assert "old-sink has not committed 2 records (about 0.2 MB)" in warning
    assert "standgale topics forget-group old-sink" in warning
    assert RETENTION_HELD.labels("old-sink")._value.get() == 2
    file.execute("UPDATE cursors SET next_offset = 3")
    retention.work(file)
    retention.report()
    assert RETENTION_HELD.labels("old-sink")._value.get() == 0
