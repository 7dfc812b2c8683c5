"""Converts records between the port and aiokafka, and adds them to a producer's batches."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from aiokafka import AIOKafkaProducer
from aiokafka.structs import ConsumerRecord, RecordMetadata

from infra.broker.checks import check_count
from infra.broker.kafka.connection.link import Link
from infra.broker.kafka.queries.cluster_queries import ClusterQueries
from infra.broker.partitioning import partition_for
from infra.broker.port import InRecord, OutRecord
from infra.errors import TopicMismatchError


def to_record(record: ConsumerRecord, epoch: int) -> InRecord:
    """Convert aiokafka's record to the port's."""
    return InRecord(
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        timestamp_ms=record.timestamp,
        key=None if record.key is None else record.key.decode(errors="replace"),
        value=record.value,
        headers=tuple((name, value or b"") for name, value in record.headers),
        epoch=epoch,
    )


async def count_partitions(
    producer: AIOKafkaProducer, records: Sequence[OutRecord], link: Link, queries: ClusterQueries
) -> Mapping[str, int]:
    """Return how many partitions the topics of ``records`` have, as ``producer`` knows it.

    Raises TopicMismatchError for a topic that does not exist, or whose count is not the declared one.
    """
    counts = {}
    for topic in {record.topic for record in records}:
        known = producer.client.cluster.partitions_for_topic(topic)
        if known is None:
            # This query comes first, because aiokafka waits a whole time-out for a topic that does not exist.
            await queries.partition_counts([topic])
            known = await producer.partitions_for(topic)
        check_count(link.topics, topic, len(known), link.where)
        counts[topic] = len(known)
    return counts


async def add_to_batches(
    producer: AIOKafkaProducer, records: Sequence[OutRecord], counts: Mapping[str, int]
) -> asyncio.Future[list[RecordMetadata]]:
    """Add ``records`` to the producer's batches; the future is done when all are acknowledged, or one failed."""
    sent = []
    try:
        for record in records:
            partition = partition_for(record.key, counts[record.topic])
            known = producer.client.cluster.partitions_for_topic(record.topic)
            if known is None or partition not in known:
                raise TopicMismatchError(
                    f"topic {record.topic} has no partition {partition} at present; run `standgale topics check`"
                )
            sent.append(
                await producer.send(
                    record.topic,
                    record.value,
                    record.key.encode(),
                    partition=partition,
                    headers=list(record.headers),
                )
            )
    except BaseException:
        # No task waits for these any more; gathering them retrieves their errors, which asyncio would report otherwise.
        asyncio.gather(*sent, return_exceptions=True)
        raise
    return asyncio.gather(*sent)
