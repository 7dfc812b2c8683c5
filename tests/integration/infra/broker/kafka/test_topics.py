"""Tests topics on Kafka: broker time, kept offsets, and changes that its nodes cannot do."""

from __future__ import annotations

import time

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from infra.broker.kafka.adapter import KafkaBroker
from infra.errors import TopicMismatchError
from tests.harnesses.topic_pair import TIMEOUT_S, TopicPair
from tests.servers.kafka import kafka_settings

pytestmark = pytest.mark.integration

HOUR_S = 3_600
DAY_S = 24 * HOUR_S


async def test_broker_time_replaces_the_sender_time(pair: TopicPair) -> None:
    admin = await pair.broker.admin()
    await admin.apply([pair.input])
    now_ms = time.time_ns() // 1_000_000
    producer = AIOKafkaProducer(bootstrap_servers=pair.server.bootstrap_servers)
    await producer.start()
    # 8 days behind: beyond the topic's retention. 2 hours ahead: more than Kafka accepts with the sender's clock.
    for shift_s in (-8 * DAY_S, 2 * HOUR_S):
        await producer.send_and_wait(pair.input.name, b"x", timestamp_ms=now_ms + 1_000 * shift_s)
    await producer.stop()
    consumer = AIOKafkaConsumer(
        pair.input.name, bootstrap_servers=pair.server.bootstrap_servers, auto_offset_reset="earliest"
    )
    await consumer.start()
    records = [await consumer.getone() for _ in range(2)]
    await consumer.stop()
    assert all(abs(record.timestamp - now_ms) < 1_000 * TIMEOUT_S for record in records)


async def test_apply_sets_broker_time_on_topics_of_a_former_release(pair: TopicPair) -> None:
    admin = await pair.broker.admin()
    raw = AIOKafkaAdminClient(bootstrap_servers=pair.server.bootstrap_servers)
    await raw.start()
    former = pair.input.model_copy(update={"name": f"{pair.input.name}.former"})
    settings = {"retention.ms": "3600000", "max.message.bytes": "100000", "cleanup.policy": "delete"}
    await raw.create_topics([NewTopic(former.name, 1, 1, topic_configs=settings)])

    assert [(one.what, one.declared, one.found, one.fixable) for one in await admin.check([former])] == [
        ("message.timestamp.type", "LogAppendTime", "CreateTime", True)
    ]
    await admin.apply([former])
    assert await admin.check([former]) == []
    await raw.close()


async def test_check_reports_offsets_deleted_before_the_records(pair: TopicPair) -> None:
    admin = await pair.broker.admin()
    await admin.apply([pair.input])
    longer = pair.input.model_copy(update={"retention_s": 100 * DAY_S})
    found = {one.what: one for one in await admin.check([longer])}
    difference = found["offsets.retention.minutes"]
    assert (difference.declared, difference.fixable) == (f"at least {100 * 24 * 60}", False)
    assert difference.advice is not None
    assert "every broker" in difference.advice
    # It is a setting of the brokers: apply changes only topics.
    assert [one.what for one in await admin.apply([longer])] == ["retention_s"]
    assert [one.what for one in await admin.check([longer])] == ["offsets.retention.minutes"]


async def test_apply_refuses_before_any_change_what_the_cluster_cannot_do(pair: TopicPair) -> None:
    await (await pair.broker.admin()).apply([pair.input])
    wanted = pair.input.model_copy(update={"retention_s": 2 * HOUR_S, "min_insync_replicas": 2})
    new = pair.input.model_copy(update={"name": f"{pair.input.name}.new"})
    broker = KafkaBroker(kafka_settings(pair.server, replication=3), {wanted.name: wanted})
    admin = await broker.admin()
    with pytest.raises(TopicMismatchError, match="replication 3 declared, 1 found") as caught:
        await admin.apply([wanted, new])
    assert "replication 3 declared, 1 node found" in str(caught.value)
    await broker.close()
    assert await (await pair.broker.admin()).check([pair.input]) == []
    raw = AIOKafkaAdminClient(bootstrap_servers=pair.server.bootstrap_servers)
    await raw.start()
    assert new.name not in await raw.list_topics()
    (answer,) = await raw.describe_configs([ConfigResource(ConfigResourceType.TOPIC, wanted.name)])
    effective = {entry[0]: entry[1] for entry in answer.resources[0][4]}
    assert effective["min.insync.replicas"] == "1"
    await raw.close()
