"""Reading what stands in a partition already, from one offset to another, without a group."""

from __future__ import annotations

from collections.abc import AsyncIterator

from infra.broker.port import InRecord, Reader, TopicPartition


async def read_between(
    reader: Reader, source: TopicPartition, first: int, end: int, *, batch: int = 500
) -> AsyncIterator[InRecord]:
    """The committed records of ``source`` at offsets ``first`` up to, without, ``end``; ``batch`` at a time in memory.

    Raises BrokerUnavailableError.
    """
    offset = first
    while offset < end:
        # All that is wanted is there already, so there is nothing to wait for.
        records = await reader.read(source, offset, max_records=batch, timeout_s=0)
        if not records:
            # What lies before the end may be expired, or markers of transactions, which are no records.
            return
        for record in records:
            if record.offset >= end:
                return
            yield record
        offset = records[-1].offset + 1
