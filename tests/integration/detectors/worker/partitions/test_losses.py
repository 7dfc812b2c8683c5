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
from tests.benches.worker_site import WorkerWorld

pytestmark = pytest.mark.integration

LOST = 3
SOURCE = TopicPartition(topics.FRAMES_LIVE, partition_for("drone", 8))


class LosingConsumer(ForwardingConsumer):
    """The first records of one partition are gone, as after retention on Kafka."""

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
    def __init__(self, world: WorkerWorld, folder: Path) -> None:
        super().__init__(folder / "broker.sqlite", world.topics)
        self.commits: list[tuple[CommitPoint | None, list[str]]] = []

    async def consumer(self, spec: GroupSpec) -> Consumer:
        return LosingConsumer(await super().consumer(spec), self.commits)


async def test_lost_records_are_one_dead_letter_before_later_detections(world: WorkerWorld, tmp_path: Path) -> None:
    broker = LosingBroker(world, tmp_path)
    frames = [await world.frame("drone", n) for n in range(LOST + 4)]
    await world.publish(*frames)
    labels = {"group": "detector", "topic": topics.FRAMES_LIVE}
    before = REGISTRY.get_sample_value("standgale_records_lost_total", labels) or 0.0
    async with world.working(world.parts(broker=broker)):
        await world.until(world.answers, 4)
        await world.until(world.letters, 1)
        assert "3 records of frames.live" in (world.health.part("worker-0").report().note or "")
        assert world.health.report().ready
    await broker.close()
    assert [answer.frame_id for answer in await world.answers()] == [frame.frame_id for frame in frames[LOST:]]
    (letter,) = await world.letters()
    assert (letter.reason, letter.group) == (LOST_REASON, "detector")
    assert letter.lost is not None
    assert (letter.lost.first, letter.lost.end) == (0, LOST)
    progress, outputs = next(commit for commit in broker.commits if commit[0] is not None)
    assert progress is not None
    assert progress.next_offset >= LOST
    assert outputs[0] == topics.FRAMES_DEAD
    after = REGISTRY.get_sample_value("standgale_records_lost_total", labels) or 0.0
    assert after - before == LOST
