"""Tests the checks that both broker adapters share: partition counts, partition numbers, record sizes, groups."""

from __future__ import annotations

import pytest

from infra.broker.checks import check_count, check_partition, check_size, group_in_use, group_not_found
from infra.broker.port import OutRecord, TopicPartition
from infra.broker.sizes import record_bytes
from infra.errors import RecordTooLargeError, TopicMismatchError
from schemas.topics import load_topics


def test_check_count_raises_for_a_declared_topic_with_a_different_count() -> None:
    topics = load_topics()
    check_count(topics, "frames.live", topics["frames.live"].partitions, "the broker")
    check_count(topics, "not.declared", 3, "the broker")
    with pytest.raises(
        TopicMismatchError, match=r"the broker: topic frames\.live has 3 partitions .* `More partitions`"
    ):
        check_count(topics, "frames.live", 3, "the broker")


@pytest.mark.parametrize("number", [-1, 4])
def test_check_partition_raises_outside_of_the_topic(number: int) -> None:
    check_partition(TopicPartition("in", 3), 4)
    with pytest.raises(TopicMismatchError, match=f"topic in has partitions 0 to 3, not {number}"):
        check_partition(TopicPartition("in", number), 4)


def test_check_size_accepts_exactly_the_limit() -> None:
    record = OutRecord("in", "key", b"value", (("name", b"text"),))
    check_size(record, record_bytes(record))
    with pytest.raises(RecordTooLargeError, match=r"'key' for topic in .* raise max_message_bytes in topics\.yaml"):
        check_size(record, record_bytes(record) - 1)


def test_group_errors_name_the_group_and_what_to_do() -> None:
    assert "group a has members; stop its processes" in str(group_in_use("a"))
    assert "the broker has no group a; `standgale topics groups`" in str(group_not_found("a", "the broker"))
