"""Converts topic declarations to Kafka's topic settings, and compares them with the settings in effect."""

from __future__ import annotations

from collections.abc import Mapping

from infra.broker.port import TopicDifference
from schemas.topics import TopicSpec

_IN_TOPICS_YAML = {
    "cleanup.policy": ("cleanup", 0),
    "retention.ms": ("retention_s", 1000),
    "max.message.bytes": ("max_message_bytes", 1),
    "min.insync.replicas": ("min_insync_replicas", 1),
    "segment.ms": ("segment_s", 1000),
    "message.timestamp.type": ("message.timestamp.type", 0),
}
"""Kafka's topic settings with their name in topics.yaml, and how many of Kafka's units are one of topics.yaml's."""


def declared_settings(spec: TopicSpec, replication: int) -> dict[str, str]:
    """Return Kafka's settings for ``spec``; at most ``replication`` replicas can be required to be in sync."""
    declared = {
        "cleanup.policy": spec.cleanup,
        "retention.ms": str(1000 * spec.retention_s),
        "max.message.bytes": str(spec.max_message_bytes),
        "min.insync.replicas": str(min(spec.min_insync_replicas, replication)),
        # The broker's clock counts. With the sender's clock, records of a sender that is days behind would be deleted
        # unread, and those of a sender that is hours ahead refused.
        "message.timestamp.type": "LogAppendTime",
    }
    if spec.segment_s is not None:
        declared["segment.ms"] = str(1000 * spec.segment_s)
    return declared


def differing_settings(spec: TopicSpec, replication: int, effective: Mapping[str, str]) -> list[TopicDifference]:
    """Return the settings in effect that differ, in the names and units of topics.yaml."""
    differences = []
    for setting, declared in declared_settings(spec, replication).items():
        what, scale = _IN_TOPICS_YAML[setting]
        found = effective.get(setting)
        if found != declared:
            ours, theirs = _in_our_units(declared, scale), _in_our_units(found, scale)
            differences.append(TopicDifference(spec.name, what, ours, theirs, fixable=True))
    return differences


def _in_our_units(value: str | None, scale: int) -> str:
    if value is None:
        return "unset"
    return str(int(value) // scale) if scale else value
