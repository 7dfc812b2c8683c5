"""Rebuilding a sink on both brokers: its group reads all again, no other does, and never while the sink runs."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from infra.broker.open import open_broker
from infra.broker.port import Broker
from infra.broker.settings import BrokerSettings
from infra.consuming.consumer_loop import SinkRunner, group_of
from infra.consuming.rebuild import plan_resets, reset_groups
from infra.errors import GroupError
from infra.process.health import Health
from schemas.topics import FRAMES_LIVE, REDRIVE, SINKS_DEAD, load_topics
from standgale.testing.factories import out_record
from standgale.testing.waiting import until
from tests.harnesses.sink_runs import RETRY, SINKS, ListSink, frame

FRAMES = 12


class Site:
    """A broker with topics of this test's own."""

    def __init__(self, settings: BrokerSettings, folder: Path) -> None:
        self.name = f"rebuild-{uuid.uuid4().hex[:8]}"
        small = {"partitions": 2, "replication": 1, "min_insync_replicas": 1}
        declared = load_topics()
        self.source, self.dead, self.redrive = (
            declared[name].model_copy(update={"name": f"{self.name}.{name}", **small})
            for name in (FRAMES_LIVE, SINKS_DEAD, REDRIVE)
        )
        self.topics = {spec.name: spec for spec in (self.source, self.dead, self.redrive)}
        self.broker: Broker = open_broker(settings, folder, self.topics)

    def sink(self, name: str) -> ListSink:
        return ListSink(name=f"{self.name}-{name}", topics=(self.source.name,))

    @asynccontextmanager
    async def running(self, sink: ListSink) -> AsyncIterator[None]:
        runner = SinkRunner(
            sink,
            self.broker,
            batches=SINKS,
            retry=RETRY,
            dead_topic=self.dead.name,
            redrive_topic=self.redrive.name,
        )
        stop = asyncio.Event()
        task = asyncio.create_task(runner.run(stop, Health().part(runner.name)))
        try:
            yield
        finally:
            stop.set()
            await asyncio.wait_for(task, 60)

    async def lag(self, sink: ListSink) -> int:
        admin = await self.broker.admin()
        found = await admin.group_lag(group_of(sink.name), sink.topics)
        await admin.close()
        return sum(found.values())

    async def write_all(self, sink: ListSink) -> None:
        """Run ``sink`` until it has committed everything."""
        async with self.running(sink):
            await until(lambda: len(sink.written) >= FRAMES, "the sink has not written everything")
            await until(lambda: self._is_done(sink), "the sink has not committed everything")

    async def _is_done(self, sink: ListSink) -> bool:
        return await self.lag(sink) == 0

    async def rebuild(self, sink: ListSink) -> bool:
        """Rebuild ``sink``; return whether its group was away from the start."""
        (reset,) = await plan_resets(self.broker, {group_of(sink.name): sink.topics})
        assert reset.records >= FRAMES
        admin = await self.broker.admin()
        try:
            await reset_groups(admin, [reset])
        finally:
            await admin.close()
        return reset.has_read


@pytest.fixture
async def rebuild_site(broker_settings: BrokerSettings, tmp_path: Path) -> AsyncIterator[Site]:
    site = Site(broker_settings, tmp_path)
    admin = await site.broker.admin()
    await admin.apply(list(site.topics.values()))
    await admin.close()
    publisher = await site.broker.publisher()
    await publisher.publish(
        [out_record(frame(number, f"cam-{number % 3}"), site.source.name) for number in range(FRAMES)]
    )
    await publisher.close()
    yield site
    await site.broker.close()


async def test_rebuilt_sink_writes_all_again_and_other_groups_stay(rebuild_site: Site) -> None:
    mine, other = rebuild_site.sink("mine"), rebuild_site.sink("other")
    await rebuild_site.write_all(mine)
    await rebuild_site.write_all(other)
    assert await rebuild_site.rebuild(mine)
    assert not await rebuild_site.rebuild(mine), "a second run finds it at the start"
    assert await rebuild_site.lag(other) == 0
    again, still = rebuild_site.sink("mine"), rebuild_site.sink("other")
    await rebuild_site.write_all(again)
    assert sorted(again.written) == list(range(FRAMES))
    async with rebuild_site.running(still):
        await until(lambda: still.opened, "the other sink does not run")
    assert still.written == []


async def test_rebuild_is_refused_while_the_sink_runs(rebuild_site: Site) -> None:
    sink = rebuild_site.sink("busy")
    async with rebuild_site.running(sink):
        await until(lambda: len(sink.written) == FRAMES, "the sink has not written everything")
        with pytest.raises(GroupError, match=r"has 1 member: stop all processes of the sink"):
            await rebuild_site.rebuild(sink)
    assert await rebuild_site.rebuild(sink)
