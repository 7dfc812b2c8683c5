"""Runs a real PostgreSQL whose password can be rotated and whose privileges can be revoked."""

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
    """Runs the server in ``folder``; the owner logs in without a password, the services' role only with it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._server = EmbeddedPostgres(folder)
        self.url_file = folder / "url"
        """The file from which services read their URL, again after each refused login."""
        self.password = FIRST_PASSWORD
        """The password in ``url_file``."""

    async def start(self) -> None:
        """Start the server; the first start creates the tables and the services' role."""
        await self._server.start()
        if self.url_file.exists():
            return
        await asyncio.to_thread(migrate.migrate_up, self.owner_dsn)
        (hba,) = self._folder.rglob("pg_hba.conf")
        hba.write_text(f"local all {ROLE} scram-sha-256\n{hba.read_text()}")
        await self.execute(f"CREATE ROLE {ROLE} LOGIN PASSWORD '{FIRST_PASSWORD}'", *_RIGHTS, "SELECT pg_reload_conf()")
        self.write_url(FIRST_PASSWORD)

    async def stop(self) -> None:
        """Stop the server normally."""
        await self._server.stop()

    @property
    def owner_dsn(self) -> str:
        """The URL with which the campaign connects as the owner."""
        return self._server.dsn

    def dsn(self, password: str) -> str:
        """Return the URL with which services connect."""
        host = self._server.dsn.partition("?")[2]
        return f"postgresql://{ROLE}:{quote(password)}@/standgale?{host}"

    def write_url(self, password: str) -> None:
        """Write the valid password to the file that services read."""
        self.password = password
        fresh = self.url_file.with_suffix(".new")
        fresh.write_text(self.dsn(password))
        fresh.replace(self.url_file)

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
        """Connect as the owner; wait while the server recovers from a crash."""
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

    async def execute(self, *statements: str) -> None:
        """Run statements as the owner, each in its own transaction."""
        async with self.connected() as connection:
            for statement in statements:
                await connection.execute(statement)

    async def change_password(self, password: str) -> None:
        """Change the password, and end all sessions that logged in with the former one."""
        await self.execute(f"ALTER ROLE {ROLE} PASSWORD '{password}'", _END_SESSIONS)

    async def grant(self) -> None:
        """Grant the services' role all privileges that it needs."""
        await self.execute(*_RIGHTS)

    async def quit(self, how: signal.Signals) -> None:
        """Send ``how`` to the server (SIGINT fast, SIGQUIT immediate, SIGKILL a crash) and wait until it has ended."""
        for process in self._processes()[:1]:
            process.send_signal(how)
            await asyncio.to_thread(process.wait, 60)

    def signal_all(self, how: signal.Signals) -> None:
        """Send ``how`` to the server and to each of its sessions."""
        for process in self._processes():
            with suppress(psutil.NoSuchProcess):
                process.send_signal(how)

    def kill_session(self) -> None:
        """Send SIGKILL to one session's process; the server then restarts all sessions."""
        for process in self._processes()[1:]:
            with suppress(psutil.NoSuchProcess):
                if f" {ROLE} " in " ".join(process.cmdline()):
                    process.kill()
                    return

    def _processes(self) -> list[psutil.Process]:
        """Return the server process, then its children."""
        for path in self._folder.rglob("postmaster.pid"):
            with suppress(psutil.NoSuchProcess, OSError, ValueError, IndexError):
                server = psutil.Process(int(path.read_text().splitlines()[0]))
                return [server, *server.children()]
        return []
