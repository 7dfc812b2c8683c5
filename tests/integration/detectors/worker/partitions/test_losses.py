"""Checks that records which retention deleted become one dead letter, committed before any later frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY

from infra.broker.embedded.adapter import EmbeddedBroker
from infra.broker.partitioning import partition_for
from infra.broker.port import CommitPoint, Consumer, GroupSpec, InRecord, Loss, OutRecord, TopicPartition
from infra.failure.dead_letter_records import LOST_REASON
from schemas import topics
from standgale.testing.sink_site import ForwardingConsumer
from tests.harnesses.worker_site import WorkerSite

pytestmark = pytest.mark.integration

LOST = 3
SOURCE = TopicPartition(topics.FRAMES_LIVE, partition_for("drone", 8))


class LosingConsumer(ForwardingConsumer):
    """The first records of one partition are deleted, as after retention on Kafka."""

    def __init__(self, inner: Consumer, commits: list[tuple[CommitPoint | None, list[str]]]) -> None:
        super().__init__(inner)
        self._commits = commits
        self._settled = False

    async def poll(self, **how: Any) -> list[InRecord]:
        found = await super().poll(**how)
        return [record for record in found if record.source != SOURCE or record.offset >= LOST]

    async def commit(self, points: Mapping[TopicPartition, CommitPoint], outputs: Sequence[OutRecord] = ()) -> None:
        await super().commit(points, outputs)
        self._commits.append((points.get(SOURCE), [output.topic for output in outputs]))
        self._settled |= SOURCE in points

    def losses(self) -> Sequence[Loss]:
        epoch = self.assignment().get(SOURCE)
        return () if epoch is None or self._settled else (Loss(SOURCE, 0, LOST, epoch),)


class LosingBroker(EmbeddedBroker):
    def __init__(self, site: WorkerSite, folder: Path) -> None:
        super().__init__(folder / "broker.sqlite", site.topics)
        self.commits: list[tuple[CommitPoint | None, list[str]]] = []

    async def consumer(self, spec: GroupSpec) -> Consumer:
        return LosingConsumer(await super().consumer(spec), self.commits)


async def test_lost_records_are_one_dead_letter_before_later_detections(site: WorkerSite, tmp_path: Path) -> None:
    broker = LosingBroker(site, tmp_path)
    frames = [await site.frame("drone", n) for n in range(LOST + 4)]
    await site.publish(*frames)
    labels = {"group": "detector", "topic": topics.FRAMES_LIVE}
    before = REGISTRY.get_sample_value("standgale_records_lost_total", labels) or 0.0
    async with site.run_workers(site.parts(broker=broker)):
        await site.wait_for(site.detections, 4)
        await site.wait_for(site.dead_letters, 1)
        assert "3 records of frames.live" in (site.health.part("worker-0").report().note or "")
        assert site.health.report().ready
    await broker.close()
    assert [event.frame_id for event in await site.detections()] == [frame.frame_id for frame in frames[LOST:]]
    (letter,) = await site.dead_letters()
    assert (letter.reason, letter.group) == (LOST_REASON, "detector")
    assert letter.lost is not None
    assert (letter.lost.first, letter.lost.end) == (0, LOST)
    point, outputs = next(commit for commit in broker.commits if commit[0] is not None)
    assert point is not None
    assert point.next_offset >= LOST
    assert outputs[0] == topics.FRAMES_DEAD
    after = REGISTRY.get_sample_value("standgale_records_lost_total", labels) or 0.0
    assert after - before == LOST
