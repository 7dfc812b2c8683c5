"""Reads the records that are already in a partition, from one offset to another, without a group."""

from __future__ import annotations

from collections.abc import AsyncIterator

from infra.broker.port import InRecord, Reader, TopicPartition


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
