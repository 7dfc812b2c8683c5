"""Each partition number of a group has one owner, also when its topics have different partition counts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import pytest
from aiokafka.cluster import ClusterMetadata
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.coordinator.protocol import ConsumerProtocolMemberMetadata

from infra.broker.kafka.group.assignment import assign_numbers


class Cluster(ClusterMetadata):
    """Knows partition counts."""

    def __init__(self, **counts: int) -> None:
        super().__init__()
        self._counts = counts

    def partitions_for_topic(self, topic: str) -> set[int] | None:
        return set(range(self._counts[topic])) if topic in self._counts else None


def members(count: int, *topics: str) -> dict[str, ConsumerProtocolMemberMetadata]:
    return {f"member-{number}": RangePartitionAssignor.metadata(topics) for number in range(count)}


def owners(cluster: Cluster, joined: Mapping[str, ConsumerProtocolMemberMetadata]) -> dict[tuple[str, int], list[str]]:
    found: dict[tuple[str, int], list[str]] = defaultdict(list)
    for member, given in assign_numbers(cluster, joined).items():
        for topic, numbers in given.assignment:
            for number in numbers:
                found[topic, number].append(member)
    return found


@pytest.mark.parametrize("count", [1, 2, 3, 5, 9])
def test_a_number_has_one_owner_for_topics_of_different_counts(count: int) -> None:
    found = owners(Cluster(jobs=4, redrive=8), members(count, "jobs", "redrive"))
    assert sorted(found) == [*(("jobs", n) for n in range(4)), *(("redrive", n) for n in range(8))]
    assert {len(each) for each in found.values()} == {1}
    assert all(found["jobs", number] == found["redrive", number] for number in range(4))
    assert len({found["jobs", number][0] for number in range(4)}) == min(count, 4)


def test_topics_of_one_count_are_divided_in_ranges() -> None:
    cluster, joined = Cluster(live=8, backfill=8), members(3, "live", "backfill")
    assert assign_numbers(cluster, joined) == RangePartitionAssignor.assign(cluster, joined)


def test_a_member_without_a_topic_gets_none_of_it_and_an_unknown_topic_has_no_owner() -> None:
    joined = members(1, "redrive") | {"other": RangePartitionAssignor.metadata(["jobs", "redrive", "away"])}
    found = owners(Cluster(jobs=4, redrive=8), joined)
    assert all(found["jobs", number] == ["other"] for number in range(4))
    assert not any(topic == "away" for topic, _ in found)
