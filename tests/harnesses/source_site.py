"""Runs `standgale sources` in processes of their own, and reads the frames that they published."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from infra.broker.port import TopicPartition
from infra.broker.reading import read_between
from infra.database.pool import Database
from infra.database.settings import DatabaseSettings
from ingest.sources.options import parse_selection, stored_options
from ingest.sources.table import ListedSource, SourceTable
from schemas.cloudevents import decode
from schemas.events import FrameCaptured
from schemas.topics import FRAMES_LIVE
from standgale.children import standgale_command
from standgale.opening import open_command_broker
from standgale.settings import Settings
from tests.paths import ROOT

QUICK = {
    "STANDGALE_VIDEO__NETWORKS": "127.0.0.0/8",
    "STANDGALE_VIDEO__READ_TIMEOUT_S": "3",
    "STANDGALE_VIDEO__FIRST_RECONNECT_S": "0.1",
    "STANDGALE_VIDEO__MAX_RECONNECT_S": "0.5",
    "STANDGALE_SOURCES__LEASE_S": "2",
    "STANDGALE_SOURCES__POLL_S": "0.3",
    "STANDGALE_RETRY__FIRST_DELAY_S": "0.05",
    "STANDGALE_RETRY__MAX_DELAY_S": "0.3",
}


class SourceProcess:
    """Is one process that pulls."""

    def __init__(self, environment: Mapping[str, str], log: Path, health_port: int) -> None:
        self.log = log
        others = {name: text for name, text in os.environ.items() if not name.startswith("STANDGALE_")}
        own = {"STANDGALE_TELEMETRY__HEALTH_PORT": str(health_port), "PYTHONPATH": str(ROOT)}
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                standgale_command("sources"), env={**others, **environment, **own}, stdout=output, stderr=output
            )
        self.pid = self._process.pid

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def end(self, number: signal.Signals = signal.SIGKILL) -> int:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGCONT)
            self._process.send_signal(number)
        return self._process.wait(30)

    def memory_bytes(self) -> int:
        """Its resident memory."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")


class SourceSite:
    """Holds an embedded broker and a folder of frames, for several processes that share one database."""

    def __init__(self, folder: Path, dsn: str, **settings: str) -> None:
        self.folder = folder
        self.environment = {**QUICK, "STANDGALE_DATA_DIR": str(folder), "STANDGALE_DATABASE__URL": dsn, **settings}
        self.database = Database.open(DatabaseSettings.model_validate({"url": dsn}), folder)
        self.table = SourceTable(self.database)
        self.processes: list[SourceProcess] = []

    def start(self, health_port: int = 0) -> SourceProcess:
        process = SourceProcess(self.environment, self.folder / f"sources-{len(self.processes)}.log", health_port)
        self.processes.append(process)
        return process

    async def add(self, name: str, address: str, frames: str = "every", transport: str = "tcp") -> None:
        options = stored_options(parse_selection(frames), transport, None)
        await self.table.add(name, f"cam-{name}", address, has_login=False, options=options)

    async def frames(self) -> dict[str, list[FrameCaptured]]:
        """Return all frames of each device, in the order of the broker."""
        found: dict[str, list[FrameCaptured]] = defaultdict(list)
        async with open_command_broker(Settings.model_validate({"data_dir": self.folder})) as broker:
            reader = await broker.reader()
            try:
                for partition, (first, end) in (await reader.bounds(FRAMES_LIVE)).items():
                    async for record in read_between(reader, TopicPartition(FRAMES_LIVE, partition), first, end):
                        event = decode(record.headers, record.value, FrameCaptured)
                        found[event.device_id].append(event)
            finally:
                await reader.close()
        return found

    async def held(self) -> dict[str, list[str]]:
        """Return the sources of each process that has any."""
        found: dict[str, list[str]] = defaultdict(list)
        for each in await self.table.list():
            if each.is_held and each.holder is not None:
                found[each.holder].append(each.name)
        return found

    async def wait_for(self, is_there: Callable[[list[ListedSource]], bool], timeout_s: float = 20.0) -> float:
        """Wait until the table is as wanted; return the seconds that it took."""
        began = time.monotonic()
        async with asyncio.timeout(timeout_s):
            while not is_there(list(await self.table.list())):  # noqa: ASYNC110 (other processes write it)
                await asyncio.sleep(0.05)
        return time.monotonic() - began

    async def close(self) -> None:
        for each in self.processes:
            each.end()
        await self.database.close()


@asynccontextmanager
async def source_site(folder: Path, dsn: str, **settings: str) -> AsyncIterator[SourceSite]:
    site = SourceSite(folder, dsn, **settings)
    try:
        yield site
    finally:
        await site.close()
