"""Tests that published records are in their partition, in order and whole, and can be read from any offset."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import pytest

from infra.broker.partitioning import partition_for
from infra.broker.port import OutRecord, TopicPartition
from infra.broker.sizes import record_bytes
from infra.errors import RecordTooLargeError, TopicMismatchError

if TYPE_CHECKING:
    from standgale.testing.broker.harness import BrokerHarness


class LogContract:
    """Records are in their partition, in order, whole, and can be read from any offset."""

    async def test_records_of_one_key_are_in_one_partition_in_order(self, harness: BrokerHarness) -> None:
        topic = harness.topic()
        broker = await harness.open(topic)
        publisher = await broker.publisher()

        async def device(key: str) -> None:
            for number in range(0, 60, 3):
                await publisher.publish([OutRecord(topic.name, key, b"%d" % n) for n in range(number, number + 3)])

        keys = [f"drone-{number}" for number in range(12)]
        await asyncio.gather(*map(device, keys))
        await publisher.close()
        records = await harness.read_all(await broker.reader(), topic)

        assert len(records) == 12 * 60
        for key in keys:
            mine = [record for record in records if record.key == key]
            assert [record.value for record in mine] == [b"%d" % n for n in range(60)]
            assert {record.partition for record in mine} == {partition_for(key, topic.partitions)}

    async def test_a_record_comes_back_as_it_was_given(self, harness: BrokerHarness) -> None:
        topic = harness.topic(partitions=1, cleanup="compact")
        broker = await harness.open(topic)
        headers = (
            ("ce_id", b"1"),
            ("ce_id", b"again"),
            ("binary", bytes(range(256))),
            ("empty", b""),
            ("größe", "ä".encode()),
        )
        sent = [
            OutRecord(topic.name, "gerät-1", bytes(range(256)), headers),
            OutRecord(topic.name, "plain", b""),
            OutRecord(topic.name, "gone", None, (("reason", b"deleted"),)),
        ]
        publisher = await broker.publisher()
        await publisher.publish(sent)
        await publisher.publish([])
        reader = await broker.reader()
        found = await reader.read(TopicPartition(topic.name, 0), 0, max_records=10, timeout_s=5)

        assert [OutRecord(record.topic, record.key or "", record.value, record.headers) for record in found] == sent
        assert [record.offset for record in found] == [0, 1, 2]
        assert all(record.timestamp_ms > 1_700_000_000_000 for record in found)

    async def test_ten_thousand_records_in_one_call(self, harness: BrokerHarness) -> None:
        topic = harness.topic()
        broker = await harness.open(topic)
        await harness.publish(broker, topic, *((f"key-{number % 100}", b"%d" % number) for number in range(10_000)))
        records = await harness.read_all(await broker.reader(), topic)

        assert sorted(int(record.value or b"") for record in records) == list(range(10_000))

    async def test_large_values_pass_and_too_large_ones_fail_alone(self, harness: BrokerHarness) -> None:
        topic = harness.topic(partitions=2, max_message_bytes=2_000_000)
        broker = await harness.open(topic)
        publisher = await broker.publisher()
        # Bytes that do not compress: what counts on Kafka is the size after compression.
        large = bytes((number * number >> 3) & 0xFF for number in range(1_000_000)) * 2
        small = [OutRecord(topic.name, f"small-{number}", b"x") for number in range(50)]
        outcomes = await asyncio.gather(
            publisher.publish(small),
            publisher.publish([OutRecord(topic.name, "too-large", large[:2_000_001])]),
            publisher.publish([OutRecord(topic.name, "large", large[:1_950_000])]),
            return_exceptions=True,
        )
        await publisher.publish([OutRecord(topic.name, "after", b"x")])
        records = await harness.read_all(await broker.reader(), topic)

        assert [type(outcome) for outcome in outcomes] == [type(None), RecordTooLargeError, type(None)]
        assert topic.name in str(outcomes[1])
        expected = [("after", 1), ("large", 1_950_000), *sorted((record.key, 1) for record in small)]
        assert sorted((record.key, len(record.value or b"")) for record in records) == expected

    async def test_a_record_counts_with_its_key_and_headers_up_to_the_last_byte(self, harness: BrokerHarness) -> None:
        topic = harness.topic(partitions=1, max_message_bytes=5_000)
        broker = await harness.open(topic)
        publisher = await broker.publisher()
        headers = tuple((f"ce_{number}", bytes(30)) for number in range(10))
        around = record_bytes(OutRecord(topic.name, "device", b"", headers))
        # Bytes that do not compress.
        value = random.Random(7).randbytes(5_000)

        with pytest.raises(RecordTooLargeError):
            await publisher.publish([OutRecord(topic.name, "device", value[: 5_001 - around], headers)])
        await publisher.publish([OutRecord(topic.name, "device", value[: 5_000 - around], headers)])
        assert len(await harness.read_all(await broker.reader(), topic, at_least=1)) == 1

    async def test_a_reader_reads_within_bounds_and_waits_at_the_end(self, harness: BrokerHarness) -> None:
        topic = harness.topic(partitions=2)
        broker = await harness.open(topic)
        keys = {partition_for(key, 2): key for key in map(str, range(20))}
        await harness.publish(broker, topic, *((keys[0], b"%d" % number) for number in range(10)))
        reader = await broker.reader()
        source = TopicPartition(topic.name, 0)

        assert dict(await reader.bounds(topic.name)) == {0: (0, 10), 1: (0, 0)}
        assert [record.offset for record in await reader.read(source, 7, max_records=2, timeout_s=5)] == [7, 8]
        assert [record.epoch for record in await reader.read(source, 9, max_records=5, timeout_s=5)] == [0]
        assert await reader.read(source, 10, max_records=5, timeout_s=0.05) == []

        waiting = asyncio.create_task(reader.read(source, 10, max_records=5, timeout_s=20))
        await asyncio.sleep(0.1)
        await harness.publish(broker, topic, (keys[1], b"elsewhere"), (keys[0], b"here"))
        assert [record.value for record in await waiting] == [b"here"]
        await reader.close()
        await reader.close()

    async def test_publish_to_an_unknown_topic_names_it(self, harness: BrokerHarness) -> None:
        broker = await harness.open(harness.topic())
        publisher = await broker.publisher()
        absent = harness.topic("absent")
        with pytest.raises(TopicMismatchError, match=absent.name):
            await publisher.publish([OutRecord(absent.name, "key", b"x")])

    async def test_a_publisher_on_this_machine_shows_no_difference_of_clocks(self, harness: BrokerHarness) -> None:
        topic = harness.topic()
        publisher = await (await harness.open(topic)).publisher()
        await publisher.publish([OutRecord(topic.name, "key", b"value")])
        assert abs(publisher.clock_ahead_s() or 0.0) < 1.0
        await publisher.close()
