"""Faust's windows are those of the topic when its process is killed while it counts."""

from __future__ import annotations

import asyncio
import multiprocessing
from functools import partial
from multiprocessing.context import ForkServerProcess
from uuid import UUID, uuid4

import pytest

from infra.broker.kafka.adapter import KafkaBroker
from infra.deploy.kafka import KafkaServer
from schemas.events import DetectionsMade
from schemas.statistics_events import StatisticsCounted
from schemas.topics import load_topics
from sinks.statistics.counts import count_events
from sinks.statistics.report import statistics_event
from standgale.testing.factories import detections_made, out_record
from standgale.testing.waiting import until
from tests.faults.faust_process import run
from tests.harnesses.published_windows import PublishedWindows
from tests.servers.kafka import kafka_settings

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]

CONTEXT = multiprocessing.get_context("forkserver")
# Faust takes a second to import; each start of the process would do it again.
CONTEXT.set_forkserver_preload(["tests.faults.faust_process", "sinks.statistics.on_faust.component"])
KILLS = 2


async def test_windows_of_faust_equal_those_of_the_topic_after_kills(kafka_server: KafkaServer) -> None:
    pytest.importorskip("faust")
    settings, topics, prefix = kafka_settings(kafka_server), load_topics(), f"drone-{uuid4().hex[:8]}"
    events = [detections_made(number, device=f"{prefix}-{number % 3}") for number in range(1_200)]
    sent = [*events, *events[300:500]]
    broker = KafkaBroker(settings, topics)
    admin = await broker.admin()
    await admin.apply(list(topics.values()))
    publisher, published = await broker.publisher(), PublishedWindows(await broker.reader(), prefix)

    def start() -> ForkServerProcess:
        process = CONTEXT.Process(target=run, args=(settings,), daemon=True)
        process.start()
        return process

    process = start()
    try:
        for part in range(KILLS + 1):
            await publisher.publish([out_record(event) for event in sent[part :: KILLS + 1]])
            wanted = right([event for each in range(part + 1) for event in sent[each :: KILLS + 1]])
            # Somewhere in the middle of them, with the last one to its end.
            enough = sum(event.frames for event in wanted.values()) * (1 if part == KILLS else 0.5)

            async def counted(enough: float) -> bool:
                return sum(event.frames for event in (await published.read()).values()) >= enough

            await until(partial(counted, enough), "Faust does not count", timeout_s=60.0)
            if part < KILLS:
                process.kill()
                await asyncio.to_thread(process.join)
                process = start()
        assert await published.read() == right(sent)
    finally:
        process.kill()
        await asyncio.to_thread(process.join)
        for client in (admin, publisher, published, broker):
            await client.close()


def right(events: list[DetectionsMade]) -> dict[UUID, StatisticsCounted]:
    return {each.window_id: each for each in (statistics_event(*one) for one in count_events(events).items())}
