"""The newest records of a partition are read backwards in steps, and a broker that hangs is given up."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping

import pytest

from infra.broker.port import InRecord, TopicPartition, TopicState
from infra.broker.reading import read_newest, respond_within
from infra.errors import BrokerUnavailableError
from standgale.testing.factories import in_record

SOURCE = TopicPartition("in", 0)


class Log:
    """A partition with records at some offsets only, as transactions leave it."""

    def __init__(self, *offsets: int) -> None:
        self.records = [in_record(offset, topic=SOURCE.topic) for offset in offsets]
        self.read_records = 0

    async def state(self, topic: str) -> TopicState:
        raise NotImplementedError

    async def bounds(self, topic: str, partitions: Collection[int] | None = None) -> Mapping[int, tuple[int, int]]:
        raise NotImplementedError

    async def read(self, source: TopicPartition, offset: int, *, max_records: int, timeout_s: float) -> list[InRecord]:
        found = [one for one in self.records if one.offset >= offset][:max_records]
        self.read_records += len(found)
        return found

    async def close(self) -> None:
        """There is nothing to close."""


def even(record: InRecord) -> int | None:
    return record.offset if record.offset % 2 == 0 else None


async def test_read_newest_returns_the_last_picked_records_in_order() -> None:
    log = Log(*range(0, 1_000, 3))
    assert await read_newest(log, SOURCE, (0, 1_000), 4, even, batch=3) == [978, 984, 990, 996]
    assert log.read_records < 20
    assert await read_newest(log, SOURCE, (990, 1_000), 4, even) == [990, 996]
    assert await read_newest(log, SOURCE, (0, 13), 100, even) == [0, 6, 12]
    assert await read_newest(log, SOURCE, (0, 1_000), 0, even) == []
    assert await read_newest(Log(), SOURCE, (0, 0), 5, even) == []


async def test_respond_within_gives_up_a_call_that_hangs() -> None:
    assert await respond_within(asyncio.sleep(0, "done"), 1.0, "in/0") == "done"
    with pytest.raises(BrokerUnavailableError, match=r"in/0: the broker did not respond within 0\.01 s"):
        await respond_within(asyncio.sleep(5), 0.01, "in/0")
