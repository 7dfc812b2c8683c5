"""A real PostgreSQL whose services log in with a password, so that it can be rotated and privileges taken away."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import quote

import asyncpg
import psutil

from infra.database import migrate
from infra.database.embedded import EmbeddedPostgres

ROLE = "app"
FIRST_PASSWORD = "first-secret"
_RIGHTS = (
    f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {ROLE}",
    f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {ROLE}",
    f"GRANT TEMPORARY ON DATABASE standgale TO {ROLE}",
)
_RECOVERY_TIMEOUT_S = 30.0
_END_SESSIONS = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{ROLE}'"


class CampaignDatabase:
    """The server in ``folder``. The owner logs in without a password, the role of the services only with it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._server = EmbeddedPostgres(folder)
        self.url_file = folder / "url"
        """What services read their url from, again whenever the login is refused."""
        self.password = FIRST_PASSWORD
        """What services were told."""

    async def start(self) -> None:
        """Start, with tables and the role of the services at the first start."""
        await self._server.start()
        if self.url_file.exists():
            return
        await asyncio.to_thread(migrate.migrate_up, self.owner_dsn)
        (hba,) = self._folder.rglob("pg_hba.conf")
        hba.write_text(f"local all {ROLE} scram-sha-256\n{hba.read_text()}")
        await self.order(f"CREATE ROLE {ROLE} LOGIN PASSWORD '{FIRST_PASSWORD}'", *_RIGHTS, "SELECT pg_reload_conf()")
        self.write_url(FIRST_PASSWORD)

    async def stop(self) -> None:
        """Stop in order."""
        await self._server.stop()

    @property
    def owner_dsn(self) -> str:
        """Where the campaign itself connects, as the owner."""
        return self._server.dsn

    def dsn(self, password: str) -> str:
        """Where services connect."""
        host = self._server.dsn.partition("?")[2]
        return f"postgresql://{ROLE}:{quote(password)}@/standgale?{host}"

    def write_url(self, password: str) -> None:
        """Tell services, by their file, which password holds."""
        self.password = password
        fresh = self.url_file.with_suffix(".new")
        fresh.write_text(self.dsn(password))
        fresh.replace(self.url_file)

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
        """A connection as the owner; waits while the server recovers from a crash."""
        connection = await self._connect()
        try:
            yield connection
        finally:
            await connection.close()

    async def _connect(self) -> asyncpg.Connection[asyncpg.Record]:
        deadline = time.monotonic() + _RECOVERY_TIMEOUT_S
        while True:
            try:
                return await asyncpg.connect(self.owner_dsn, timeout=30)
            except (asyncpg.CannotConnectNowError, OSError):
                if time.monotonic() > deadline:
                    raise
            await asyncio.sleep(0.2)

    async def order(self, *statements: str) -> None:
        """Run statements as the owner, each on its own."""
        async with self.connected() as connection:
            for statement in statements:
                await connection.execute(statement)

    async def change_password(self, password: str) -> None:
        """Rotate, and end all sessions that logged in with the former one."""
        await self.order(f"ALTER ROLE {ROLE} PASSWORD '{password}'", _END_SESSIONS)

    async def grant(self) -> None:
        """Give the services' role all it needs."""
        await self.order(*_RIGHTS)

    async def quit(self, how: signal.Signals) -> None:
        """End the server by ``how`` (SIGINT fast, SIGQUIT immediate, SIGKILL a crash) and wait until it is gone."""
        for process in self._processes()[:1]:
            process.send_signal(how)
            await asyncio.to_thread(process.wait, 60)

    def signal_all(self, how: signal.Signals) -> None:
        """Send ``how`` to the server and to each of its sessions."""
        for process in self._processes():
            with suppress(psutil.NoSuchProcess):
                process.send_signal(how)

    def kill_session(self) -> None:
        """SIGKILL one process that serves a session: the server restarts all of them."""
        for process in self._processes()[1:]:
            with suppress(psutil.NoSuchProcess):
                if f" {ROLE} " in " ".join(process.cmdline()):
                    process.kill()
                    return

    def _processes(self) -> list[psutil.Process]:
        """The server, and then its children."""
        for path in self._folder.rglob("postmaster.pid"):
            with suppress(psutil.NoSuchProcess, OSError, ValueError, IndexError):
                server = psutil.Process(int(path.read_text().splitlines()[0]))
                return [server, *server.children()]
        return []
