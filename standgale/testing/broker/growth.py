"""Tests that partitions are added to all topics of a topic set together, and that devices keep their order."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import pytest

from infra.broker.partitioning import partition_for
from infra.errors import TopicMismatchError

if TYPE_CHECKING:
    from infra.broker.port import InRecord
    from standgale.testing.broker.harness import BrokerHarness

DEVICES = [f"device-{number}" for number in range(8)]


def by_device(records: list[InRecord]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = defaultdict(list)
    for record in records:
        found[record.key or ""].append(int(record.value or b""))
    return found


class GrowthContract:
    """Partitions are added to all topics of a topic set together, and devices keep their order."""

    async def test_a_topic_set_grows_when_it_was_read_and_devices_keep_their_order(
        self, harness: BrokerHarness
    ) -> None:
        frames, detections = harness.topic("frames", partitions=2), harness.topic("detections", partitions=2)
        broker = await harness.open(frames, detections)
        before = [(device, b"%d" % number) for number in range(5) for device in DEVICES]
        await harness.publish(broker, frames, *before)
        await harness.publish(broker, detections, ("device-0", b"0"))
        member = harness.member(frames)
        consumer = await harness.join(broker, member)
        records = await harness.take(consumer, len(before))
        await consumer.commit(harness.points(*records[:-1]))

        grown = [topic.model_copy(update={"partitions": 4, "grown_from": 2}) for topic in (frames, detections)]
        opened_again = harness.declare(*grown)
        admin = await opened_again.admin()
        # One record is not read yet.
        found = await admin.check(grown)
        assert [(one.topic, one.what, one.fixable) for one in found] == [
            (frames.name, "partitions", False),
            (detections.name, "partitions", False),
        ]
        assert f"{member.group} by 1" in found[0].found
        with pytest.raises(TopicMismatchError, match=f"{member.group} by 1"):
            await admin.apply(grown)
        assert await (await broker.admin()).check([frames, detections]) == []

        await consumer.commit(harness.points(*records))
        await consumer.close()
        assert [one.fixable for one in await admin.check(grown)] == [True, True]
        await admin.apply(grown)
        assert await admin.check(grown) == []
        assert await admin.apply(grown) == []

        # Started anew, with the new declaration.
        after = [(device, b"%d" % number) for number in range(5, 10) for device in DEVICES]
        await harness.publish(opened_again, grown[0], *after)
        again = await harness.join(opened_again, member)
        records += await harness.take(again, len(after))
        assert by_device(records) == {device: list(range(10)) for device in DEVICES}
        for record in records[len(before) :]:
            assert record.partition == partition_for(record.key or "", 4)
            assert record.partition % 2 == partition_for(record.key or "", 2)

    async def test_a_topic_set_with_a_topic_of_a_third_count_does_not_grow(self, harness: BrokerHarness) -> None:
        frames, detections = harness.topic("frames", partitions=2), harness.topic("detections", partitions=3)
        await harness.open(frames, detections)
        grown = [topic.model_copy(update={"partitions": 4, "grown_from": 2}) for topic in (frames, detections)]
        admin = await harness.declare(*grown).admin()
        with pytest.raises(TopicMismatchError, match="4 declared, 3 found"):
            await admin.apply(grown)
        assert await admin.check([frames, detections]) == []

    async def test_a_growth_that_was_interrupted_goes_on(self, harness: BrokerHarness) -> None:
        frames, detections = harness.topic("frames", partitions=4), harness.topic("detections", partitions=2)
        await harness.open(frames, detections)
        late = harness.topic("late", partitions=4)
        grown = [topic.model_copy(update={"partitions": 4, "grown_from": 2}) for topic in (frames, detections, late)]
        admin = await harness.declare(*grown).admin()
        # (The embedded broker has applied it when it was opened.)
        await admin.apply(grown)
        assert await admin.check(grown) == []
