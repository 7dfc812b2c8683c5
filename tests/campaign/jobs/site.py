"""Starts the servers and processes that jobs need, with keys of clients and a device that sends live frames."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import psutil

from infra.auth.tokens import ApiKeys, DeviceTokens
from infra.broker.open import embedded_file
from infra.database.pool import Database
from infra.database.settings import DatabaseSettings
from infra.deploy.ports import reserved_ports
from schemas.topics import default_path
from standgale.testing.graphs import GraphSpec, write_model
from tests.campaign.brokers import BrokerName, CampaignBroker
from tests.campaign.database import CampaignDatabase
from tests.faults.fleet import Fleet

SERVICES: dict[str, tuple[str, ...]] = {
    "gateway": ("gateway",),
    "console": ("console",),
    "detector": ("detector", "--instance-id", "detector-1"),
    "postgres": ("sink", "postgres", "--instance-id", "postgres-1"),
}
DEVICE = "drone-1"
# The work of people that can wait; docs/run-on-kafka.md says so for one machine.
_CAN_WAIT = ("console", "postgres")
_START_TIMEOUT_S = 90.0


@dataclass
class JobFleet:
    """Holds the processes, one of each service, and what clients need to reach them."""

    folder: Path
    broker: CampaignBroker
    database: CampaignDatabase
    fleet: Fleet
    keys: list[str] = field(default_factory=list)
    token: str = ""
    urls: dict[str, str] = field(default_factory=dict)
    health_urls: dict[str, str] = field(default_factory=dict)

    @property
    def console(self) -> str:
        """The address of the console."""
        return self.urls["console"]

    async def wait_until_ready(self, session: aiohttp.ClientSession) -> None:
        """Return when all processes are ready; raise TimeoutError when they are not in time."""
        deadline = time.monotonic() + _START_TIMEOUT_S
        waiting = set(self.health_urls)
        while waiting:
            for name in list(waiting):
                try:
                    async with session.get(self.health_urls[name]) as response:
                        if response.status == 200:
                            waiting.discard(name)
                except (aiohttp.ClientError, TimeoutError):
                    self.fleet.check()
            if time.monotonic() > deadline:
                raise TimeoutError(f"not ready within {_START_TIMEOUT_S:g} s: {sorted(waiting)}")
            await asyncio.sleep(0.1)

    def processor_s(self) -> dict[str, float]:
        """Return the seconds of processor time of each process so far; "load" is this one."""
        numbers = {name: self.fleet.process_id(name) for name in SERVICES} | {"load": os.getpid()}
        times = {name: psutil.Process(number).cpu_times() for name, number in numbers.items()}
        return {name: each.user + each.system for name, each in times.items()}

    async def disturb_broker(self, seconds: float) -> None:
        """Kill the server and start it again; the embedded broker, which has none, cannot be written for a time."""
        server = self.broker.server
        if server is None:
            await asyncio.to_thread(_lock_file, embedded_file(self.broker.data), seconds)
            return
        await asyncio.to_thread(server.kill)
        await asyncio.sleep(seconds)
        await asyncio.to_thread(server.start)


def _lock_file(path: Path, seconds: float) -> None:
    connection = sqlite3.connect(path, isolation_level=None, timeout=10.0)
    try:
        connection.execute("BEGIN IMMEDIATE")
        time.sleep(seconds)
        connection.execute("ROLLBACK")
    finally:
        connection.close()


@asynccontextmanager
async def open_fleet(
    folder: Path, broker_name: BrokerName, clients: int, *, niceness: int = 0, **settings: str
) -> AsyncIterator[JobFleet]:
    """Start everything, with keys for ``clients``; ``settings`` are variables without their prefix.

    ``niceness`` of console and sink: how far they stand back for gateway and detector when the processor is busy.
    """
    folder.chmod(0o755)  # PostgreSQL runs as another user where we are root
    (folder / "logs").mkdir()
    data = folder / "data"
    data.mkdir()
    async with AsyncExitStack() as stack:
        broker = CampaignBroker.of(broker_name, folder, data, default_path())
        database = CampaignDatabase(folder / "database")
        site = JobFleet(folder, broker, database, Fleet({}, folder / "logs"))
        await asyncio.to_thread(stack.enter_context, broker.running())
        stack.push_async_callback(database.stop)
        await database.start()
        await _register(site, clients)
        async with broker.admin() as admin:
            await admin.apply(broker.topics().values())
        site.fleet.environment |= _environment(site, settings)
        stack.callback(site.fleet.stop)
        ports = stack.enter_context(reserved_ports(2 * len(SERVICES)))
        for (name, verb), port, health in zip(SERVICES.items(), ports[::2], ports[1::2], strict=True):
            site.urls[name] = f"http://127.0.0.1:{port}"
            site.health_urls[name] = f"http://127.0.0.1:{health}/health/ready"
            own = {"GATEWAY__PORT": port, "CONSOLE__PORT": port, "TELEMETRY__HEALTH_PORT": health}
            site.fleet.add(name, *verb, environment={f"STANDGALE_{key}": str(value) for key, value in own.items()})
            site.fleet.bring_up(name)
            if name in _CAN_WAIT:
                os.setpriority(os.PRIO_PROCESS, site.fleet.process_id(name), niceness)
        yield site


async def _register(site: JobFleet, clients: int) -> None:
    database = Database.open(DatabaseSettings.model_validate({"url": site.database.owner_dsn}), site.folder)
    keys = ApiKeys(database)
    site.keys = [await keys.add(f"client-{number}") for number in range(1, clients + 1)]
    site.token = await DeviceTokens(database).add(DEVICE)
    await database.close()


def _environment(site: JobFleet, settings: dict[str, str]) -> dict[str, str]:
    card = write_model(site.folder / "model", GraphSpec(width=256, height=256))
    own = {
        "DATA_DIR": str(site.broker.data),
        "DATABASE__URL_FILE": str(site.database.url_file),
        "DETECTOR__MODEL": str(card),
        "DETECTOR__ENGINE": "onnxruntime",
        "DETECTOR__THREADS": "1",
        "DETECTOR__MEASURE_S": "0",
        "RETRY__MAX_DELAY_S": "1",
        # All clients have one address.
        "HTTP__ADDRESS_SHARE": "1",
        "HTTP__MAX_CONNECTIONS": "4096",
    }
    return {**{f"STANDGALE_{name}": text for name, text in (own | settings).items()}, **site.broker.environment()}


def services() -> Sequence[str]:
    """Return the names of the processes."""
    return tuple(SERVICES)
