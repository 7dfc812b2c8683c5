"""Checks detectors over a growth of their topics, on both brokers: no duplicates, and each device's order."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from infra.broker.embedded.adapter import EmbeddedBroker
from infra.broker.kafka.adapter import KafkaBroker
from infra.broker.port import Broker
from infra.broker.settings import BrokerSettings
from schemas.topics import TopicSpec, load_topics
from tests.harnesses.brokers import KafkaHarness
from tests.harnesses.worker_site import WorkerSite

pytestmark = pytest.mark.integration

Declared = dict[str, TopicSpec]
Open = Callable[[Declared], Broker]
DEVICES = [f"device-{number}" for number in range(6)]


def declared(partitions: int, grown_from: int | None = None) -> Declared:
    changes = {"partitions": partitions, "grown_from": grown_from}
    return {
        name: spec.model_copy(update=changes if spec.group == "device" else {}) for name, spec in load_topics().items()
    }


@pytest.fixture
async def open_broker(broker_settings: BrokerSettings, tmp_path: Path) -> AsyncIterator[Open]:
    if broker_settings.kind == "embedded":
        yield lambda topics: EmbeddedBroker(tmp_path / "broker.sqlite", topics)
        return
    harness = KafkaHarness(broker_settings, tmp_path)
    # Other tests use these names on this server too, with other partitions.
    await harness.remove(*declared(4).values())
    yield lambda topics: KafkaBroker(broker_settings, topics)
    await harness.remove(*declared(4).values())


async def grown(open_broker: Open, folder: Path, topics: Declared) -> WorkerSite:
    """A site with ``topics``, brought in line as `standgale topics apply` does it."""
    site = WorkerSite(folder, lambda _: open_broker(topics))
    admin = await site.broker.admin()
    await admin.apply(topics.values())
    assert [one for one in await admin.check(topics.values()) if one.advice is None] == []
    await admin.close()
    return site


async def test_frames_sent_again_after_topic_growth_are_processed_once(open_broker: Open, tmp_path: Path) -> None:
    site = await grown(open_broker, tmp_path, declared(2))
    frames = [await site.frame(device, number) for number in range(3) for device in DEVICES]
    async with site.run_workers(site.parts()):
        await site.publish(*frames)
        await site.wait_for(site.detections, len(frames))
    await site.close()

    site = await grown(open_broker, tmp_path, declared(4, grown_from=2))
    later = [await site.frame(device, number) for number in range(3, 5) for device in DEVICES]
    async with site.run_workers(site.parts(former_counts=(2,))):
        # Devices that never saw their 202, and then new frames of each.
        await site.publish(*frames)
        await site.publish(*later)
        await site.wait_for(site.detections, len(frames) + len(later))
    events = await site.detections()
    assert len(events) == len(frames) + len(later)
    of_device = defaultdict(list)
    # The former partitions come first, as they were written first.
    for event in events:
        of_device[event.device_id].append(event.captured_at)
    assert set(of_device) == set(DEVICES)
    assert all(times == sorted(set(times)) for times in of_device.values())
    await site.close()
