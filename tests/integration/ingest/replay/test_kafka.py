"""On Kafka, too, each frame is published once: after a crash, and when the broker hangs in the middle."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from infra.broker.kafka.adapter import KafkaBroker
from infra.broker.port import CommitPoint, GroupSpec, TopicPartition
from infra.broker.reading import read_between
from infra.deploy.kafka import KafkaServer
from schemas.cloudevents import header
from schemas.topics import FRAME_TOPICS, FRAMES_BACKFILL, load_topics
from tests.harnesses.brokers import harness_of
from tests.harnesses.replay_site import write_pictures
from tests.integration.ingest.replay.runs import InterruptedReplayError, Runs, interrupted_after
from tests.servers.kafka import kafka_settings

pytestmark = pytest.mark.integration

COUNT = 60


async def published(broker: KafkaBroker) -> list[str | None]:
    """Return the frames in the topic."""
    reader = await broker.reader()
    found: list[str | None] = []
    for partition, (first, end) in (await reader.bounds(FRAMES_BACKFILL)).items():
        records = read_between(reader, TopicPartition(FRAMES_BACKFILL, partition), first, end)
        found += [header(record.headers, "ce_subject") async for record in records]
    await reader.close()
    return found


async def test_replay_on_kafka_publishes_each_frame_once(kafka_server: KafkaServer, tmp_path: Path) -> None:
    declared = {name: spec for name, spec in load_topics().items() if name in FRAME_TOPICS}
    harness = harness_of(kafka_settings(kafka_server), tmp_path)
    # Other tests use these names on this server too, with other partitions.
    await harness.remove(*declared.values())
    broker = KafkaBroker(kafka_settings(kafka_server), declared)
    admin = await broker.admin()
    await admin.apply(declared.values())
    pictures = tmp_path / "pictures"
    write_pictures(pictures, COUNT)
    settings: dict[str, Any] = {
        "broker": kafka_settings(kafka_server).model_dump(),
        "replay": {"batch_frames": 8, "max_backlog": 20, "backlog_interval_s": 0.2},
    }
    runs = Runs(tmp_path, settings)
    with interrupted_after(2), pytest.raises(InterruptedReplayError):
        await runs.run(pictures)
    rest = asyncio.create_task(runs.whole(pictures))
    consumer = await broker.consumer(GroupSpec("detector", FRAME_TOPICS))
    # Without a detector it waits; the backlog is what the group has not committed.
    await asyncio.sleep(2.0)
    assert not rest.done()
    assert "replay.max_backlog is 20" in runs.progress.waits["backlog"]
    assert len(await published(broker)) <= 20
    while not rest.done():
        for record in await consumer.poll(max_records=100, timeout_s=0.2):
            await consumer.commit({record.source: CommitPoint(record.offset + 1, record.epoch)})
    assert (await rest).accepted == COUNT
    found = Counter(await published(broker))
    assert (len(found), set(found.values())) == (COUNT, {1})
    await consumer.close()
    await admin.close()
    await harness.remove(*declared.values())
    await harness.close()
