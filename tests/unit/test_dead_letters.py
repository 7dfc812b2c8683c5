"""Dead letters: listed in order, filtered and found."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest

from infra.broker.embedded.adapter import EmbeddedBroker
from infra.broker.port import InRecord, OutRecord, Reader
from infra.dead_letters import Filter, find, list_dead
from infra.errors import ImageCorruptError, ImageMissingError
from infra.failure import dead_letter
from schemas.cloudevents import decode
from schemas.events import DeadLetter
from schemas.topics import FRAMES_DEAD, FRAMES_LIVE, SINKS_DEAD, load_topics

HEADERS = (("ce_id", b"1"), ("odd", b"\xff\x00"), ("odd", b"twice"))


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[EmbeddedBroker]:
    broker = EmbeddedBroker(tmp_path / "broker.sqlite", load_topics())
    yield broker
    await broker.close()


@pytest.fixture
async def reader(broker: EmbeddedBroker) -> AsyncIterator[Reader]:
    reader = await broker.reader()
    yield reader
    await reader.close()


async def publish(broker: EmbeddedBroker, *records: OutRecord) -> None:
    publisher = await broker.publisher()
    await publisher.publish(records)
    await publisher.close()


def original(offset: int, device: str | None = "cam-1", value: bytes | None = b"\x00not text\xff") -> InRecord:
    return InRecord(FRAMES_LIVE, 0, offset, 1_000, device, value, HEADERS)


def letter(
    record: InRecord, *, error: Exception | None = None, topic: str = FRAMES_DEAD, group: str = "detector"
) -> OutRecord:
    return dead_letter(record, group=group, error=error or ImageMissingError("gone"), attempts=1, topic=topic)


def opened(record: OutRecord) -> DeadLetter:
    return decode(record.headers, record.value, DeadLetter)


async def offsets(reader: Reader, topic: str = FRAMES_DEAD, **how: object) -> list[int]:
    wanted = Filter(**how)  # type: ignore[arg-type]  # the names and types are the tests' own
    return [found.original.offset async for found in list_dead(reader, topic, wanted=wanted)]


async def test_an_empty_topic_has_none(reader: Reader) -> None:
    assert await offsets(reader) == []
    assert await find(reader, [FRAMES_DEAD, SINKS_DEAD], UUID(int=1)) is None


async def test_they_come_oldest_first_over_all_partitions(broker: EmbeddedBroker, reader: Reader) -> None:
    for number in range(40):
        await publish(broker, letter(original(number, f"cam-{number % 7}")))
        # Records of one millisecond may stand in any order.
        await asyncio.sleep(0.002)
    assert await offsets(reader) == list(range(40))


async def test_filters_and_limit(broker: EmbeddedBroker, reader: Reader) -> None:
    await publish(broker, letter(original(1, "cam-1")), letter(original(2, "cam-2"), error=ImageCorruptError("bad")))
    await publish(broker, letter(original(3, "cam-2"), group="sink.x"))
    assert sorted(await offsets(reader)) == [1, 2, 3]
    assert await offsets(reader, reason="IMAGE_CORRUPT") == [2]
    assert sorted(await offsets(reader, device_id="cam-2")) == [2, 3]
    assert await offsets(reader, group="sink.x") == [3]
    assert await offsets(reader, device_id="cam-1", reason="IMAGE_CORRUPT") == []
    assert sorted(await offsets(reader, since=datetime.now(UTC) - timedelta(minutes=1))) == [1, 2, 3]
    assert await offsets(reader, since=datetime.now(UTC) + timedelta(minutes=1)) == []
    for limit in (0, 1, 2):
        assert len([found async for found in list_dead(reader, FRAMES_DEAD, limit=limit)]) == limit


async def test_one_is_found_on_either_topic_and_told_once(broker: EmbeddedBroker, reader: Reader) -> None:
    wanted = letter(original(7), topic=SINKS_DEAD)
    await publish(broker, letter(original(1)), wanted, wanted)
    found = await find(reader, [FRAMES_DEAD, SINKS_DEAD], opened(wanted).id)
    assert found == opened(wanted)
    assert await offsets(reader, SINKS_DEAD) == [7]


async def test_what_is_no_dead_letter_is_passed_over_with_a_warning(
    broker: EmbeddedBroker, reader: Reader, caplog: pytest.LogCaptureFixture
) -> None:
    await publish(broker, OutRecord(FRAMES_DEAD, "k", b"junk"), letter(original(1)))
    assert await offsets(reader) == [1]
    assert "is no dead letter" in caplog.text
