"""Starts the servers and processes of this campaign: gateway, console, detector, and each sink as a process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from infra.auth.tokens import ApiKeys, DeviceTokens
from infra.database.pool import Database
from infra.database.settings import DatabaseSettings
from infra.deploy.ports import reserved_ports
from schemas.topics import default_path
from standgale.services.sinks import sink_groups
from standgale.settings import Settings
from standgale.testing.gate import Gate
from standgale.testing.graphs import GraphSpec, write_model
from tests.campaign.brokers import BrokerName, CampaignBroker
from tests.campaign.database import CampaignDatabase
from tests.campaign.disk import SmallDisk, mount_small_disk
from tests.campaign.processes import unready
from tests.faults.fleet import Fleet
from tests.faults.forked import ForkedProcess
from tests.servers.annotations import Annotations, annotations_service
from tests.servers.lakefs import ACCESS_KEY, SECRET_KEY, LakeFsServer
from tests.servers.mosquitto import Mosquitto

ALL_SINKS = ("postgres", "sse", "lakefs", "annotations", "mqtt", "statistics", "webhooks")
DATABASE_SINKS = frozenset({"postgres", "annotations", "statistics", "webhooks"})
"""The sinks that need the database."""
BYSTANDER = "bystander"
"""A process that nothing depends on; killing it shows what starting a process costs the others."""
CALLERS_TOKEN = "callers-token"
REPOSITORY = "bird-detection"
_DISK_MB = 1_024
_START_TIMEOUT_S = 400.0


@dataclass
class OutsSite:
    """Holds the servers and processes, and what clients need to reach them."""

    folder: Path
    sinks: tuple[str, ...]
    broker: CampaignBroker
    database: CampaignDatabase
    disk: SmallDisk | None
    """The disk of the database; None where none may be mounted."""
    fleet: Fleet
    lakefs: LakeFsServer
    mosquitto: Mosquitto
    annotations: Annotations
    annotations_gate: Gate
    ports: dict[str, int] = field(default_factory=dict)
    health_urls: dict[str, str] = field(default_factory=dict)
    tokens: dict[str, str] = field(default_factory=dict)
    key: str = ""

    @property
    def services(self) -> dict[str, tuple[str, ...]]:
        """The arguments of each process, by its name; without the bystander."""
        found: dict[str, tuple[str, ...]] = {
            "gateway": ("gateway",),
            "detector": ("detector", "--instance-id", "detector-1"),
        }
        if {"annotations", "webhooks"} & set(self.sinks):
            # What they do begins with a client's request.
            found["console"] = ("console",)
        for name in self.sinks:
            # The live stream is no member of a group.
            member = () if name == "sse" else ("--instance-id", f"{name}-1")
            found[name] = ("sink", name, *member)
        return found

    @cached_property
    def groups(self) -> Mapping[str, Mapping[str, tuple[str, ...]]]:
        """The consumer groups of each sink, with the topics of each."""
        declared, settings = self.broker.topics(), Settings()
        return {name: sink_groups(name, settings, declared) for name in self.sinks}

    def url(self, name: str) -> str:
        """Return the address of a process that serves HTTP."""
        return f"http://127.0.0.1:{self.ports[name]}"

    async def wait_until_ready(self, *names: str, timeout_s: float = _START_TIMEOUT_S) -> dict[str, str]:
        """Wait until the processes ``names`` are ready; return why some are not when the time is over."""
        urls = {name: self.health_urls[name] for name in names}
        deadline = time.monotonic() + timeout_s
        while True:
            found = await unready(urls)
            if not found or time.monotonic() > deadline:
                return found
            await asyncio.sleep(0.1)

    async def start(self) -> None:
        """Start all processes but the bystander. Raises TimeoutError when one is not ready in time."""
        for name in self.services:
            self.fleet.bring_up(name)
        waiting = await self.wait_until_ready(*self.services)
        if waiting:
            raise TimeoutError(f"not ready within {_START_TIMEOUT_S:g} s: {waiting}")


@asynccontextmanager
async def open_site(
    folder: Path, broker_name: BrokerName, sinks: tuple[str, ...], devices: int
) -> AsyncIterator[OutsSite]:
    """Open a site with running servers; its processes are not started yet."""
    (folder / "logs").mkdir()
    (folder / "data").mkdir()
    (folder / "mosquitto").mkdir()
    async with AsyncExitStack() as stack:
        disk = stack.enter_context(mount_small_disk(folder / "database", _DISK_MB))
        broker = CampaignBroker.of(broker_name, folder, folder / "data", default_path())
        database = CampaignDatabase(folder / "database")
        fleet = Fleet({}, folder / "logs", ForkedProcess)
        await asyncio.to_thread(stack.enter_context, broker.running())
        stack.push_async_callback(database.stop)
        await database.start()
        lakefs = stack.enter_context(LakeFsServer(folder / "lakefs"))
        mosquitto = stack.enter_context(Mosquitto(folder / "mosquitto"))
        annotations = await stack.enter_async_context(annotations_service())
        annotations.tokens.add(CALLERS_TOKEN)
        gate = stack.enter_context(Gate(int(annotations.url.rpartition(":")[2])))
        site = OutsSite(folder, sinks, broker, database, disk, fleet, lakefs, mosquitto, annotations, gate)
        fleet.environment |= _environment(site)
        stack.callback(fleet.stop)
        _add_processes(site, stack)
        await _register(site, devices)
        async with broker.admin() as admin:
            await admin.apply(broker.topics().values())
        yield site


def _add_processes(site: OutsSite, stack: AsyncExitStack) -> None:
    services = site.services | {BYSTANDER: ("sink", "sse")}
    ports = stack.enter_context(reserved_ports(2 * len(services)))
    for (name, verb), port, health in zip(services.items(), ports[::2], ports[1::2], strict=True):
        site.ports[name] = port
        site.health_urls[name] = f"http://127.0.0.1:{health}/health/ready"
        own = {"GATEWAY__PORT": port, "CONSOLE__PORT": port, "SSE__PORT": port, "TELEMETRY__HEALTH_PORT": health}
        site.fleet.add(name, *verb, environment={f"STANDGALE_{key}": str(value) for key, value in own.items()})


async def _register(site: OutsSite, devices: int) -> None:
    settings = DatabaseSettings.model_validate({"url": site.database.owner_dsn})
    database = Database.open(settings, site.folder)
    tokens = DeviceTokens(database)
    for number in range(1, devices + 1):
        site.tokens[f"drone-{number}"] = await tokens.add(f"drone-{number}")
    site.key = await ApiKeys(database).add("client-1")
    await database.close()


def _environment(site: OutsSite) -> dict[str, str]:
    """Return the settings that all processes share, as an operator would give them."""
    card = write_model(site.folder / "model", GraphSpec(width=256, height=256))
    settings = {
        "DATA_DIR": str(site.broker.data),
        "DATABASE__URL_FILE": str(site.database.url_file),
        "DATABASE__COMMAND_TIMEOUT_S": "10",
        "DETECTOR__MODEL": str(card),
        "DETECTOR__ENGINE": "onnxruntime",
        "DETECTOR__THREADS": "1",
        "DETECTOR__MEASURE_S": "0",
        "RETRY__MAX_DELAY_S": "1",
        "HTTP__ADDRESS_SHARE": "1",
        "SSE__HEARTBEAT_S": "3",
        "LAKEFS__KIND": "lakefs",
        "LAKEFS__ENDPOINT_URL": site.lakefs.url,
        "LAKEFS__ACCESS_KEY": ACCESS_KEY,
        "LAKEFS__SECRET_KEY": SECRET_KEY,
        "LAKEFS__REPOSITORY": REPOSITORY,
        "LAKEFS__BATCH_SIZE": "50",
        "LAKEFS__BATCH_TIMEOUT_S": "1",
        "LAKEFS__TIMEOUT_S": "3",
        "MEDIA__ANNOTATIONS_URL": site.annotations_gate.url,
        "MEDIA__ANNOTATE": "true" if "annotations" in site.sinks else "false",
        "MEDIA__MAX_AT_ONCE": "8",
        "ANNOTATIONS__TIMEOUT_S": "5",
        "MQTT__URL": site.mosquitto.url,
        "STATISTICS__PUBLISH_S": "1",
        "WEBHOOKS__NETWORKS": '["127.0.0.0/8"]',
        # A call whose process was killed is made again after twice this time and half a minute.
        "WEBHOOKS__TIMEOUT_S": "5",
    }
    return {**{f"STANDGALE_{name}": value for name, value in settings.items()}, **site.broker.environment()}
