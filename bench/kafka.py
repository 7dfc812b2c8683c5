"""Compares the Kafka adapter with bare aiokafka transactions: consume, transform, produce, in equal batches."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from itertools import count
from pathlib import Path

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition

from bench.measure import take_turns
from bench.processes import measured
from bench.result import RATIO, Figure, Goal, Result
from bench.streams import BATCH, VALUE_BYTES, carry, events, fill, keys, topic
from infra.broker.kafka.adapter import KafkaBroker
from infra.broker.settings import BrokerSettings
from infra.deploy.kafka.server import KafkaServer

GOAL = 0.5
_SOURCE, _TARGET = "bench.in", "bench.out"
_CALLERS = 4
_BATCH_BYTES = 262_144
_NOTE = (
    f"A real Apache Kafka (KRaft, one node) on the same machine, {VALUE_BYTES} byte values, one partition, lz4, "
    f"acks=all, {BATCH} records per transaction on both sides. The bare loop is getmany, begin, send, "
    "send_offsets_to_transaction, commit, with one producer. Joining the group is not counted."
)


def run(quick: bool) -> Result:
    """Measure both loops on the same topic, in turns, each as a new group."""
    return measured(lambda folder: _run(folder, quick))


async def _run(folder: Path, quick: bool) -> Result:
    server = KafkaServer(folder)
    await asyncio.to_thread(server.start)
    try:
        return await _compare(server.bootstrap_servers, quick)
    finally:
        await asyncio.to_thread(server.stop)


async def _compare(servers: str, quick: bool) -> Result:
    size, rounds = (5_000, 1) if quick else (30_000, 4)
    declared = {name: topic(name, 1) for name in (_SOURCE, _TARGET)}
    settings = BrokerSettings(kind="kafka", bootstrap_servers=servers, replication=1)
    broker = KafkaBroker(settings, declared)
    groups = (f"bench-{number}" for number in count())
    try:
        admin = await broker.admin()
        await admin.apply(list(declared.values()))
        await admin.close()
        published = await fill(broker, events(_SOURCE, keys(1)[0], size), _CALLERS)

        async def ours() -> float:
            return await carry(broker, next(groups), _SOURCE, _TARGET, size)

        async def bare() -> float:
            return await _bare(servers, next(groups), size)

        found = await take_turns(ours, bare, rounds)
    finally:
        await broker.close()
    return Result(
        "kafka",
        "Kafka adapter over bare aiokafka",
        (
            Figure("bare aiokafka transactions", found.bare_rate, "events/s"),
            Figure("adapter: consume, transform, commit", found.our_rate, "events/s"),
            Figure("adapter over bare aiokafka", found.ratio, RATIO, Goal(GOAL)),
            Figure("adapter: publish", published, "events/s"),
        ),
        (_NOTE,),
    )


async def _bare(servers: str, group: str, size: int) -> float:
    """Do the same work with aiokafka alone; return events per second from the first records on."""
    consumer = AIOKafkaConsumer(
        _SOURCE,
        bootstrap_servers=servers,
        group_id=group,
        isolation_level="read_committed",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    producer = AIOKafkaProducer(
        bootstrap_servers=servers,
        transactional_id=group,
        acks="all",
        compression_type="lz4",
        max_batch_size=_BATCH_BYTES,
    )
    async with AsyncExitStack() as stack:
        for client in (consumer, producer):
            await client.start()
            stack.push_async_callback(client.stop)
        records = await _poll(consumer)
        start, done = time.perf_counter(), 0
        while True:
            await _transact(producer, group, records)
            done += len(records)
            if done >= size:
                return done / (time.perf_counter() - start)
            records = await _poll(consumer)


async def _poll(consumer: AIOKafkaConsumer) -> list[ConsumerRecord]:
    while not (found := await consumer.getmany(timeout_ms=1_000, max_records=BATCH)):
        continue
    return [record for records in found.values() for record in records]


async def _transact(producer: AIOKafkaProducer, group: str, records: Sequence[ConsumerRecord]) -> None:
    async with producer.transaction():
        sent = [
            await producer.send(_TARGET, record.value[::-1], record.key, partition=0, headers=list(record.headers))
            for record in records
        ]
        await asyncio.gather(*sent)
        await producer.send_offsets_to_transaction({TopicPartition(_SOURCE, 0): records[-1].offset + 1}, group)
