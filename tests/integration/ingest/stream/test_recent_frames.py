"""The end of a partition says which frames were published before: on Kafka, and on the embedded broker."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.broker.embedded.adapter import EmbeddedBroker
from infra.broker.kafka.adapter import KafkaBroker
from infra.broker.port import Broker
from infra.deploy.kafka import KafkaServer
from infra.errors import BrokerUnavailableError, RefusedError
from ingest.stream.recent_frames import RecentFrames
from schemas.topics import FRAMES_BACKFILL, FRAMES_LIVE, PROBES, load_topics
from standgale.testing.factories import frame_captured, out_record
from tests.harnesses.brokers import harness_of
from tests.harnesses.stream_client import open_stream
from tests.servers.gateway import running
from tests.servers.kafka import kafka_settings

NAMES = (FRAMES_LIVE, FRAMES_BACKFILL, PROBES)
DECLARED = {name: spec for name, spec in load_topics().items() if name in NAMES}
PARTITIONS = DECLARED[FRAMES_LIVE].partitions


async def _publish(broker: Broker, *numbers: int) -> list[str]:
    """Publish frames of one device, and return their ids."""
    events = [frame_captured(number) for number in numbers]
    publisher = await broker.publisher()
    await publisher.publish([out_record(event) for event in events])
    await publisher.close()
    return [str(event.frame_id) for event in events]


async def test_recent_frames_are_the_last_ones_of_the_partition(tmp_path: Path) -> None:
    broker = EmbeddedBroker(tmp_path / "broker.db", load_topics())
    device = frame_captured(1).device_id
    recent = RecentFrames(broker.reader, PARTITIONS, tail=3)
    first = await _publish(broker, 1, 2, 3, 4)
    assert not recent.has(device, first[3])
    await recent.read(device)
    assert [recent.has(device, each) for each in first] == [False, True, True, True]
    further = await _publish(broker, 5)
    await recent.read(device)
    assert [recent.has(device, each) for each in (*first, *further)] == [False, False, True, True, True]
    await broker.close()


async def test_recent_frames_that_may_not_be_read_stop_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async def refuse() -> None:
        raise RefusedError("user gateway lacks the right READ on topic frames.live")

    recent = RecentFrames(refuse, PARTITIONS, tail=3)  # type: ignore[arg-type]
    await recent.read("d")
    await recent.read("d")
    assert caplog.text.count("lacks the right READ") == 2 and not recent.has("d", "x")

    async def fail() -> None:
        raise BrokerUnavailableError("away")

    with pytest.raises(BrokerUnavailableError):
        await RecentFrames(fail, PARTITIONS, tail=3).read("d")  # type: ignore[arg-type]


@pytest.mark.integration
async def test_stream_on_kafka_repeats_nothing_after_a_restart(kafka_server: KafkaServer, tmp_path: Path) -> None:
    harness = harness_of(kafka_settings(kafka_server), tmp_path)
    # Other tests use these names on this server too, with other partitions.
    await harness.remove(*DECLARED.values())
    operator = KafkaBroker(kafka_settings(kafka_server), DECLARED)
    admin = await operator.admin()
    await admin.apply(DECLARED.values())
    await admin.close()
    await operator.close()
    for begun in (1, 4):
        # Each gateway is a new one, which knows no session; the client has missed its last three answers.
        broker = KafkaBroker(kafka_settings(kafka_server), DECLARED)
        async with running(tmp_path, broker=broker, ahead_s=None) as gateway:
            async with open_stream(gateway.port, next=begun, resume=begun > 1) as stream:
                await stream.send(*range(begun, begun + 6))
                assert await stream.answers(6) == [("ack", number) for number in range(begun, begun + 6)]
            found = await gateway.records()
    assert len(found) == 9
    await harness.remove(*DECLARED.values())
    await harness.close()
