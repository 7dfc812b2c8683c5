"""A role of a test's own on the tests' PostgreSQL, which must show its password and loses it when the test says so."""

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
    """The role ``name``; statements are executed by the superuser."""

    name: str
    admin: asyncpg.Connection[asyncpg.Record]
    superuser_dsn: str

    def dsn(self, password: str) -> str:
        """Where the role connects with ``password``."""
        return self.superuser_dsn.replace("postgresql://standgale@", f"postgresql://{self.name}:{password}@")

    async def execute(self, statement: str) -> None:
        """Execute ``statement``, in which {role} stands for the role's name."""
        await self.admin.execute(statement.format(role=self.name))

    async def rotate(self, password: str) -> None:
        """Change the password, and cut the connections that showed the former one."""
        await self.execute(f"ALTER ROLE {{role}} PASSWORD '{password}'")
        await self.cut()

    async def cut(self) -> None:
        """End the role's connections."""
        await self.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{role}'")


@asynccontextmanager
async def role(dsn: str, password: str) -> AsyncIterator[Role]:
    """A role with all rights on the tables of ``dsn``, a database of the tests' server."""
    admin = await asyncpg.connect(dsn)
    made = Role(f"role_{uuid4().hex[:12]}", admin, dsn)
    rules = Path(await admin.fetchval("SHOW hba_file"))
    rule = f"local all {made.name} scram-sha-256\n"
    try:
        await made.execute(f"CREATE ROLE {{role}} LOGIN PASSWORD '{password}'")
        await made.execute("GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}")
        # The server trusts everybody on this machine; the first rule that fits counts.
        rules.write_text(rule + rules.read_text())
        await admin.execute("SELECT pg_reload_conf()")
        await _until_asked_for_a_password(made)
        yield made
    finally:
        rules.write_text(rules.read_text().replace(rule, ""))
        await made.rotate("gone")
        await made.execute("DROP OWNED BY {role}")
        await made.execute("DROP ROLE {role}")
        await admin.close()


async def _until_asked_for_a_password(made: Role) -> None:
    for _ in range(1000):
        try:
            await (await asyncpg.connect(made.dsn("wrong"))).close()
        except asyncpg.InvalidPasswordError:
            return
        await asyncio.sleep(0.02)
    raise AssertionError("the server did not read its rules again within 20 s")
