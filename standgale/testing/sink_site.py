"""Runs a sink by the loop of ``standgale sink``, against an embedded broker in a folder of the test's own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from infra.broker.embedded.adapter import EmbeddedBroker
from infra.broker.open import embedded_file
from infra.broker.port import CommitPoint, Consumer, GroupSpec, InRecord, Loss, OutRecord, TopicPartition
from infra.consuming.consumer_loop import SinkRunner
from infra.consuming.port import Sink
from infra.consuming.settings import BatchSettings
from infra.failure.dead_letters import list_dead
from infra.failure.settings import RetrySettings
from infra.process.health import Health
from schemas.event_base import Event
from schemas.events import DeadLetter
from schemas.topics import SINKS_DEAD, TopicSpec, load_topics
from standgale.testing.factories import out_record

TIMEOUT_S = 60.0
"""How long a sink may take to end after its stop was set."""


class ForwardingConsumer:
    """A consumer that leaves everything to ``inner``; a test's own derives from it and does some of it otherwise."""

    def __init__(self, inner: Consumer) -> None:
        self._inner = inner

    async def poll(self, **how: Any) -> list[InRecord]:
        """See :class:`infra.broker.port.Consumer`."""
        return await self._inner.poll(**how)

    async def commit(self, points: Mapping[TopicPartition, CommitPoint], outputs: Sequence[OutRecord] = ()) -> None:
        """See :class:`infra.broker.port.Consumer`."""
        await self._inner.commit(points, outputs)

    def assignment(self) -> Mapping[TopicPartition, int]:
        """See :class:`infra.broker.port.Consumer`."""
        return self._inner.assignment()

    def losses(self) -> Sequence[Loss]:
        """See :class:`infra.broker.port.Consumer`."""
        return self._inner.losses()

    async def lag(self) -> Mapping[TopicPartition, int]:
        """See :class:`infra.broker.port.Consumer`."""
        return await self._inner.lag()

    async def close(self) -> None:
        """See :class:`infra.broker.port.Consumer`."""
        await self._inner.close()


class SinkSite:
    """An embedded broker with the topics of Standgale, and sinks that run against it."""

    class CrashError(Exception):
        """Says that the process ended between a write and its commit, as if it were killed."""

    def __init__(self, data_dir: Path, topics: Mapping[str, TopicSpec] | None = None) -> None:
        """``topics``: the declared ones, by name; the default is what topics.yaml declares."""
        data_dir.mkdir(parents=True, exist_ok=True)
        self.broker = _CrashingBroker(embedded_file(data_dir), topics or load_topics())
        self._part = Health().part("sink")

    @property
    def is_ready(self) -> bool:
        """Whether the sink that ran last says that it can do its work."""
        return self._part.reason is None

    def fail_next_commit(self) -> None:
        """Let the next commit raise CrashError, so that what was written before it is delivered again."""
        self.broker.crashes = True

    async def publish(self, topic: str, events: Sequence[Event]) -> None:
        """Publish ``events``, frames or detections, in order."""
        publisher = await self.broker.publisher()
        await publisher.publish([out_record(event, topic) for event in events])
        await publisher.close()

    async def lag(self, sink: Sink[Any]) -> int:
        """Return how many records the sink's group has not committed."""
        admin = await self.broker.admin()
        found = await admin.group_lag(f"sink.{sink.name}", sink.topics)
        await admin.close()
        return sum(found.values())

    async def dead_letters(self) -> list[DeadLetter]:
        """Return the dead letters of all sinks."""
        reader = await self.broker.reader()
        letters = [letter async for letter in list_dead(reader, SINKS_DEAD)]
        await reader.close()
        return letters

    @asynccontextmanager
    async def running(
        self, sink: Sink[Any], *, batches: BatchSettings | None = None, retry: RetrySettings | None = None
    ) -> AsyncIterator[asyncio.Task[None]]:
        """Run ``sink`` while the block runs, with short delays; then stop it and wait until it has ended."""
        runner = SinkRunner(
            sink,
            self.broker,
            batches=batches or BatchSettings(batch_wait_s=0.0),
            retry=retry or RetrySettings(first_delay_s=0.01, max_delay_s=0.1),
        )
        stop, self._part = asyncio.Event(), Health().part(runner.name)
        task = asyncio.create_task(runner.run(stop, self._part))
        try:
            yield task
        finally:
            stop.set()
            async with asyncio.timeout(TIMEOUT_S):
                await task

    async def close(self) -> None:
        """Close the broker."""
        await self.broker.close()


class _CrashingBroker(EmbeddedBroker):
    """The embedded broker, with one commit that fails when a test asks for it."""

    crashes = False

    async def consumer(self, spec: GroupSpec) -> Consumer:
        return _CrashingConsumer(await super().consumer(spec), self)


class _CrashingConsumer(ForwardingConsumer):
    def __init__(self, inner: Consumer, broker: _CrashingBroker) -> None:
        super().__init__(inner)
        self._broker = broker

    async def commit(self, points: Mapping[TopicPartition, CommitPoint], outputs: Sequence[OutRecord] = ()) -> None:
        if self._broker.crashes:
            self._broker.crashes = False
            raise SinkSite.CrashError("the process ends before its commit")
        await super().commit(points, outputs)
