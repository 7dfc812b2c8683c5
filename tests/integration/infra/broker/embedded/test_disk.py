"""Tests the embedded broker on a slow disk and on a full disk."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from infra.broker.embedded import writer
from infra.broker.embedded.adapter import EmbeddedBroker
from infra.broker.embedded.cleaning.retention import Retention
from infra.broker.embedded.file.connection import open_writer
from infra.broker.embedded.file.log import Transaction
from infra.broker.embedded.group import membership
from infra.broker.port import Consumer, GroupSpec, OutRecord, TopicPartition
from infra.errors import BrokerUnavailableError
from schemas.topics import load_topics

LIVE = "frames.live"
TIMEOUT_S = 30.0
SESSION_S = 0.6


@pytest.fixture
async def brokers(tmp_path: Path) -> AsyncIterator[tuple[EmbeddedBroker, EmbeddedBroker]]:
    """Open two brokers on one file, as two processes do."""
    made = tuple(EmbeddedBroker(tmp_path / "broker.sqlite", load_topics()) for _ in range(2))
    yield made[0], made[1]
    for broker in made:
        await broker.close()


async def until_shared(members: tuple[Consumer, ...]) -> None:
    async with asyncio.timeout(TIMEOUT_S):
        while {len(member.assignment()) for member in members} != {8 // len(members)}:
            for member in members:
                await member.poll(max_records=1, timeout_s=0.02)


async def test_slow_disk_moves_no_partition_and_does_not_block_the_event_loop(
    brokers: tuple[EmbeddedBroker, EmbeddedBroker], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = GroupSpec("group", (LIVE,), session_timeout_s=SESSION_S)
    members = await brokers[0].consumer(spec), await brokers[1].consumer(spec)
    await until_shared(members)
    epochs = [dict(member.assignment()) for member in members]
    publisher = await brokers[0].publisher()
    commits = 0

    def commit(connection: sqlite3.Connection) -> None:
        nonlocal commits
        time.sleep(1.5 * SESSION_S)
        connection.execute("COMMIT")
        commits += 1

    monkeypatch.setattr(writer, "commit", commit)
    publishing = [asyncio.create_task(publisher.publish([OutRecord(LIVE, "key", b"slow")])) for _ in range(3)]
    longest = 0.0
    async with asyncio.timeout(TIMEOUT_S):
        while commits < 4:
            before = time.monotonic()
            for member in members:
                await member.poll(max_records=1, timeout_s=0.01)
            longest = max(longest, time.monotonic() - before)
    monkeypatch.undo()
    await asyncio.gather(*publishing)

    assert longest < SESSION_S, "a poll waited for the disk"
    assert [dict(member.assignment()) for member in members] == epochs
    for member in members:
        await member.poll(max_records=1, timeout_s=0)
    assert [dict(member.assignment()) for member in members] == epochs
    for member in members:
        await member.close()


async def test_dead_member_loses_its_partitions_while_other_heartbeats_are_punctual(
    brokers: tuple[EmbeddedBroker, EmbeddedBroker], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = GroupSpec("group", (LIVE,), session_timeout_s=SESSION_S)
    dead, heir = await brokers[0].consumer(spec), await brokers[1].consumer(spec)
    await until_shared((dead, heir))
    dead._heart.cancel()  # type: ignore[attr-defined]
    await until_shared((heir,))
    await heir.close()


async def test_heartbeat_is_written_before_waiting_records(brokers: tuple[EmbeddedBroker, EmbeddedBroker]) -> None:
    await brokers[0].publisher()
    store = brokers[0]._store
    assert store is not None
    order: list[str] = []
    started, release = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def hold(transaction: Transaction) -> None:
        loop.call_soon_threadsafe(started.set)
        asyncio.run_coroutine_threadsafe(release.wait(), loop).result()

    holding = asyncio.create_task(store.writer.run(hold))
    await started.wait()
    waiting = [
        asyncio.create_task(store.writer.run(lambda _: order.append("record"), size=8 * 1024 * 1024)) for _ in range(2)
    ]
    await asyncio.sleep(0)
    beat = asyncio.create_task(store.writer.run(lambda _: order.append("beat"), urgent=True))
    await asyncio.sleep(0)
    release.set()
    await asyncio.gather(holding, beat, *waiting)
    assert order == ["beat", "record", "record"]


async def test_failed_cleaning_is_tried_in_the_next_round(
    brokers: tuple[EmbeddedBroker, EmbeddedBroker], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cleaning = False
    failed = asyncio.Event()
    loop = asyncio.get_running_loop()

    def clean(_: Retention, __: sqlite3.Connection) -> bool:
        nonlocal cleaning
        cleaning = True
        return True

    def commit(connection: sqlite3.Connection) -> None:
        nonlocal cleaning
        if cleaning:
            cleaning = False
            loop.call_soon_threadsafe(failed.set)
            raise sqlite3.OperationalError("database or disk is full")
        connection.execute("COMMIT")

    monkeypatch.setattr(Retention, "work", clean)
    monkeypatch.setattr(writer, "commit", commit)
    monkeypatch.setattr(writer, "_CLEANING_PAUSE_S", 0.001)
    publisher = await brokers[0].publisher()
    async with asyncio.timeout(TIMEOUT_S):
        await failed.wait()
    # Long enough for hundreds of further attempts.
    await asyncio.sleep(0.3)
    await publisher.publish([OutRecord(LIVE, "key", b"there is room for this")])
    assert caplog.text.count("failed and are tried in the next round: ") == 1


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("mounting a small disk is not allowed here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


async def test_full_disk_refuses_loses_nothing_and_is_used_again_after_it(small_disk: Path) -> None:
    broker = EmbeddedBroker(small_disk / "broker.sqlite", load_topics())
    publisher, reader = await broker.publisher(), await broker.reader()
    consumer = await broker.consumer(GroupSpec("group", (LIVE,), session_timeout_s=60))
    accepted = 0
    with pytest.raises(BrokerUnavailableError, match="disk is full"):
        while accepted < 1_000:
            await publisher.publish([OutRecord(LIVE, "key", b"%06d" % accepted + bytes(100_000))])
            accepted += 1
    assert accepted > 10
    with pytest.raises(BrokerUnavailableError, match="disk is full"):
        await publisher.publish([OutRecord(LIVE, "key", bytes(500_000))])
    ((partition, (_, end)),) = [bound for bound in (await reader.bounds(LIVE)).items() if bound[1][1]]
    assert end == accepted

    await asyncio.to_thread(subprocess.run, ["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    await publisher.publish([OutRecord(LIVE, "key", b"%06d" % accepted)])
    records = await reader.read(TopicPartition(LIVE, partition), 0, max_records=1_000, timeout_s=0)
    assert [int((one.value or b"")[:6]) for one in records] == list(range(accepted + 1))
    assert await consumer.poll(max_records=1, timeout_s=TIMEOUT_S)
    await consumer.close()
    await broker.close()


def test_late_heartbeat_gives_other_members_more_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    connection = open_writer(tmp_path / "broker.sqlite")
    now_ms = 1_000_000
    monkeypatch.setattr(membership, "_now_ms", lambda: now_ms)
    transaction = Transaction(connection)
    connection.execute("INSERT INTO topics VALUES ('t', 1, 3600, 1000, 'delete')")
    connection.execute("INSERT INTO partitions (topic, partition) VALUES ('t', 0)")
    spec = GroupSpec("group", ("t",), session_timeout_s=10.0)
    one, two = membership.GroupMember(spec, "one", "1"), membership.GroupMember(spec, "two", "2")
    membership.join(transaction, one)
    membership.join(transaction, two)

    def members() -> list[str]:
        return [name for (name,) in connection.execute("SELECT member FROM members ORDER BY member")]

    # Both waited 15 s for the disk, and only the heartbeat of the second one was written.
    now_ms += 15_000
    membership.send_heartbeat(transaction, two)
    assert members() == ["one", "two"]
    # When it is punctual again, only the session counts.
    now_ms += 2_500
    membership.send_heartbeat(transaction, two)
    assert members() == ["two"]
    # A new member does not know how slow the disk is, and waits longer.
    now_ms += 39_000
    membership.join(transaction, one)
    assert members() == ["one", "two"]
    now_ms += 39_000
    membership.send_heartbeat(transaction, one)
    now_ms += 2_000
    membership.join(transaction, membership.GroupMember(spec, "three", "3"))
    assert members() == ["one", "three"]
    connection.close()
