"""Tests what only the embedded broker has: its file, its failures, and the clock of its members."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import closing
from pathlib import Path

import pytest

from infra.broker.embedded.adapter import EmbeddedBroker
from infra.broker.embedded.file import connection
from infra.broker.embedded.file.file_identity import FileIdentity
from infra.broker.embedded.file.log import Transaction
from infra.broker.embedded.writer import TransactionWriter
from infra.broker.port import CommitPoint, Consumer, GroupSpec, InRecord, Loss, OutRecord
from infra.errors import BrokerUnavailableError, PartitionLostError, SettingsError, TopicMismatchError
from schemas.topics import TopicSpec, load_topics

LIVE, JOBS = "frames.live", "frames.jobs"
MakeBroker = Callable[..., EmbeddedBroker]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "broker.sqlite"


@pytest.fixture
async def make_broker(path: Path) -> AsyncIterator[MakeBroker]:
    made: list[EmbeddedBroker] = []

    def make(topics: Mapping[str, TopicSpec] | None = None, where: Path = path) -> EmbeddedBroker:
        made.append(EmbeddedBroker(where, load_topics() if topics is None else topics))
        return made[-1]

    yield make
    for broker in made:
        await broker.close()


async def poll_until(consumer: Consumer, done: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not done():
            await consumer.poll(max_records=10, timeout_s=0.02)


async def test_foreign_file_is_refused_and_not_changed(path: Path, make_broker: MakeBroker) -> None:
    path.write_bytes(b"this is no database, " * 100)
    with pytest.raises(BrokerUnavailableError, match=rf"{path}.*no broker file"):
        await make_broker().publisher()
    assert path.read_bytes().startswith(b"this is no database")
    path.unlink()
    await make_broker().publisher()


async def test_folder_that_cannot_be_created_is_named(tmp_path: Path, make_broker: MakeBroker) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BrokerUnavailableError, match="another data_dir"):
        await make_broker(where=tmp_path / "file" / "broker.sqlite").admin()


async def test_file_of_another_schema_version_is_refused(path: Path, make_broker: MakeBroker) -> None:
    with sqlite3.connect(path) as file:
        file.execute("PRAGMA user_version = 99")
    file.close()
    with pytest.raises(BrokerUnavailableError, match="another version"):
        await make_broker().admin()


async def test_full_disk_loses_nothing_and_is_transient(make_broker: MakeBroker) -> None:
    broker = make_broker()
    publisher, reader = await broker.publisher(), await broker.reader()
    await publisher.publish([OutRecord(LIVE, "key", b"before")])

    def fill(transaction: Transaction) -> None:
        (pages,) = transaction.connection.execute("PRAGMA page_count").fetchone()
        transaction.connection.execute(f"PRAGMA max_page_count = {pages}")

    assert broker._store is not None
    await broker._store.writer.run(fill)
    record = OutRecord(LIVE, "key", bytes(500_000))
    with pytest.raises(BrokerUnavailableError, match="disk is full"):
        await publisher.publish([record])
    assert sum(end for _, end in (await reader.bounds(LIVE)).values()) == 1
    await publisher.publish([record])
    assert sum(end for _, end in (await reader.bounds(LIVE)).values()) == 2


async def test_write_waits_for_other_processes_with_a_time_limit(
    path: Path, make_broker: MakeBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher = await make_broker().publisher()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    waiting = asyncio.create_task(publisher.publish([OutRecord(LIVE, "key", b"waits")]))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    other.execute("COMMIT")
    await waiting

    other.execute("BEGIN IMMEDIATE")
    monkeypatch.setattr(connection, "BUSY_WAIT_S", 0.1)
    with pytest.raises(BrokerUnavailableError, match="locked"):
        await publisher.publish([OutRecord(LIVE, "key", b"gives up")])
    other.close()
    await publisher.publish([OutRecord(LIVE, "key", b"goes on")])


async def test_different_partition_count_opens_only_the_admin(make_broker: MakeBroker) -> None:
    topics = load_topics()
    await make_broker(topics).publisher()
    broker = make_broker(topics | {LIVE: topics[LIVE].model_copy(update={"partitions": 16})})
    for opened in (broker.publisher, broker.reader, lambda: broker.consumer(GroupSpec("g", (LIVE,)))):
        with pytest.raises(TopicMismatchError, match="16 declared, 8 found"):
            await opened()
    admin = await broker.admin()
    assert await admin.check(topics.values()) == []


async def test_unknown_topics_and_partitions_are_named(make_broker: MakeBroker) -> None:
    broker = make_broker()
    with pytest.raises(TopicMismatchError, match="'absent'"):
        await broker.consumer(GroupSpec("g", ("absent",)))
    reader, admin = await broker.reader(), await broker.admin()
    with pytest.raises(TopicMismatchError, match="'absent'"):
        await reader.bounds("absent")
    with pytest.raises(TopicMismatchError, match="'absent'"):
        await admin.group_lag("g", ["absent"])


async def test_outputs_for_several_partition_numbers_are_refused(make_broker: MakeBroker) -> None:
    consumer = await make_broker().consumer(GroupSpec("g", (LIVE,)))
    await poll_until(consumer, lambda: len(consumer.assignment()) == 8)
    points = {source: CommitPoint(0, epoch) for source, epoch in consumer.assignment().items()}
    with pytest.raises(ValueError, match="one number"):
        await consumer.commit(points, [OutRecord("detections", "key", b"x")])
    await consumer.commit(points)
    await consumer.close()


async def test_replaced_static_member_raises_settings_error(make_broker: MakeBroker) -> None:
    spec = GroupSpec("g", (LIVE, JOBS), instance_id="worker-1", session_timeout_s=0.4)
    former, successor = await make_broker().consumer(spec), None
    await poll_until(former, lambda: len(former.assignment()) == 16)
    successor = await make_broker().consumer(spec)
    await poll_until(successor, lambda: len(successor.assignment()) == 16)
    # Its heartbeat, which continues for a while, must not take the membership back either.
    await asyncio.sleep(0.3)
    for _ in range(2):
        with pytest.raises(SettingsError, match="instance_id 'worker-1'"):
            await former.poll(max_records=1, timeout_s=0)
    epochs = dict(successor.assignment())
    await former.close()
    await successor.poll(max_records=1, timeout_s=0)
    assert dict(successor.assignment()) == epochs
    await successor.close()


async def test_member_with_a_late_heartbeat_joins_again(path: Path, make_broker: MakeBroker) -> None:
    broker = make_broker()
    paused = await broker.consumer(GroupSpec("g", (LIVE,), session_timeout_s=60))
    await poll_until(paused, lambda: len(paused.assignment()) == 8)
    epochs = dict(paused.assignment())
    with sqlite3.connect(path) as file:
        # As after a long pause, or, with a heartbeat in the future, after a restart of the machine.
        file.execute("UPDATE members SET beat_ms = beat_ms + 10000000")
    file.close()
    other = await broker.consumer(GroupSpec("g", (LIVE,), session_timeout_s=60))
    await poll_until(other, lambda: len(other.assignment()) == 8)
    await poll_until(paused, lambda: len(paused.assignment()) == 4)
    assert all(epoch > epochs[source] for source, epoch in paused.assignment().items())
    await paused.close()
    await other.close()


async def test_member_that_was_frozen_while_its_group_was_deleted_reads_from_the_start(
    path: Path, make_broker: MakeBroker
) -> None:
    broker = make_broker()
    publisher = await broker.publisher()
    await publisher.publish([OutRecord(LIVE, "key", b"%d" % number) for number in range(6)])
    frozen = await broker.consumer(GroupSpec("g", (LIVE,), session_timeout_s=60))
    first, *others = await frozen.poll(max_records=4, timeout_s=10)
    await frozen.commit({first.source: CommitPoint(2, first.epoch)})
    with closing(sqlite3.connect(path)) as file, file:
        file.execute("UPDATE members SET beat_ms = beat_ms - 10000000")
    admin = await broker.admin()
    await admin.forget_group("g")
    await admin.close()
    again: list[InRecord] = []
    async with asyncio.timeout(10):
        while len(again) < 6:
            again += await frozen.poll(max_records=10, timeout_s=0.02)
    assert [record.offset for record in again] == list(range(6))
    # What it had polled before cannot be committed any more, although the partition is its own again.
    with pytest.raises(PartitionLostError):
        await frozen.commit({first.source: CommitPoint(4, others[-1].epoch)})
    await frozen.close()
    await publisher.close()


async def test_closed_clients_raise_broker_unavailable(make_broker: MakeBroker) -> None:
    broker = make_broker()
    publisher, reader = await broker.publisher(), await broker.reader()
    consumer = await broker.consumer(GroupSpec("g", (LIVE,)))
    await consumer.close()
    with pytest.raises(BrokerUnavailableError, match="closed"):
        await consumer.poll(max_records=1, timeout_s=0)
    orphan = await broker.consumer(GroupSpec("g", (LIVE,)))
    await broker.close()
    await broker.close()
    with pytest.raises(BrokerUnavailableError, match="closed"):
        await publisher.publish([OutRecord(LIVE, "key", b"x")])
    with pytest.raises(BrokerUnavailableError, match="closed"):
        await reader.bounds(LIVE)
    await orphan.close()
    await publisher.close()


async def test_writer_skips_cancelled_work_and_continues_after_errors(path: Path) -> None:
    writer = TransactionWriter(FileIdentity(path), {}, lambda: None)
    started, ran = asyncio.Event(), []
    loop = asyncio.get_running_loop()

    def slow(transaction: Transaction) -> str:
        loop.call_soon_threadsafe(started.set)
        asyncio.run_coroutine_threadsafe(asyncio.sleep(0.1), loop).result()
        return "slow"

    def wrong(transaction: Transaction) -> None:
        raise ZeroDivisionError

    first = asyncio.create_task(writer.run(slow))
    await started.wait()
    cancelled = asyncio.create_task(writer.run(lambda _: ran.append("cancelled")))
    broken = asyncio.create_task(writer.run(wrong))
    last = asyncio.create_task(writer.run(lambda _: ran.append("last")))
    await asyncio.sleep(0)
    cancelled.cancel()
    assert await first == "slow"
    with pytest.raises(ZeroDivisionError):
        await broken
    await last
    assert ran == ["last"]
    await asyncio.to_thread(writer.close)


async def test_unexpected_error_while_writing_does_not_end_the_writer(
    make_broker: MakeBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher = await make_broker().publisher()

    def wrong(connection: sqlite3.Connection) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("infra.broker.embedded.writer.commit", wrong)
    with pytest.raises(BrokerUnavailableError, match="unexpected error ZeroDivisionError"):
        await publisher.publish([OutRecord(LIVE, "key", b"x")])
    monkeypatch.undo()
    await publisher.publish([OutRecord(LIVE, "key", b"x")])


async def test_loss_is_reported_until_committed(path: Path, make_broker: MakeBroker) -> None:
    broker = make_broker()
    publisher = await broker.publisher()
    await publisher.publish([OutRecord(LIVE, "key", b"%d" % number) for number in range(6)])
    spec = GroupSpec("g", (LIVE,), instance_id="one")
    former = await broker.consumer(spec)
    (first, *_) = await former.poll(max_records=10, timeout_s=10)
    await former.commit({first.source: CommitPoint(2, first.epoch)})
    assert former.losses() == ()
    await former.close()
    with closing(sqlite3.connect(path)) as file, file:
        # As an earlier release did when the clock was set forward.
        file.execute("DELETE FROM records WHERE value < ?", (b"4",))
        file.execute("UPDATE partitions SET first_offset = 4 WHERE next_offset > 0")

    consumer = await broker.consumer(spec)
    (record, *_) = await consumer.poll(max_records=10, timeout_s=10)
    assert record.offset == 4
    (loss,) = consumer.losses()
    assert loss == Loss(first.source, 2, 4, record.epoch)
    await consumer.commit({loss.source: CommitPoint(loss.end, loss.epoch)})
    assert consumer.losses() == ()
    await consumer.close()
