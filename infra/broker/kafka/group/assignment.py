"""Divides the partitions of a group's topics among its members, so that each partition number has one owner."""

from __future__ import annotations

from collections.abc import Mapping

from aiokafka.cluster import ClusterMetadata
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment, ConsumerProtocolMemberMetadata

Members = Mapping[str, ConsumerProtocolMemberMetadata]


def assign_numbers(cluster: ClusterMetadata, members: Members) -> dict[str, ConsumerProtocolMemberAssignment]:
    """Return the partitions of each member.

    A member commits its outputs with one producer for each partition number, of all topics, so two owners of a number
    would end each other's producers again and again. Topics with one partition count are divided as aiokafka's range
    assignor does. Where the counts differ, as those of topics of different topic sets, each number goes to the members
    in turns, so that the low numbers, which all topics have, are shared too.
    """
    counts = {
        topic: len(cluster.partitions_for_topic(topic) or ())
        for topic in sorted({topic for member in members.values() for topic in member.subscription})
    }
    if len(set(counts.values())) <= 1:
        found: dict[str, ConsumerProtocolMemberAssignment] = RangePartitionAssignor.assign(cluster, members)
        return found
    own: dict[str, dict[str, list[int]]] = {member: {} for member in members}
    for topic, count in counts.items():
        readers = sorted(member for member, metadata in members.items() if topic in metadata.subscription)
        for number in range(count):
            own[readers[number % len(readers)]].setdefault(topic, []).append(number)
    return {
        member: ConsumerProtocolMemberAssignment(RangePartitionAssignor.version, sorted(topics.items()), b"")
        for member, topics in own.items()
    }
