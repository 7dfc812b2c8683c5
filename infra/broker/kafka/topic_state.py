"""Asks Kafka how many partitions a topic has and which id: a topic deleted and made anew has another one.

aiokafka asks for metadata in an older version of the protocol, which has no topic ids.
"""

from __future__ import annotations

from io import BytesIO
from typing import Any, NamedTuple

from aiokafka.errors import IncompatibleBrokerVersion, UnknownTopicOrPartitionError, for_code
from aiokafka.protocol.abstract import AbstractType
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Schema,
    TaggedFields,
)

from infra.broker.kafka.link import Link
from infra.broker.kafka.offsets import Offsets
from infra.broker.partitioning import check_count
from infra.broker.port import TopicState
from infra.errors import TopicMismatchError

_METADATA = 3
_VERSION = 10
_ID_BYTES = 16
_NO_ID = bytes(_ID_BYTES)


class _Uuid(AbstractType[bytes]):
    """Kafka's topic id, as its bytes."""

    @classmethod
    def encode(cls, value: bytes) -> bytes:
        return value

    @classmethod
    def decode(cls, data: BytesIO) -> bytes:
        return data.read(_ID_BYTES)


class _MetadataResponseV10(Response):
    API_KEY = _METADATA
    API_VERSION = _VERSION
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(
                ("node_id", Int32),
                ("host", CompactString("utf-8")),
                ("port", Int32),
                ("rack", CompactString("utf-8")),
                ("tags", TaggedFields),
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
                        ("isr", CompactArray(Int32)),
                        ("offline_replicas", CompactArray(Int32)),
                        ("tags", TaggedFields),
                    ),
                ),
                ("authorized_operations", Int32),
                ("tags", TaggedFields),
            ),
        ),
        ("authorized_operations", Int32),
        ("tags", TaggedFields),
    )


class _MetadataRequestV10(RequestStruct):
    FLEXIBLE_VERSION = True
    API_KEY = _METADATA
    API_VERSION = _VERSION
    RESPONSE_TYPE = _MetadataResponseV10
    SCHEMA = Schema(
        (
            "topics",
            CompactArray(("topic_id", _Uuid), ("topic", CompactString("utf-8")), ("tags", TaggedFields)),
        ),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_authorized_operations", Boolean),
        ("include_topic_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )


class _MetadataRequest(Request[_MetadataRequestV10]):
    """The metadata of one topic, which is not created by asking for it."""

    API_KEY = _METADATA

    def __init__(self, topic: str) -> None:
        self._topic = topic

    def build(self, request_struct_class: type[_MetadataRequestV10]) -> _MetadataRequestV10:
        return request_struct_class([(_NO_ID, self._topic, {})], False, False, False, {})


class _Found(NamedTuple):
    """What the answer says about the topic; ``partitions`` counts them."""

    error_code: int
    topic_id: bytes
    partitions: int


async def topic_state(link: Link, offsets: Offsets, topic: str) -> TopicState:
    """How many partitions ``topic`` has and its id, in one question that any node answers.

    Raises TopicMismatchError when it is missing or has another partition count than declared, and
    BrokerUnavailableError. A Kafka older than 2.8 has no topic ids; the incarnation is empty then.
    """

    async def call() -> TopicState | None:
        admin = await offsets.admin()
        try:
            found = _read(await admin._send_request(_MetadataRequest(topic)))
        except (NotImplementedError, IncompatibleBrokerVersion):
            return None
        if found.error_code == UnknownTopicOrPartitionError.errno:
            raise TopicMismatchError(
                f"{link.where} has no topic {topic}; declare it in topics.yaml and run `windhover topics apply`"
            )
        if found.error_code:
            raise for_code(found.error_code)(topic)
        return TopicState(found.partitions, found.topic_id.hex())

    state = await link.ask(f"asking for topic {topic}", call)
    if state is None:
        state = TopicState((await offsets.partition_counts([topic]))[topic], "")
    check_count(link.topics, topic, state.partitions, link.where)
    return state


def _read(answer: Any) -> _Found:
    (found,) = answer.topics
    return _Found(found[0], found[2], len(found[4]))
