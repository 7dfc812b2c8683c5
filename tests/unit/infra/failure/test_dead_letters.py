"""Dead letters: listed in order, filtered and found."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from infra.broker.port import OutRecord, Reader
from infra.errors import ImageCorruptError
from infra.failure.dead_letters import DeadLetterFilter, find_dead_letter, list_dead
from schemas.topics import FRAMES_DEAD, SINKS_DEAD
from tests.factories import dead_letter_of, dead_letter_record, original
from tests.harnesses.sink_runs import FaultyBroker, publish


async def offsets(reader: Reader, topic: str = FRAMES_DEAD, **how: object) -> list[int]:
    wanted = DeadLetterFilter(**how)  # type: ignore[arg-type]  # the names and types are the tests' own
    return [found.original.offset async for found in list_dead(reader, topic, wanted=wanted)]


async def test_an_empty_topic_has_none(reader: Reader) -> None:
    assert await offsets(reader) == []
    assert await find_dead_letter(reader, [FRAMES_DEAD, SINKS_DEAD], UUID(int=1)) is None


async def test_dead_letters_are_listed_oldest_first_over_all_partitions(broker: FaultyBroker, reader: Reader) -> None:
    for number in range(40):
        await publish(broker, dead_letter_record(original(number, f"cam-{number % 7}")))
        # Records of one millisecond may have any order.
        await asyncio.sleep(0.002)
    assert await offsets(reader) == list(range(40))


async def test_filters_and_limit(broker: FaultyBroker, reader: Reader) -> None:
    await publish(
        broker,
        dead_letter_record(original(1, "cam-1")),
        dead_letter_record(original(2, "cam-2"), error=ImageCorruptError("bad")),
    )
    await publish(broker, dead_letter_record(original(3, "cam-2"), group="sink.x"))
    assert sorted(await offsets(reader)) == [1, 2, 3]
    assert await offsets(reader, reason="IMAGE_CORRUPT") == [2]
    assert sorted(await offsets(reader, device_id="cam-2")) == [2, 3]
    assert await offsets(reader, group="sink.x") == [3]
    assert await offsets(reader, device_id="cam-1", reason="IMAGE_CORRUPT") == []
    assert sorted(await offsets(reader, since=datetime.now(UTC) - timedelta(minutes=1))) == [1, 2, 3]
    assert await offsets(reader, since=datetime.now(UTC) + timedelta(minutes=1)) == []
    for limit in (0, 1, 2):
        assert len([found async for found in list_dead(reader, FRAMES_DEAD, limit=limit)]) == limit


async def test_find_dead_letter_on_either_topic(broker: FaultyBroker, reader: Reader) -> None:
    wanted = dead_letter_record(original(7), topic=SINKS_DEAD)
    await publish(broker, dead_letter_record(original(1)), wanted, wanted)
    found = await find_dead_letter(reader, [FRAMES_DEAD, SINKS_DEAD], dead_letter_of(wanted).id)
    assert found == dead_letter_of(wanted)
    assert await offsets(reader, SINKS_DEAD) == [7]


async def test_list_dead_skips_other_records_with_warning(
    broker: FaultyBroker, reader: Reader, caplog: pytest.LogCaptureFixture
) -> None:
    await publish(broker, OutRecord(FRAMES_DEAD, "k", b"junk"), dead_letter_record(original(1)))
    assert await offsets(reader) == [1]
    assert "is not a dead letter" in caplog.text
