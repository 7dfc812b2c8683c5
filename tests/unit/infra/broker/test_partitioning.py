"""Tests that keys get the same partitions as with Kafka's clients."""

from __future__ import annotations

import pytest

from infra.broker.partitioning import partition_for

# Values of murmur2 as Kafka's Java client computes them, as signed 32-bit numbers.
HASHES = {
    "21": -973932308,
    "foobar": -790332482,
    "a-little-bit-long-string": -985981536,
    "a-little-bit-longer-string": -1486304829,
    "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    "abc": 479470107,
}


@pytest.mark.parametrize(("key", "value"), HASHES.items())
def test_hash_equals_that_of_kafka(key: str, value: int) -> None:
    assert partition_for(key, 1 << 31) == value & 0x7FFFFFFF
    assert partition_for(key, 8) == (value & 0x7FFFFFFF) % 8


def test_keys_spread_over_all_partitions() -> None:
    assert {partition_for(f"drone-{number}", 8) for number in range(100)} == set(range(8))
