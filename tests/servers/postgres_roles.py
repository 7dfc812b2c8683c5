"""Creates a role on the tests' PostgreSQL for one test; its password can be rotated and its connections ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import asyncpg


@dataclass(frozen=True)
class Role:
    """Holds the role ``name``; the superuser executes its statements."""

    name: str
    admin: asyncpg.Connection[asyncpg.Record]
    superuser_dsn: str

    def dsn(self, password: str) -> str:
        """Return the URL with which the role connects."""
        return self.superuser_dsn.replace("postgresql://standgale@", f"postgresql://{self.name}:{password}@")

    async def execute(self, statement: str) -> None:
        """Execute ``statement``, in which {role} is replaced by the role's name."""
        await self.admin.execute(statement.format(role=self.name))

    async def rotate(self, password: str) -> None:
        """Change the password, and end the connections that logged in with the former one."""
        await self.execute(f"ALTER ROLE {{role}} PASSWORD '{password}'")
        await self.cut()

    async def cut(self) -> None:
        """End the role's connections."""
        await self.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{role}'")


@asynccontextmanager
async def role(dsn: str, password: str) -> AsyncIterator[Role]:
    """Create a role with all rights on the tables of ``dsn``, a database of the tests' server."""
    admin = await asyncpg.connect(dsn)
    made = Role(f"role_{uuid4().hex[:12]}", admin, dsn)
    rules = Path(await admin.fetchval("SHOW hba_file"))
    rule = f"local all {made.name} scram-sha-256\n"
    try:
        await made.execute(f"CREATE ROLE {{role}} LOGIN PASSWORD '{password}'")
        await made.execute("GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}")
        await made.execute("GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {role}")
        # The server trusts every user of this machine; the first matching rule counts.
        rules.write_text(rule + rules.read_text())
        await admin.execute("SELECT pg_reload_conf()")
        await _wait_until_password_is_required(made)
        yield made
    finally:
        rules.write_text(rules.read_text().replace(rule, ""))
        await made.rotate("gone")
        await made.execute("DROP OWNED BY {role}")
        await made.execute("DROP ROLE {role}")
        await admin.close()


async def _wait_until_password_is_required(made: Role) -> None:
    for _ in range(1000):
        try:
            await (await asyncpg.connect(made.dsn("wrong"))).close()
        except asyncpg.InvalidPasswordError:
            return
        await asyncio.sleep(0.02)
    raise AssertionError("the server did not read its rules again within 20 s")
