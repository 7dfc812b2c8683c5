"""Measures events per second of counting: the function alone, the sink with its database, and Faust on a real Kafka."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from importlib.util import find_spec
from itertools import count
from pathlib import Path

from bench.detections_events import detections_event
from bench.measure import rate
from bench.processes import BenchError, home, measured
from bench.result import Figure, Result
from infra.broker.event_records import event_record
from infra.broker.kafka.adapter import KafkaBroker
from infra.broker.port import OutRecord
from infra.broker.settings import BrokerSettings
from infra.deploy.kafka.jars import missing_tools
from infra.deploy.kafka.server import KafkaServer
from infra.failure.settings import RetrySettings
from infra.process.health import Health
from schemas.events import DetectionsMade
from schemas.topics import DETECTIONS, load_topics
from sinks.statistics.counter import StatisticsCounter
from sinks.statistics.counts import count_events
from sinks.statistics.settings import FAUST_GROUP, StatisticsSettings

_BATCH = 500
"""Events, as the sink takes them by default."""
_DETECTIONS = 5
_LONGEST_S = 120.0
_NOTE = (
    f"Events with {_DETECTIONS} detections, of 8 devices. The function: decoded events, in batches of {_BATCH}, to the "
    "counts of their windows. The sink: the same batches, with one transaction each. Faust: from the bytes in a topic "
    "of a real Kafka (one node, same machine) until all are acknowledged; starting and joining are not counted."
)


def run(quick: bool) -> Result:
    """Measure each way to count; every event is new to it."""
    return measured(lambda folder: _run(folder, quick))


async def _run(folder: Path, quick: bool) -> Result:
    batches = 4 if quick else 20
    numbers = count()
    loads = [[detections_event(next(numbers), _DETECTIONS) for _ in range(_BATCH)] for _ in range(batches)]
    start = time.perf_counter()
    for events in loads:
        count_events(events)
    function = rate(batches * _BATCH, start)
    sink = await _sink_rate(folder, loads)
    faust = await _faust_rate(folder, loads[: max(2, batches // 4)])
    return Result(
        "statistics",
        "Statistics: events counted per second",
        (
            Figure("the function alone", function, "events/s"),
            Figure("sink, state in PostgreSQL", sink, "events/s"),
            Figure("Faust, state in Kafka", faust, "events/s"),
        ),
        (_NOTE,),
    )


async def _sink_rate(folder: Path, loads: list[list[DetectionsMade]]) -> float:
    async with home(folder) as place:
        sink = StatisticsCounter(place.database)
        await sink.open()
        start = time.perf_counter()
        for events in loads:
            await sink.write(events)
        return rate(len(loads) * _BATCH, start)


async def _faust_rate(folder: Path, loads: list[list[DetectionsMade]]) -> float | None:
    """Return the rate of Faust; None where Faust, or what starts Kafka, is not installed."""
    if missing_tools() or not find_spec("faust"):
        return None
    server = KafkaServer(folder / "kafka")
    await asyncio.to_thread(server.start)
    try:
        return await _count_with_faust(server.bootstrap_servers, loads)
    finally:
        await asyncio.to_thread(server.stop)


async def _count_with_faust(servers: str, loads: list[list[DetectionsMade]]) -> float:
    # Faust is an extra.
    from sinks.statistics.on_faust.application import kafka_access
    from sinks.statistics.on_faust.component import StatisticsOnFaust

    topics = load_topics()
    settings = BrokerSettings(kind="kafka", bootstrap_servers=servers, replication=1)
    broker, stop = KafkaBroker(settings, topics), asyncio.Event()
    admin, publisher = await broker.admin(), await broker.publisher()
    await admin.apply(list(topics.values()))
    first, *others = loads
    await publisher.publish([_record(event) for event in first[:10]])
    component = StatisticsOnFaust(
        broker, lambda: kafka_access(settings, topics), topics, StatisticsSettings(), RetrySettings()
    )
    work = asyncio.create_task(component.run(stop, Health().part(component.name)))

    async def wait_for_lag(most: int) -> None:
        async def is_behind() -> bool:
            return sum((await admin.group_lag(FAUST_GROUP, (DETECTIONS,))).values()) > most

        async with asyncio.timeout(_LONGEST_S):
            while await is_behind():  # noqa: ASYNC110 (the broker tells nobody)
                await asyncio.sleep(0.05)

    try:
        await wait_for_lag(0)
        start = time.perf_counter()
        for events in others:
            await publisher.publish([_record(event) for event in events])
        await wait_for_lag(0)
        return rate(len(others) * _BATCH, start)
    except TimeoutError as error:
        raise BenchError(f"Faust has not counted all events within {_LONGEST_S:g} s") from error
    finally:
        stop.set()
        await work
        for client in (admin, publisher, broker):
            await client.close()


def _record(event: DetectionsMade) -> OutRecord:
    return event_record(
        DETECTIONS,
        event,
        id=event.id,
        source="/bench",
        subject=None,
        time=datetime(2026, 5, 1, tzinfo=UTC),
        key=event.device_id,
    )
