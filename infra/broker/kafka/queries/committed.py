"""Converts offsets between the port and aiokafka's commits, which also name the topic id and the commit's mark."""

from __future__ import annotations

from collections.abc import Mapping

from aiokafka import TopicPartition as KafkaPartition
from aiokafka.structs import OffsetAndMetadata

from infra.broker.port import TopicPartition

Committed = Mapping[TopicPartition, OffsetAndMetadata | None]


def all_partitions(counts: Mapping[str, int]) -> list[TopicPartition]:
    """Return every partition of topics with these partition counts."""
    return [TopicPartition(topic, number) for topic, count in counts.items() for number in range(count)]


def next_to_read(at: OffsetAndMetadata | None, first: int) -> int:
    """Return where a group that has committed ``at`` continues, in a log that now begins at ``first``."""
    return first if at is None else max(first, at.offset)


def metadata_of(mark: str, topic_id: str | None) -> str:
    """Return the metadata of a committed offset: the commit's ``mark``, and the id of the offset's topic."""
    return mark if topic_id is None else f"{mark}@{topic_id}"


def to_commit(
    offsets: Mapping[TopicPartition, int], topic_ids: Mapping[str, str], mark: str = ""
) -> Mapping[KafkaPartition, OffsetAndMetadata]:
    """Convert ``offsets`` to what aiokafka commits, each with the id of its topic."""
    return {
        KafkaPartition(*source): OffsetAndMetadata(offset, metadata_of(mark, topic_ids.get(source.topic)))
        for source, offset in offsets.items()
    }


def offset_in(at: OffsetAndMetadata | None, topic_id: str | None) -> int | None:
    """Return the offset committed for the topic with this id; None if there is none, or only for a former topic."""
    if at is None:
        return None
    _, _, former = at.metadata.partition("@")
    return at.offset if former in ("", topic_id) or topic_id is None else None
