"""Defines two requests of Kafka's protocol, and their responses, in versions that aiokafka lacks.

They need Kafka 2.8 or newer.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from io import BytesIO

from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Int64,
    Schema,
    TaggedFields,
)

from infra.broker.port import TopicPartition

UNSTABLE_OFFSET_COMMIT = 88
"""Kafka's code of a partition whose offset an open transaction is about to change; aiokafka has no name for it."""
_NO_ID = bytes(16)
_TAGS = ("tags", TaggedFields)
_NO_TAGS: Mapping[int, bytes] = {}


class _Uuid:
    """Encodes and decodes sixteen bytes."""

    @classmethod
    def encode(cls, value: bytes) -> bytes:
        """Return ``value`` unchanged."""
        return value

    @classmethod
    def decode(cls, data: BytesIO) -> bytes:
        """Read the next sixteen bytes."""
        return data.read(16)

    @classmethod
    def repr(cls, value: bytes) -> str:
        """Return ``value`` in hexadecimal digits."""
        return value.hex()


class _OffsetFetchResponse(Response):
    API_KEY = 9
    API_VERSION = 7
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "topics",
            CompactArray(
                ("topic", CompactString("utf-8")),
                (
                    "partitions",
                    CompactArray(
                        ("partition", Int32),
                        ("offset", Int64),
                        ("leader_epoch", Int32),
                        ("metadata", CompactString("utf-8")),
                        ("error_code", Int16),
                        _TAGS,
                    ),
                ),
                _TAGS,
            ),
        ),
        ("error_code", Int16),
        _TAGS,
    )


class _OffsetFetchStruct(RequestStruct):
    API_KEY = 9
    API_VERSION = 7
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = _OffsetFetchResponse
    SCHEMA = Schema(
        ("group", CompactString("utf-8")),
        ("topics", CompactArray(("topic", CompactString("utf-8")), ("partitions", CompactArray(Int32)), _TAGS)),
        ("require_stable", Boolean),
        _TAGS,
    )


class OffsetFetch(Request[_OffsetFetchStruct]):
    """Asks what a group has committed; with ``stable``, a partition that an open transaction is about to move fails."""

    API_KEY = 9

    def __init__(self, group: str, sources: Collection[TopicPartition], *, stable: bool) -> None:
        self._group = group
        self._stable = stable
        self._topics: dict[str, list[int]] = {}
        for topic, partition in sources:
            self._topics.setdefault(topic, []).append(partition)

    def build(self, request_struct_class: type[_OffsetFetchStruct]) -> _OffsetFetchStruct:
        """Build the request in its only version here."""
        topics = [(topic, partitions, _NO_TAGS) for topic, partitions in self._topics.items()]
        return request_struct_class(self._group, topics, self._stable, _NO_TAGS)


class _MetadataResponse(Response):
    API_KEY = 3
    API_VERSION = 10
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(
                ("node_id", Int32),
                ("host", CompactString("utf-8")),
                ("port", Int32),
                ("rack", CompactString("utf-8")),
                _TAGS,
            ),
        ),
        ("cluster_id", CompactString("utf-8")),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("topic", CompactString("utf-8")),
                ("topic_id", _Uuid),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", CompactArray(Int32)),
                        ("in_sync", CompactArray(Int32)),
                        ("offline", CompactArray(Int32)),
                        _TAGS,
                    ),
                ),
                ("authorized_operations", Int32),
                _TAGS,
            ),
        ),
        ("authorized_operations", Int32),
        _TAGS,
    )


class _MetadataStruct(RequestStruct):
    API_KEY = 3
    API_VERSION = 10
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = _MetadataResponse
    SCHEMA = Schema(
        ("topics", CompactArray(("topic_id", _Uuid), ("topic", CompactString("utf-8")), _TAGS)),
        ("create", Boolean),
        ("cluster_operations", Boolean),
        ("topic_operations", Boolean),
        _TAGS,
    )


class TopicMetadata(Request[_MetadataStruct]):
    """Asks for the ids and partitions of ``topics`` without creating those that do not exist."""

    API_KEY = 3

    def __init__(self, topics: Collection[str]) -> None:
        self._topics = topics

    def build(self, request_struct_class: type[_MetadataStruct]) -> _MetadataStruct:
        """Build the request in its only version here."""
        topics = [(_NO_ID, topic, _NO_TAGS) for topic in self._topics]
        return request_struct_class(topics, False, False, False, _NO_TAGS)


def codes_by_partition(response: Response) -> Mapping[TopicPartition, tuple[int, str, int]]:
    """Return per partition of an :class:`OffsetFetch` response its offset (-1: none), metadata and error code."""
    return {
        TopicPartition(topic, partition): (offset, metadata or "", code)
        for topic, partitions, _ in response.topics
        for partition, offset, _, metadata, code, _ in partitions
    }
