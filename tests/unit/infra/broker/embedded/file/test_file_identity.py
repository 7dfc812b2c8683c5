"""Tests that the broker's file is removed, moved, replaced, or grown by another process while it is used."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path

import pytest

from infra.broker.embedded import writer
from infra.broker.embedded.adapter import EmbeddedBroker
from infra.broker.port import CommitPoint, Consumer, GroupSpec, InRecord, OutRecord, Reader, TopicPartition
from infra.errors import BrokerUnavailableError, PartitionLostError, TopicMismatchError
from schemas.topics import load_topics

LIVE = "frames.live"
TIMEOUT_S = 30.0
COMPANIONS = ("", "-wal", "-shm")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
async def broker(folder: Path) -> AsyncIterator[EmbeddedBroker]:
    broker = EmbeddedBroker(folder / "broker.sqlite", load_topics())
    yield broker
    await broker.close()


def record(value: bytes) -> OutRecord:
    return OutRecord(LIVE, "drone-1", value)


async def values(reader: Reader) -> list[bytes | None]:
    found: list[bytes | None] = []
    for partition, (first, end) in (await reader.bounds(LIVE)).items():
        if first < end:
            source = TopicPartition(LIVE, partition)
            found += [one.value for one in await reader.read(source, first, max_records=1_000, timeout_s=0)]
    return found


async def take(consumer: Consumer, count: int) -> list[InRecord]:
    records: list[InRecord] = []
    async with asyncio.timeout(TIMEOUT_S):
        while len(records) < count:
            records += await consumer.poll(max_records=10, timeout_s=0.1)
    return records


def take_away(folder: Path, how: str) -> Callable[[], None]:
    """Move the broker's file away; the returned function puts it back."""
    away = folder.with_name("away")
    moves = [(folder, away)]
    if how != "folder":
        away.mkdir()
        names = [f"broker.sqlite{suffix}" for suffix in (COMPANIONS if how == "files" else ("",))]
        moves = [(folder / name, away / name) for name in names]
    for source, target in moves:
        source.rename(target)

    def put_back() -> None:
        for source, target in moves:
            target.rename(source)

    return put_back


def after_commit(monkeypatch: pytest.MonkeyPatch, act: Callable[[], None]) -> None:
    """Call ``act`` once, directly after the commit of the first record."""
    acted = False

    def commit(connection: sqlite3.Connection) -> None:
        nonlocal acted
        connection.execute("COMMIT")
        (count,) = connection.execute("SELECT count(*) FROM records").fetchone()
        if count and not acted:
            acted = True
            act()

    monkeypatch.setattr(writer, "commit", commit)


@pytest.mark.parametrize("how", ["folder", "files", "file alone"])
async def test_missing_file_acknowledges_nothing_and_loses_nothing(
    how: str, folder: Path, broker: EmbeddedBroker
) -> None:
    publisher, reader = await broker.publisher(), await broker.reader()
    consumer = await broker.consumer(GroupSpec("group", (LIVE,), session_timeout_s=60))
    await publisher.publish([record(b"before")])
    (before,) = await take(consumer, 1)

    put_back = take_away(folder, how)
    waiting = asyncio.create_task(consumer.poll(max_records=1, timeout_s=TIMEOUT_S))
    for act in (
        publisher.publish([record(b"refused")]),
        reader.bounds(LIVE),
        consumer.commit({before.source: CommitPoint(before.offset + 1, before.epoch)}),
        waiting,
    ):
        with pytest.raises(BrokerUnavailableError, match="removed, or it or its folder was moved"):
            await act
    assert not (folder / "broker.sqlite").exists(), "no empty file may take its place"

    put_back()
    await consumer.commit({before.source: CommitPoint(before.offset + 1, before.epoch)}, [record(b"output")])
    await publisher.publish([record(b"after")])
    assert await values(reader) == [b"before", b"output", b"after"]
    assert [one.value for one in await take(consumer, 2)] == [b"output", b"after"]
    await consumer.close()


async def test_removed_file_is_not_created_again_by_the_same_process(folder: Path, broker: EmbeddedBroker) -> None:
    publisher = await broker.publisher()
    await publisher.publish([record(b"before")])
    shutil.rmtree(folder)
    for make in (False, True):
        if make:
            folder.mkdir()
        with pytest.raises(BrokerUnavailableError, match="removed"):
            await publisher.publish([record(b"refused")])
        with pytest.raises(BrokerUnavailableError, match="removed"):
            await broker.consumer(GroupSpec("group", (LIVE,)))
    await broker.close()

    successor = EmbeddedBroker(folder / "broker.sqlite", load_topics())
    await (await successor.publisher()).publish([record(b"anew")])
    assert await values(await successor.reader()) == [b"anew"]
    await successor.close()


async def test_different_file_in_its_place_is_not_used_and_not_changed(folder: Path, broker: EmbeddedBroker) -> None:
    publisher, reader = await broker.publisher(), await broker.reader()
    await publisher.publish([record(b"former")])
    put_back = take_away(folder, "files")
    (folder / "broker.sqlite.made").unlink()
    other = EmbeddedBroker(folder / "broker.sqlite", load_topics())
    await (await other.publisher()).publish([record(b"of the other")])

    with pytest.raises(BrokerUnavailableError, match="another file was put in its place"):
        await publisher.publish([record(b"refused")])
    with pytest.raises(BrokerUnavailableError, match="another file"):
        await values(reader)
    # Closing connections to the former file must not change the other file's log.
    await broker.close()
    await (await other.publisher()).publish([record(b"and again")])
    assert (folder / "broker.sqlite-wal").exists()
    assert await values(await other.reader()) == [b"of the other", b"and again"]
    await other.close()
    put_back()
    former = EmbeddedBroker(folder / "broker.sqlite", load_topics())
    assert await values(await former.reader()) == [b"former"]
    await former.close()


@pytest.mark.parametrize("suffix", ["-wal", "-shm"])
async def test_removed_companion_is_detected_and_nothing_is_lost(
    suffix: str, folder: Path, broker: EmbeddedBroker
) -> None:
    publisher, reader = await broker.publisher(), await broker.reader()
    await publisher.publish([record(b"only in the log")])
    assert await values(reader) == [b"only in the log"]
    (folder / f"broker.sqlite{suffix}").unlink()
    for act in (publisher.publish([record(b"refused")]), values(reader)):
        with pytest.raises(BrokerUnavailableError, match=f"broker.sqlite{suffix}.*SIGTERM"):
            await act
    await broker.close()

    successor = EmbeddedBroker(folder / "broker.sqlite", load_topics())
    assert await values(await successor.reader()) == [b"only in the log"]
    await successor.close()


async def test_commit_while_the_file_is_moved_returns_when_it_is_back(
    folder: Path, broker: EmbeddedBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher, reader = await broker.publisher(), await broker.reader()
    put_back: list[Callable[[], None]] = []
    gone, loop = asyncio.Event(), asyncio.get_running_loop()

    def move() -> None:
        put_back.append(take_away(folder, "folder"))
        loop.call_soon_threadsafe(gone.set)

    after_commit(monkeypatch, move)
    undecided = asyncio.create_task(publisher.publish([record(b"committed")]))
    await asyncio.wait_for(gone.wait(), TIMEOUT_S)
    with pytest.raises(BrokerUnavailableError):
        await publisher.publish([record(b"refused")])
    # If the first one were refused too, its publisher would send it again, and it would be stored twice.
    assert not undecided.done()
    put_back[0]()
    await asyncio.wait_for(undecided, TIMEOUT_S)
    assert await values(reader) == [b"committed"]


async def test_undecided_commit_raises_at_close(
    folder: Path, broker: EmbeddedBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher, gone = await broker.publisher(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def remove() -> None:
        shutil.rmtree(folder)
        loop.call_soon_threadsafe(gone.set)

    after_commit(monkeypatch, remove)
    undecided = asyncio.create_task(publisher.publish([record(b"committed")]))
    await asyncio.wait_for(gone.wait(), TIMEOUT_S)
    await broker.close()
    with pytest.raises(BrokerUnavailableError, match="is not known"):
        await undecided


async def test_process_with_a_different_partition_count_publishes_and_owns_nothing(
    folder: Path, broker: EmbeddedBroker
) -> None:
    publisher = await broker.publisher()
    consumer = await broker.consumer(GroupSpec("group", (LIVE,), session_timeout_s=60))
    await publisher.publish([record(b"before")])
    (before,) = await take(consumer, 1)
    with closing(sqlite3.connect(folder / "broker.sqlite")) as file, file:
        # As another process with a newer topics.yaml does.
        file.execute("INSERT INTO partitions (topic, partition) VALUES (?, 8)", (LIVE,))
        file.execute("UPDATE groups SET generation = generation + 1")

    async with asyncio.timeout(TIMEOUT_S):
        with pytest.raises(TopicMismatchError, match=r"topics\.yaml"):
            while True:
                await consumer.poll(max_records=1, timeout_s=0.1)
    with pytest.raises(TopicMismatchError, match=r"topics\.yaml"):
        await publisher.publish([record(b"refused")])
    assert dict(consumer.assignment()) == {}
    with pytest.raises(PartitionLostError):
        await consumer.commit({before.source: CommitPoint(before.offset + 1, before.epoch)})
    with closing(sqlite3.connect(folder / "broker.sqlite")) as file:
        assert file.execute("SELECT count(*) FROM members").fetchone() == (0,)

    topics = load_topics()
    grown = EmbeddedBroker(folder / "broker.sqlite", topics | {LIVE: topics[LIVE].model_copy(update={"partitions": 9})})
    heir = await grown.consumer(GroupSpec("group", (LIVE,), session_timeout_s=60))
    assert [one.value for one in await take(heir, 1)] == [b"before"]
    assert len(heir.assignment()) == 9
    await heir.close()
    await grown.close()
    await consumer.close()


async def test_broker_is_usable_once_its_topics_are_as_declared(folder: Path, broker: EmbeddedBroker) -> None:
    topics = load_topics()
    other = EmbeddedBroker(folder / "broker.sqlite", topics | {LIVE: topics[LIVE].model_copy(update={"partitions": 9})})
    await broker.publisher()
    with pytest.raises(TopicMismatchError):
        await other.publisher()
    with closing(sqlite3.connect(folder / "broker.sqlite")) as file, file:
        file.execute("INSERT INTO partitions (topic, partition) VALUES (?, 8)", (LIVE,))
    await (await other.publisher()).publish([record(b"mended")])
    await other.close()


async def test_process_started_while_the_file_is_missing_creates_none(broker: EmbeddedBroker, folder: Path) -> None:
    publisher = await broker.publisher()
    await publisher.publish([record(b"before")])
    put_back = take_away(folder, "files")
    starting = EmbeddedBroker(folder / "broker.sqlite", load_topics())
    with pytest.raises(BrokerUnavailableError, match=r"broker\.sqlite\.made to begin with an empty file"):
        await starting.publisher()
    assert not (folder / "broker.sqlite").exists()
    put_back()
    await (await starting.publisher()).publish([record(b"after")])
    assert await values(await broker.reader()) == [b"before", b"after"]
    await starting.close()


async def test_without_its_mark_an_empty_file_is_created(folder: Path) -> None:
    for _ in range(2):
        broker = EmbeddedBroker(folder / "broker.sqlite", load_topics())
        await (await broker.publisher()).publish([record(b"first")])
        assert await values(await broker.reader()) == [b"first"]
        await broker.close()
        for path in folder.iterdir():
            path.unlink()
