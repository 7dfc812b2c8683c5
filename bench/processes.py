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
    """A benchmark cannot continue."""

    code = "BENCH_FAILED"


def measured(main: Callable[[Path], Coroutine[None, None, Result]]) -> Result:
    """Return what ``main`` finds in an empty folder, run on the event loop that the services use."""
    loop = uvloop.new_event_loop
    with tempfile.TemporaryDirectory(prefix="standgale-bench-") as folder, asyncio.Runner(loop_factory=loop) as runner:
        return runner.run(main(Path(folder)))


@dataclass(frozen=True, slots=True)
class Server:
    """Holds a running process and its port."""

    pid: int
    port: int

    @property
    def url(self) -> str:
        """Return the address of the server."""
        return f"http://127.0.0.1:{self.port}"

    def processor_s(self) -> float:
        """Return how many seconds processors have worked for the process so far. Linux only."""
        fields = Path(f"/proc/{self.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def peak_memory_mb(self) -> float:
        """Return the peak memory of the process so far (VmHWM), in megabytes. Linux only."""
        for line in Path(f"/proc/{self.pid}/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
        raise BenchError(f"/proc/{self.pid}/status has no VmHWM: peak memory can be measured on Linux only")


@dataclass(frozen=True, slots=True)
class Home:
    """Holds a data folder and a migrated database that the processes of one benchmark share."""

    folder: Path
    database: Database
    dsn: str

    async def token(self, device_id: str) -> str:
        """Return a token of a new device."""
        return await DeviceTokens(self.database).add(device_id)

    @asynccontextmanager
    async def standgale(
        self, *arguments: str, port_setting: str | None = None, **settings: object
    ) -> AsyncIterator[Server]:
        """Start `standgale` with ``arguments`` until it is ready; ``port_setting`` is the variable that takes its port.

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
    """Make a data folder with a separate PostgreSQL server, migrated."""
    database = Database.open(DatabaseSettings(), folder)
    try:
        dsn = await database.dsn()
        await asyncio.to_thread(migrate_up, dsn)
        yield Home(folder, database, dsn)
    finally:
        await database.close()
