"""Tests what a Kafka publisher reports about the broker's clock, and about refused records."""

from __future__ import annotations

import os
import time
from types import SimpleNamespace

import pytest
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from infra.broker.kafka import publisher as publisher_module
from infra.broker.port import OutRecord
from infra.errors import RecordTooLargeError, TopicMismatchError
from tests.harnesses.topic_pair import TopicPair

pytestmark = pytest.mark.integration

TWO_HOURS_S = 7200.0


async def configure(pair: TopicPair, *, topic: str | None = None, **settings: str) -> None:
    """Change settings of ``topic`` (default: the input), as another tool would."""
    named = {name.replace("_", "."): value for name, value in settings.items()}
    async with pair.admin() as admin:
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic or pair.input.name, named)])


@pytest.mark.parametrize("ahead_s", [0.0, TWO_HOURS_S, -TWO_HOURS_S], ids=["equal", "ahead", "behind"])
async def test_publish_measures_how_far_the_broker_clock_is_ahead(
    pair: TopicPair, monkeypatch: pytest.MonkeyPatch, ahead_s: float
) -> None:
    await configure(pair, message_timestamp_type="LogAppendTime")
    publisher = await pair.broker.publisher()
    assert publisher.clock_ahead_s() is None
    monkeypatch.setattr(publisher_module, "time", SimpleNamespace(time=lambda: time.time() - ahead_s))
    await publisher.publish([OutRecord(pair.input.name, "key", b"value")])
    shown = publisher.clock_ahead_s()
    assert shown is not None
    assert abs(shown - ahead_s) < 1.0
    await publisher.close()


async def test_topic_with_publisher_time_gives_no_broker_clock(pair: TopicPair) -> None:
    await configure(pair, message_timestamp_type="CreateTime")
    publisher = await pair.broker.publisher()
    await publisher.publish([OutRecord(pair.input.name, "key", b"value")])
    assert publisher.clock_ahead_s() is None
    await publisher.close()


async def test_topic_with_a_reduced_size_limit_raises_topic_mismatch(pair: TopicPair) -> None:
    publisher = await pair.broker.publisher()
    await publisher.publish([OutRecord(pair.input.name, "key", b"a small one")])
    consumer = await pair.broker.consumer(pair.member())
    records = await pair.poll_records(consumer, 1)
    detections = OutRecord(pair.output.name, "key", os.urandom(5_000))
    await configure(pair, max_message_bytes="500")
    await configure(pair, topic=pair.output.name, max_message_bytes="500")
    with pytest.raises(TopicMismatchError, match="topics check"):
        await publisher.publish([OutRecord(pair.input.name, "key", os.urandom(5_000))])
    with pytest.raises(TopicMismatchError, match="topics check"):
        await consumer.commit(pair.points(records), [detections])
    admin = await pair.broker.admin()
    await admin.apply([pair.input, pair.output])
    await admin.close()
    await publisher.publish([OutRecord(pair.input.name, "key", os.urandom(5_000))])
    await consumer.commit(pair.points(records), [detections])
    assert await pair.read_outputs() == [detections.value]
    with pytest.raises(RecordTooLargeError):
        await publisher.publish([OutRecord(pair.input.name, "key", os.urandom(100_001))])
    await publisher.close()
    await consumer.close()
