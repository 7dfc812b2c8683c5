"""Checks records, topics and partitions before use, with the same errors for every adapter."""

from __future__ import annotations

from collections.abc import Mapping

from infra.broker.port import OutRecord, TopicPartition
from infra.broker.sizes import record_bytes
from infra.errors import GroupError, RecordTooLargeError, TopicMismatchError
from schemas.topics import TopicSpec


def check_count(declared: Mapping[str, TopicSpec], topic: str, found: int, where: str) -> None:
    """Raise TopicMismatchError when ``topic`` has ``found`` partitions on ``where`` and is declared with another count.

    Records of one device would then go to another partition than before, and be read out of their order. A topic that
    is not declared may have any count.
    """
    spec = declared.get(topic)
    if spec is not None and spec.partitions != found:
        raise TopicMismatchError(
            f"{where}: topic {topic} has {found} partitions where topics.yaml declares {spec.partitions}; nothing is "
            "read or written until both agree, because devices would lose their order. To add partitions follow `More "
            "partitions` in docs/operations.md, and restart with the new topics.yaml"
        )


def check_partition(source: TopicPartition, count: int) -> None:
    """Raise TopicMismatchError when ``source`` is not one of the ``count`` partitions of its topic."""
    if not 0 <= source.partition < count:
        raise TopicMismatchError(f"topic {source.topic} has partitions 0 to {count - 1}, not {source.partition}")


def check_size(record: OutRecord, limit: int) -> None:
    """Raise RecordTooLargeError when ``record`` has more than ``limit`` bytes."""
    size = record_bytes(record)
    if size > limit:
        raise RecordTooLargeError(
            f"record {record.key!r} for topic {record.topic} has {size} bytes, where the topic takes {limit}; "
            "send less, or raise max_message_bytes in topics.yaml and run `standgale topics apply`"
        )


def group_in_use(name: str) -> GroupError:
    """Return the error for a group that cannot be deleted because it has members."""
    return GroupError(f"group {name} has members; stop its processes, then try again")


def group_not_found(name: str, where: str) -> GroupError:
    """Return the error for a group that does not exist on ``where``."""
    return GroupError(f"{where} has no group {name}; `standgale topics groups` lists the existing groups")
