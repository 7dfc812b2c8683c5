"""Reads the records that are already in a partition, without a group: between two offsets, or the newest."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import TypeVar

from infra.broker.port import InRecord, Reader, TopicPartition
from infra.errors import BrokerUnavailableError, TransientError

FoundT = TypeVar("FoundT")

_READ_RECORDS = 2_000
_LONGEST_STEP = 50_000
_CLOSE_TIMEOUT_S = 5.0


async def read_between(
    reader: Reader, source: TopicPartition, first: int, end: int, *, batch: int = 500
) -> AsyncIterator[InRecord]:
    """Yield the committed records of ``source`` from ``first`` up to but without ``end``; ``batch`` at once in memory.

    Raises BrokerUnavailableError.
    """
    offset = first
    while offset < end:
        # All wanted records exist already, so there is nothing to wait for.
        records = await reader.read(source, offset, max_records=batch, timeout_s=0)
        if not records:
            # The offsets before the end may be expired records, or markers of transactions, which are no records.
            return
        for record in records:
            if record.offset >= end:
                return
            yield record
        offset = records[-1].offset + 1


async def read_newest(
    reader: Reader,
    source: TopicPartition,
    bounds: tuple[int, int],
    count: int,
    pick: Callable[[InRecord], FoundT | None],
    *,
    batch: int = _READ_RECORDS,
) -> list[FoundT]:
    """Return what ``pick`` makes of the last ``count`` records between ``bounds`` of which it makes something.

    Oldest first. Reads backwards in steps: offsets do not count records, because transaction marks use some of them.
    Raises BrokerUnavailableError.
    """
    first, start = bounds
    step, found = count, list[FoundT]()
    while start > first and len(found) < count:
        end, start = start, max(first, start - step)
        step = min(2 * step, _LONGEST_STEP)
        earlier = [
            picked
            async for record in read_between(reader, source, start, end, batch=batch)
            if (picked := pick(record)) is not None
        ]
        found = earlier + found
    return found[-count:] if count else []


async def respond_within(asked: Awaitable[FoundT], seconds: float, what: str) -> FoundT:
    """Return the result of ``asked``, a call about ``what``, or raise BrokerUnavailableError after ``seconds``."""
    try:
        async with asyncio.timeout(seconds):
            return await asked
    except TimeoutError as error:
        raise BrokerUnavailableError(
            f"{what}: the broker did not respond within {seconds:g} s; check that the node that leads it runs"
        ) from error


@asynccontextmanager
async def opened_reader(opening: Awaitable[Reader], within_s: float) -> AsyncIterator[Reader]:
    """Open a reader for the block; a hanging broker keeps neither its begin nor its end waiting for long.

    Raises BrokerUnavailableError when ``opening`` takes longer than ``within_s``.
    """
    reader = await respond_within(opening, within_s, "opening a reader")
    try:
        yield reader
    finally:
        with suppress(TimeoutError, TransientError):
            async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                await reader.close()
