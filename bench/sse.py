"""Measures the live stream with one and five thousand clients: deliveries per second, and their delay."""

from __future__ import annotations

import asyncio
import resource
import sys
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path

import orjson

from bench.detections_events import detections_event
from bench.processes import BenchError, Server, home, measured
from bench.result import Figure, Goal, Result
from infra.broker.event_records import event_record
from infra.broker.open import open_broker
from infra.broker.port import OutRecord, Publisher
from infra.broker.settings import BrokerSettings
from schemas import topics
from schemas.topics import load_topics

_CLIENTS = 1_000
_MANY_CLIENTS = 5_000
_FILES_NEEDED = 8_192
_DETECTIONS = 5
_EVENTS_PER_S = 20.0
_EVENTS_PER_S_TO_MANY = 4.0
_START_TIMEOUT_S = 120.0
_NOTE = (
    f"`standgale sink sse` as a separate process; the clients are plain sockets in a second process and parse events; "
    f"events with {_DETECTIONS} detections. Paced: {_EVENTS_PER_S:g} events/s, latency from just before the publish to "
    f"the bytes in the client, and {_EVENTS_PER_S_TO_MANY:g} events/s to {_MANY_CLIENTS} clients. Burst: all events "
    "published at once, until the last client has the last one. Every client has received every event once."
)


def run(quick: bool) -> Result:
    """Measure a paced run, then a burst."""
    _raise_file_limit()
    return measured(lambda folder: _run(folder, quick))


def _raise_file_limit() -> None:
    """Let this process and its children have a socket per client. Raises BenchError where that is not allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < _FILES_NEEDED:
        raise BenchError(f"at most {hard} files may be open; {_FILES_NEEDED} are needed (ulimit -n)")
    if soft != resource.RLIM_INFINITY and soft < _FILES_NEEDED:
        resource.setrlimit(resource.RLIMIT_NOFILE, (_FILES_NEEDED, hard))


async def _run(folder: Path, quick: bool) -> Result:
    paced, burst, to_many = (40, 50, 8) if quick else (1_200, 300, 120)
    async with AsyncExitStack() as stack:
        place = await stack.enter_async_context(home(folder))
        # All clients have one address.
        server = await stack.enter_async_context(
            place.standgale("sink", "sse", port_setting="STANDGALE_SSE__PORT", HTTP__ADDRESS_SHARE=1)
        )
        broker = open_broker(BrokerSettings(), folder, load_topics())
        stack.push_async_callback(broker.close)
        publisher = await broker.publisher()
        stack.push_async_callback(publisher.close)
        paced_told = await _stretch(server, publisher, range(paced), 1 / _EVENTS_PER_S)
        burst_told = await _stretch(server, publisher, range(paced, paced + burst), 0.0)
        numbers = range(paced + burst, paced + burst + to_many)
        many_told = await _stretch(server, publisher, numbers, 1 / _EVENTS_PER_S_TO_MANY, _MANY_CLIENTS)
        memory_mb = server.peak_memory_mb()
    return Result(
        "sse",
        f"Live stream, {_CLIENTS} clients",
        (
            Figure("paced: latency, p50", paced_told["p50_ms"], "ms", Goal(12.0, "below")),
            Figure("paced: latency, p99", paced_told["p99_ms"], "ms", Goal(25.0, "below")),
            Figure("paced: processor time of the sink per delivery", paced_told["processor_us"], "µs"),
            Figure("burst: deliveries", burst_told["deliveries_per_s"], "events/s"),
            Figure(f"paced, {_MANY_CLIENTS} clients: latency, p50", many_told["p50_ms"], "ms"),
            Figure(f"paced, {_MANY_CLIENTS} clients: latency, p99", many_told["p99_ms"], "ms"),
            Figure("peak memory of the sink", memory_mb, "MB"),
        ),
        (_NOTE,),
    )


async def _stretch(
    server: Server, publisher: Publisher, numbers: range, interval_s: float, count: int = _CLIENTS
) -> dict[str, float]:
    """Publish events ``numbers`` while new clients listen; return what the clients report."""
    clients = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "bench.sse_clients", str(server.port), str(count), str(len(numbers))),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert clients.stdout is not None
        async with asyncio.timeout(_START_TIMEOUT_S):
            ready = await clients.stdout.readline()
        if ready != b"ready\n":
            raise BenchError("the clients of the live stream could not connect; their error is above")
        before_s = server.processor_s()
        if interval_s:
            for number in numbers:
                await publisher.publish([_record(number)])
                await asyncio.sleep(interval_s)
        else:
            await publisher.publish([_record(number) for number in numbers])
        printed, _ = await asyncio.wait_for(clients.communicate(), _START_TIMEOUT_S)
        if clients.returncode:
            raise BenchError("not every client received every event once; their error is above")
    finally:
        if clients.returncode is None:
            clients.kill()
            await clients.wait()
    found: dict[str, float] = orjson.loads(printed)
    found["processor_us"] = (server.processor_s() - before_s) / (len(numbers) * count) * 1e6
    return found


def _record(number: int) -> OutRecord:
    """Return an event detected now: the clients measure from its ``detected_at``."""
    event = detections_event(number, _DETECTIONS, datetime.now(UTC))
    return event_record(
        topics.DETECTIONS,
        event,
        id=event.id,
        source="/standgale/bench",
        subject=str(event.frame_id),
        time=event.detected_at,
        key=event.device_id,
    )
