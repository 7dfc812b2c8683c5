"""Dead letters: listed in order, filtered, found, and sent again byte for byte."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest

from infra.broker.embedded.adapter import EmbeddedBroker
from infra.broker.port import InRecord, OutRecord, Reader, TopicPartition
from infra.dead_letters import Filter, OriginalGoneError, find, list_dead, original_record, redrive
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


async def test_redriving_gives_back_the_record_byte_for_byte(broker: EmbeddedBroker, reader: Reader) -> None:
    values = [b"\x00not text\xff", None, b"", b"x" * 100_000]
    await publish(broker, *[letter(original(number, value=value)) for number, value in enumerate(values)])
    publisher = await broker.publisher()
    told: list[int] = []
    sent = await redrive(reader, publisher, list_dead(reader, FRAMES_DEAD), progress=told.append)
    await publisher.close()
    assert (sent, told[-1]) == (4, 4)
    found: list[InRecord] = []
    for partition, (first, end) in (await reader.bounds(FRAMES_LIVE)).items():
        if end > first:
            found += await reader.read(TopicPartition(FRAMES_LIVE, partition), first, max_records=10, timeout_s=5)
    assert [(record.key, record.value, record.headers) for record in found] == [
        ("cam-1", value, HEADERS) for value in values
    ]


async def test_redriving_in_batches_keeps_the_order(broker: EmbeddedBroker, reader: Reader) -> None:
    dead = [opened(letter(original(number, value=str(number).encode()))) for number in range(250)]

    async def letters() -> AsyncIterator[DeadLetter]:
        for one in dead:
            yield one

    told: list[int] = []
    publisher = await broker.publisher()
    assert await redrive(reader, publisher, letters(), progress=told.append) == 250
    await publisher.close()
    assert told == [100, 200, 250]
    (partition, (first, _)), *_ = [(p, b) for p, b in (await reader.bounds(FRAMES_LIVE)).items() if b[1] > b[0]]
    records = await reader.read(TopicPartition(FRAMES_LIVE, partition), first, max_records=250, timeout_s=5)
    assert [record.value for record in records] == [str(number).encode() for number in range(250)]


async def test_an_original_left_out_is_read_at_its_place(broker: EmbeddedBroker, reader: Reader) -> None:
    whole = OutRecord(FRAMES_LIVE, "cam-1", b"z" * 50_000, HEADERS)
    await publish(broker, whole)
    (partition, (first, _)), *_ = [(p, b) for p, b in (await reader.bounds(FRAMES_LIVE)).items() if b[1] > b[0]]
    (record,) = await reader.read(TopicPartition(FRAMES_LIVE, partition), first, max_records=1, timeout_s=5)
    out = dead_letter(record, group="g", error=ImageMissingError("x"), attempts=1, topic=FRAMES_DEAD, whole=False)
    assert await original_record(reader, opened(out)) == whole


async def test_an_original_that_is_gone_is_a_clear_error_and_those_before_are_sent(
    broker: EmbeddedBroker, reader: Reader
) -> None:
    gone = dead_letter(
        original(999), group="g", error=ImageMissingError("x"), attempts=1, topic=FRAMES_DEAD, whole=False
    )

    async def letters() -> AsyncIterator[DeadLetter]:
        yield opened(letter(original(1)))
        yield opened(gone)

    publisher = await broker.publisher()
    told: list[int] = []
    with pytest.raises(OriginalGoneError, match=r"frames\.live/0 no longer holds offset 999"):
        await redrive(reader, publisher, letters(), progress=told.append)
    await publisher.close()
    assert told == [1]


async def test_a_record_without_a_key_gets_its_device(reader: Reader) -> None:
    keyless = letter(original(1, None, b'{"device_id": "cam-9"}'))
    assert (await original_record(reader, opened(keyless))).key == "cam-9"
