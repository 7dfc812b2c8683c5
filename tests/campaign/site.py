"""Starts the servers and pipeline processes that a campaign runs on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from infra.auth.tokens import DeviceTokens
from infra.database.pool import Database
from infra.database.settings import DatabaseSettings
from infra.deploy.ports import reserved_ports
from infra.deploy.s3 import S3Server
from schemas import topics
from schemas.topics import default_path
from standgale.testing.graphs import GraphSpec, write_model
from tests.campaign.brokers import BrokerName, CampaignBroker
from tests.campaign.database import CampaignDatabase
from tests.campaign.disk import SmallDisk, mount_small_disk
from tests.campaign.fault_file import VARIABLE, FaultFile, build_inject_library
from tests.faults.fleet import Fleet, start_module

FIRST_PARTITIONS = 4
GROUPS = {"detector": topics.FRAME_TOPICS, "sink.postgres": (topics.DETECTIONS,)}
"""The consumer groups that commit, with the topics that they read."""
_SERVICES: dict[str, tuple[str, ...]] = {
    "gateway": ("gateway",),
    "detector": ("detector",),
    "postgres": ("sink", "postgres"),
    "sse": ("sink", "sse"),
}
_NAMED = ("detector", "postgres")
"""Services with a stable member name, for a quick restart."""


@dataclass(frozen=True)
class Size:
    """The number of processes of each service, of devices and of live clients."""

    gateway: int = 2
    detector: int = 3
    postgres: int = 2
    sse: int = 2
    devices: int = 6
    clients: int = 3
    interval_s: float = 1.0
    """The time between two frames of one device."""


@dataclass
class Site:
    """Holds the servers and processes of one campaign."""

    folder: Path
    size: Size
    broker: CampaignBroker
    database: CampaignDatabase
    disk: SmallDisk | None
    fleet: Fleet
    s3: S3Server | None = None
    fault_files: dict[str, FaultFile] = field(default_factory=dict)
    """Fault files by process name; empty where faults cannot be injected (no compiler)."""
    gateway_urls: list[str] = field(default_factory=list)
    sse_urls: list[str] = field(default_factory=list)
    health_urls: dict[str, str] = field(default_factory=dict)
    tokens: dict[str, str] = field(default_factory=dict)

    @property
    def logs(self) -> Path:
        """The folder of the processes' logs."""
        return self.folder / "logs"

    def write_topics(self, *counts: int) -> None:
        """Declare the topics of devices with ``counts``: the partitions before each growth, and the current number."""
        declared = yaml.safe_load(default_path().read_text())
        *former, declared["groups"]["device"]["partitions"] = counts
        if former:
            declared["groups"]["device"]["grown_from"] = former
        self.broker.topics_file.write_text(yaml.safe_dump(declared))

    def services(self) -> dict[str, str]:
        """Return the service of every process, by process name."""
        return {
            f"{service}-{number}": service
            for service in _SERVICES
            for number in range(1, getattr(self.size, service) + 1)
        }

    def prepare(self, name: str, service: str, ports: tuple[int, int], library: Path | None) -> None:
        """Add a process with its settings to the fleet, without starting it."""
        port, health_port = ports
        environment = {
            "STANDGALE_TELEMETRY__HEALTH_PORT": str(health_port),
            "STANDGALE_GATEWAY__PORT": str(port),
            "STANDGALE_SSE__PORT": str(port),
        }
        fault_file = FaultFile(self.folder / "faults" / name)
        environment[VARIABLE] = str(fault_file.path)
        if library is not None:
            environment["LD_PRELOAD"] = str(library)
            self.fault_files[name] = fault_file
        self.health_urls[name] = f"http://127.0.0.1:{health_port}/health/ready"
        if service == "gateway":
            self.gateway_urls.append(f"http://127.0.0.1:{port}/api/v1/frames")
        if service == "sse":
            self.sse_urls.append(f"http://127.0.0.1:{port}/api/v1/detections/stream")
        more = ("--instance-id", name) if service in _NAMED else ()
        self.fleet.add(name, *_SERVICES[service], *more, environment=environment)

    async def register_devices(self) -> None:
        """Register the devices and keep their tokens."""
        settings = DatabaseSettings.model_validate({"url": self.database.owner_dsn})
        database = Database.open(settings, self.folder)
        tokens = DeviceTokens(database)
        for number in range(1, self.size.devices + 1):
            self.tokens[f"drone-{number}"] = await tokens.add(f"drone-{number}")
        await database.close()


@asynccontextmanager
async def open_site(folder: Path, broker_name: BrokerName, size: Size, store: str = "folder") -> AsyncIterator[Site]:
    """Open a site with running servers; its processes are not started yet."""
    for name in ("logs", "faults"):
        (folder / name).mkdir()
    async with AsyncExitStack() as stack:
        data = folder / "data"
        disk = stack.enter_context(mount_small_disk(data))
        broker = CampaignBroker.of(broker_name, folder, data, folder / "topics.yaml")
        database = CampaignDatabase(folder / "database")
        fleet = Fleet({}, folder / "logs", start_module("tests.campaign.launcher"))
        site = Site(folder, size, broker, database, disk, fleet)
        site.write_topics(FIRST_PARTITIONS)
        await asyncio.to_thread(stack.enter_context, broker.running())
        stack.push_async_callback(database.stop)
        await database.start()
        if store == "s3":
            site.s3 = stack.enter_context(S3Server(folder / "s3"))
        fleet.environment |= _environment(site)
        stack.callback(fleet.stop)
        services, library = site.services(), build_inject_library(folder)
        ports = stack.enter_context(reserved_ports(2 * len(services)))
        for (name, service), pair in zip(services.items(), zip(ports[::2], ports[1::2], strict=True), strict=True):
            site.prepare(name, service, pair, library)
        await site.register_devices()
        async with broker.admin() as admin:
            await admin.apply(broker.topics().values())
        yield site


def _environment(site: Site) -> dict[str, str]:
    """Return the settings that all processes share, as an operator would give them."""
    card = write_model(site.folder / "model", GraphSpec(width=256, height=256))
    settings = {
        "DATA_DIR": str(site.broker.data),
        "TOPICS_FILE": str(site.broker.topics_file),
        "DATABASE__URL_FILE": str(site.database.url_file),
        "DETECTOR__MODEL": str(card),
        "DETECTOR__ENGINE": "onnxruntime",
        "DETECTOR__THREADS": "1",
        "DETECTOR__MEASURE_S": "0",
        "RETRY__MAX_DELAY_S": "1",
        "SSE__HEARTBEAT_S": "3",
        "DATABASE__COMMAND_TIMEOUT_S": "10",
        "TELEMETRY__DRAIN_TIMEOUT_S": "15",
    }
    if (s3 := site.s3) is not None:
        settings |= {"FRAMES__KIND": "s3", "FRAMES__ENDPOINT_URL": s3.endpoint_url, "FRAMES__BUCKET": s3.bucket}
        settings |= {"FRAMES__ACCESS_KEY": s3.access_key, "FRAMES__SECRET_KEY": s3.secret_key}
    return {**{f"STANDGALE_{name}": value for name, value in settings.items()}, **site.broker.environment()}
