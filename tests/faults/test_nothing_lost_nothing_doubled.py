"""Kills every kind of process while 10 devices send 2,000 frames: each is processed and stored once, in order."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

import aiohttp
import asyncpg
import pytest

from infra.auth.tokens import DeviceTokens
from infra.broker.open import open_broker
from infra.broker.port import Reader, TopicPartition
from infra.broker.reading import read_between
from infra.broker.settings import BrokerSettings
from infra.database import migrate
from infra.database.embedded import EmbeddedPostgres
from infra.database.pool import Database
from infra.database.settings import DatabaseSettings
from infra.deploy.kafka import KafkaServer
from infra.deploy.ports import free_port
from infra.deploy.s3 import S3Server
from schemas import topics
from schemas.cloudevents import decode
from schemas.events import DetectionsMade
from schemas.topics import load_topics
from standgale.demo.watcher import StreamWatcher
from standgale.testing.graphs import GraphSpec, write_model
from tests.faults.fleet import Device, Fleet
from tests.faults.forked import ForkedProcess
from tests.servers.kafka import kafka_settings, require_kafka_tools

pytestmark = [pytest.mark.integration, pytest.mark.faults, pytest.mark.timeout(420)]

DEVICES = 10
FRAMES_EACH = 120
WORKER_KILLS = 20
GATEWAY_KILLS = 5
POSTGRES_STOPS = 2
TIMEOUT_S = 150.0


@dataclass
class Site:
    """Holds the servers that the pipeline needs, and the processes of the pipeline."""

    folder: Path
    broker: BrokerSettings
    postgres: EmbeddedPostgres
    s3: S3Server
    fleet: Fleet
    gateway_port: int
    sse_port: int
    dsn: str
    accepted: int = 0
    tokens: dict[str, str] = field(default_factory=dict)

    def count(self) -> None:
        self.accepted += 1


# In two of pytest-xdist's processes, because each takes minutes, and the Kafka is not the one of other tests.
@pytest.fixture(params=["embedded", pytest.param("kafka", marks=pytest.mark.xdist_group("nothing lost on Kafka"))])
def broker_settings(request: pytest.FixtureRequest, server_dir: Path) -> Iterator[BrokerSettings]:
    """Gives a broker for this test only, because the topics have the names of production."""
    if request.param == "embedded":
        yield BrokerSettings()
        return
    require_kafka_tools()
    with KafkaServer(server_dir / "kafka") as server:
        yield kafka_settings(server)


@pytest.fixture
async def site(server_dir: Path, broker_settings: BrokerSettings) -> AsyncIterator[Site]:
    async with AsyncExitStack() as stack:
        postgres = await stack.enter_async_context(EmbeddedPostgres(server_dir / "database"))
        s3 = S3Server(server_dir / "s3")
        await asyncio.to_thread(s3.start)
        stack.callback(s3.stop)
        await asyncio.to_thread(migrate.migrate_up, postgres.dsn)
        logs = server_dir / "logs"
        logs.mkdir()
        gateway_port, sse_port = free_port(), free_port()
        fleet = Fleet(_environment(server_dir, broker_settings, s3, postgres.dsn), logs, ForkedProcess)
        fleet.environment |= {
            "STANDGALE_GATEWAY__PORT": str(gateway_port),
            "STANDGALE_SSE__PORT": str(sse_port),
        }
        stack.callback(fleet.stop)
        site = Site(server_dir, broker_settings, postgres, s3, fleet, gateway_port, sse_port, postgres.dsn)
        await _register_devices(site)
        yield site


def _environment(folder: Path, broker: BrokerSettings, s3: S3Server, dsn: str) -> dict[str, str]:
    """Return the settings of every process, as an operator would give them."""
    card = write_model(folder / "model", GraphSpec(width=256, height=256))
    return {
        "STANDGALE_DATA_DIR": str(folder / "data"),
        "STANDGALE_BROKER__KIND": broker.kind,
        "STANDGALE_BROKER__BOOTSTRAP_SERVERS": broker.bootstrap_servers,
        "STANDGALE_BROKER__REPLICATION": "1",
        "STANDGALE_FRAMES__KIND": "s3",
        "STANDGALE_FRAMES__ENDPOINT_URL": s3.endpoint_url,
        "STANDGALE_FRAMES__BUCKET": s3.bucket,
        "STANDGALE_FRAMES__ACCESS_KEY": s3.access_key,
        "STANDGALE_FRAMES__SECRET_KEY": s3.secret_key,
        "STANDGALE_DATABASE__URL": dsn,
        "STANDGALE_DETECTOR__MODEL": str(card),
        "STANDGALE_DETECTOR__ENGINE": "onnxruntime",
        "STANDGALE_DETECTOR__THREADS": "1",
        "STANDGALE_RETRY__MAX_DELAY_S": "1",
        "STANDGALE_TELEMETRY__HEALTH_PORT": "0",
    }


async def _register_devices(site: Site) -> None:
    database = Database.open(DatabaseSettings(url=site.dsn), site.folder)  # type: ignore[arg-type]  # pydantic wraps it
    tokens = DeviceTokens(database)
    for number in range(DEVICES):
        site.tokens[f"drone-{number}"] = await tokens.add(f"drone-{number}")
    await database.close()


async def test_every_frame_is_processed_once_while_processes_are_killed(site: Site) -> None:
    """C-S1-119 (ten devices, no loss at restarts) and C-S1-111 (the sink waits while the database is unavailable)."""
    if site.broker.kind == "kafka":
        _apply_topics(site)
    site.fleet.start("gateway", "gateway")
    site.fleet.start("postgres", "sink", "postgres", "--instance-id", "sink-1")
    site.fleet.start("sse", "sink", "sse")
    for number in (1, 2):
        site.fleet.start(f"worker-{number}", "detector", "--instance-id", f"worker-{number}")
    url = f"http://127.0.0.1:{site.gateway_port}/api/v1/frames"
    devices = [
        Device(name, token, [url], FRAMES_EACH, 0.2, seed, site.count)
        for seed, (name, token) in enumerate(site.tokens.items())
    ]
    connector = aiohttp.TCPConnector(force_close=True)
    async with aiohttp.ClientSession(connector=connector) as session, _watching(site, session) as watcher:
        async with asyncio.TaskGroup() as group:
            for device in devices:
                group.create_task(device.run(session))
            group.create_task(_chaos(site))
        accepted = {device.device_id: device.accepted for device in devices}
        events = await _all_events(site, watcher, DEVICES * FRAMES_EACH)
    _check_events(events, accepted)
    await _check_tables(site, events)
    assert set(watcher.seen) == {event.id for event in events}
    assert watcher.repeats == 0
    assert site.fleet.kills >= WORKER_KILLS + GATEWAY_KILLS
    assert [response for device in devices for response in device.odd_responses] == []
    assert sum(device.attempts for device in devices) > DEVICES * FRAMES_EACH, "no client had to send a frame again"
    for name in (*site.fleet.names("worker"), "gateway", "postgres", "sse"):
        await site.fleet.leave(name)


@asynccontextmanager
async def _watching(site: Site, session: aiohttp.ClientSession) -> AsyncIterator[StreamWatcher]:
    """Connect a live client before the first frame; it reconnects when its server is killed."""
    url = f"http://127.0.0.1:{site.sse_port}/api/v1/detections/stream"
    watcher = StreamWatcher(url, on_event=lambda seen: None)
    task = asyncio.create_task(watcher.watch(session))
    try:
        await asyncio.wait_for(watcher.connected.wait(), TIMEOUT_S)
        yield watcher
    finally:
        task.cancel()
        await asyncio.wait({task})


async def _chaos(site: Site) -> None:
    """Start all faults, spread evenly over the accepted frames."""
    actions = _actions(site)
    step = DEVICES * FRAMES_EACH / (len(actions) + 2)
    for number, action in enumerate(actions, start=1):
        while site.accepted < number * step:
            site.fleet.check()
            await asyncio.sleep(0.02)
        await action()


def _actions(site: Site) -> list[Callable[[], Awaitable[None]]]:
    fleet = site.fleet

    async def kill_worker(number: int) -> None:
        fleet.kill(f"worker-{1 + number % 2}")

    async def kill_gateway() -> None:
        fleet.kill("gateway")

    async def kill_sink() -> None:
        fleet.kill("postgres")

    async def kill_sse() -> None:
        fleet.kill("sse")

    async def stop_postgres() -> None:
        await site.postgres.stop()
        await asyncio.sleep(2)
        await site.postgres.start()

    async def stop_s3() -> None:
        await asyncio.to_thread(site.s3.kill)
        await asyncio.sleep(2)
        await asyncio.to_thread(site.s3.start)

    async def join() -> None:
        for name in ("extra-1", "extra-2", "doomed"):
            fleet.start(name, "detector")

    async def lose() -> None:
        # No static name and no restart: the others take over when its session ends.
        fleet.lose("doomed")

    async def leave() -> None:
        for name in ("extra-1", "extra-2"):
            await fleet.leave(name)

    actions: list[Callable[[], Awaitable[None]]] = []
    for number in range(WORKER_KILLS):
        actions.append(lambda number=number: kill_worker(number))  # type: ignore[misc]
        if number % 4 == 1:
            actions.append(kill_gateway)
    for place, action in ((3, join), (6, stop_postgres), (10, kill_sink), (12, kill_sse), (14, lose), (17, stop_s3)):
        actions.insert(place, action)
    actions[21:21] = [stop_postgres, kill_sse, leave]
    assert len([action for action in actions if action is stop_postgres]) == POSTGRES_STOPS
    return actions


def _apply_topics(site: Site) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "standgale", "topics", "apply"],
        env={
            **os.environ,
            "STANDGALE_BROKER__KIND": "kafka",
            "STANDGALE_BROKER__BOOTSTRAP_SERVERS": site.broker.bootstrap_servers,
            "STANDGALE_BROKER__REPLICATION": "1",
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@asynccontextmanager
async def _reader(site: Site) -> AsyncIterator[Reader]:
    broker = open_broker(site.broker, site.folder / "data", load_topics())
    reader = await broker.reader()
    try:
        yield reader
    finally:
        await reader.close()
        await broker.close()


async def _all_events(site: Site, watcher: StreamWatcher, wanted: int) -> list[DetectionsMade]:
    """Return all committed detections events when there are ``wanted`` in the topic, the tables and the stream."""
    deadline = asyncio.get_running_loop().time() + TIMEOUT_S
    async with _reader(site) as reader:
        while True:
            events = [event async for event in _read(reader, topics.DETECTIONS)]
            counts = (len(events), len(watcher.seen), await _rows(site, "inference_sessions"))
            if min(counts) >= wanted:
                break
            site.fleet.check()
            assert asyncio.get_running_loop().time() < deadline, (
                f"{counts} of {wanted} processed, seen, stored after {TIMEOUT_S} s; {site.fleet.log('worker-1')}"
            )
            await asyncio.sleep(1)
        for dead in (topics.FRAMES_DEAD, topics.SINKS_DEAD):
            bounds = await reader.bounds(dead)
            first_letters = [
                await reader.read(TopicPartition(dead, number), first, max_records=1, timeout_s=0.2)
                for number, (first, end) in bounds.items()
                if end > first
            ]
            assert not any(first_letters), first_letters
    return events


async def _read(reader: Reader, topic: str) -> AsyncIterator[DetectionsMade]:
    for partition, (first, end) in (await reader.bounds(topic)).items():
        async for record in read_between(reader, TopicPartition(topic, partition), first, end):
            yield decode(record.headers, record.value, DetectionsMade)


def _check_events(events: list[DetectionsMade], accepted: dict[str, list[UUID]]) -> None:
    counts = Counter(event.frame_id for event in events)
    wanted = {frame for frames in accepted.values() for frame in frames}
    assert len(wanted) == DEVICES * FRAMES_EACH
    assert set(counts) == wanted
    assert [frame for frame, count in counts.items() if count != 1] == []
    for device, frames in accepted.items():
        assert [event.frame_id for event in events if event.device_id == device] == frames
    assert sum(len(event.detections) for event in events) >= len(events) * 0.9, "the model saw the rectangles"


async def _check_tables(site: Site, events: list[DetectionsMade]) -> None:
    assert await _rows(site, "images") == len(events)
    assert await _rows(site, "inference_sessions") == len(events)
    connection = await asyncpg.connect(site.dsn)
    try:
        stored = {row["id"] for row in await connection.fetch("SELECT id FROM detections")}
        frames = {row["id"] for row in await connection.fetch("SELECT id FROM images")}
    finally:
        await connection.close()
    assert stored == {detection.id for event in events for detection in event.detections}
    assert frames == {event.frame_id for event in events}


async def _rows(site: Site, table: str) -> int:
    connection = await asyncpg.connect(site.dsn)
    try:
        return int(await connection.fetchval(f"SELECT count(*) FROM {table}"))
    finally:
        await connection.close()
