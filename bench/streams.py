"""Fills a topic with events of 1 KB, and copies it to another topic in transactions, for the broker benchmarks."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence

from infra.broker.partitioning import partition_for
from infra.broker.port import Broker, CommitPoint, Consumer, GroupSpec, InRecord, OutRecord
from schemas.topics import TopicSpec
from standgale.testing.factories import topic_spec

VALUE_BYTES = 1_000
BATCH = 500
"""Records per publish, and per transaction."""
_HEADERS = (("ce_id", b"01f3"), ("ce_type", b"standgale.bench.v1"), ("ce_source", b"/standgale/bench"))
_TIMEOUT_S = 60.0


def topic(name: str, partitions: int) -> TopicSpec:
    """Return a topic for a benchmark."""
    return topic_spec(name, partitions=partitions, group="device", about="a benchmark")


def keys(partitions: int) -> list[str]:
    """Return one key for each partition, in the order of the partitions."""
    found: dict[int, str] = {}
    number = 0
    while len(found) < partitions:
        found.setdefault(partition_for(f"device-{number}", partitions), f"device-{number}")
        number += 1
    return [found[partition] for partition in range(partitions)]


def events(name: str, key: str, count: int) -> list[OutRecord]:
    """Return ``count`` records with values that do not compress."""
    return [OutRecord(name, key, os.urandom(VALUE_BYTES), _HEADERS) for _ in range(count)]


async def fill(broker: Broker, records: Sequence[OutRecord], callers: int) -> float:
    """Publish ``records`` in batches from ``callers`` tasks at once; return events per second, all durable."""
    publisher = await broker.publisher()
    waiting = iter([records[first : first + BATCH] for first in range(0, len(records), BATCH)])

    async def publish() -> None:
        for batch in waiting:
            await publisher.publish(batch)

    try:
        start = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for _ in range(callers):
                group.create_task(publish())
        return len(records) / (time.perf_counter() - start)
    finally:
        await publisher.close()


async def carry(broker: Broker, group: str, source: str, target: str, count: int) -> float:
    """Consume ``count`` events as a new ``group`` and commit each with its output; return events per second.

    A transaction has what one poll returned of one partition, BATCH records where there are as many. Joining is not
    counted: the time starts with the first records.
    """
    consumer = await broker.consumer(GroupSpec(group, (source,), outputs=True))
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            records = await _poll(consumer)
            start, done = time.perf_counter(), 0
            while True:
                await _commit(consumer, records, target)
                done += len(records)
                if done >= count:
                    return done / (time.perf_counter() - start)
                records = await _poll(consumer)
    finally:
        await consumer.close()


async def _poll(consumer: Consumer) -> list[InRecord]:
    while not (records := await consumer.poll(max_records=BATCH, timeout_s=1.0)):
        continue
    return records


async def _commit(consumer: Consumer, records: Sequence[InRecord], target: str) -> None:
    by_partition: dict[int, list[InRecord]] = {}
    for record in records:
        by_partition.setdefault(record.partition, []).append(record)
    for own in by_partition.values():
        last = own[-1]
        await consumer.commit(
            {last.source: CommitPoint(last.offset + 1, last.epoch)}, [_output_record(one, target) for one in own]
        )


def _output_record(record: InRecord, target: str) -> OutRecord:
    """Return the output of a record: a different value of the same size."""
    value = record.value or b""
    return OutRecord(target, record.key or "", value[::-1], record.headers)
