"""Starts Standgale processes for a benchmark, with database, tokens and free ports, and ends them."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import uvloop

from bench.result import Result
from infra.auth.tokens import DeviceTokens
from infra.database.migrate import migrate_up
from infra.database.pool import Database
from infra.database.settings import DatabaseSettings
from infra.deploy.ports import free_port
from schemas.errors import StandgaleError
from standgale.children import run_child, standgale_command


class BenchError(StandgaleError):
    """A benchmark cannot go on."""

    code = "BENCH_FAILED"


def measured(main: Callable[[Path], Coroutine[None, None, Result]]) -> Result:
    """What ``main`` finds, given an empty folder; on the event loop that the services run on, too."""
    loop = uvloop.new_event_loop
    with tempfile.TemporaryDirectory(prefix="standgale-bench-") as folder, asyncio.Runner(loop_factory=loop) as runner:
        return runner.run(main(Path(folder)))


@dataclass(frozen=True, slots=True)
class Server:
    """A running process and the port it answers on."""

    pid: int
    port: int

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    def peak_memory_mb(self) -> float:
        """The most memory the process has held so far (VmHWM), in megabytes. Linux only."""
        for line in Path(f"/proc/{self.pid}/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
        raise BenchError(f"/proc/{self.pid}/status has no VmHWM: peak memory can be measured on Linux only")


@dataclass(frozen=True, slots=True)
class Home:
    """A data folder and a migrated database that the processes of one benchmark share."""

    folder: Path
    database: Database
    dsn: str

    async def token(self, device_id: str) -> str:
        """A token of a new device."""
        return await DeviceTokens(self.database).add(device_id)

    @asynccontextmanager
    async def standgale(
        self, *arguments: str, port_setting: str | None = None, **settings: object
    ) -> AsyncIterator[Server]:
        """`standgale` with ``arguments``, ready to work; ``port_setting`` is the variable that takes its port.

        ``settings`` are environment variables without their prefix. Raises ChildError when it does not get ready.
        """
        port, health_port = free_port(), free_port()
        environment = {
            **os.environ,
            "STANDGALE_DATA_DIR": str(self.folder),
            "STANDGALE_DATABASE__URL": self.dsn,
            "STANDGALE_TELEMETRY__HEALTH_PORT": str(health_port),
            "STANDGALE_TELEMETRY__LOG_LEVEL": "WARNING",
            **{f"STANDGALE_{name}": str(value) for name, value in settings.items()},
        }
        if port_setting is not None:
            environment[port_setting] = str(port)
        command = standgale_command(*arguments)
        log = self.folder / f"{'-'.join(arguments)}.log"
        ready = f"http://127.0.0.1:{health_port}/health/ready"
        async with run_child(command, environment, log, ready) as process:
            yield Server(process.pid, port)


@asynccontextmanager
async def home(folder: Path) -> AsyncIterator[Home]:
    """A data folder with a PostgreSQL server of its own, migrated."""
    database = Database.open(DatabaseSettings(), folder)
    try:
        dsn = await database.dsn()
        await asyncio.to_thread(migrate_up, dsn)
        yield Home(folder, database, dsn)
    finally:
        await database.close()
