"""Stops, crashes and freezes the database, changes the services' password and revokes their privileges."""

from __future__ import annotations

import random
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tests.campaign.database import ROLE, CampaignDatabase
from tests.campaign.faults.kind import Kind, whole

_TABLES = ("images", "inference_sessions", "detections", "device_tokens")


@dataclass
class DatabaseFault:
    """Runs one action at the start of a database fault and another at its end."""

    name: str
    on_start: Callable[[], Awaitable[None]]
    on_end: Callable[[], Awaitable[None]]

    async def start(self) -> None:
        await self.on_start()

    async def end(self) -> None:
        await self.on_end()


def kinds(database: CampaignDatabase) -> list[Kind]:
    """Return all kinds that hit the database; they happen one at a time."""

    def kind(
        name: str, hold_s: tuple[float, float], make: Callable[[random.Random], DatabaseFault], weight: float
    ) -> Kind:
        return Kind(name, ("database",), hold_s, lambda _, rng: make(rng), weight, whole("database"))

    return [
        kind("database_stopped", (0.5, 4.0), lambda _: _ended(database, signal.SIGQUIT), 0.7),
        kind("database_killed", (0.0, 2.0), lambda _: _ended(database, signal.SIGKILL), 0.7),
        kind("database_session_killed", (0.0, 0.5), lambda _: _session_killed(database), 0.7),
        kind("database_frozen", (1.0, 5.0), lambda _: _frozen(database), 0.7),
        kind("database_frozen_long", (11.0, 14.0), lambda _: _frozen(database), 0.2),
        kind("password_rotated", (2.0, 6.0), lambda _: _rotated(database), 0.7),
        kind("password_rotated_in_file", (2.0, 6.0), lambda rng: _rotated_in_file(database, rng), 0.7),
        kind("privilege_revoked", (2.0, 6.0), lambda rng: _revoked(database, rng), 1.0),
    ]


def _ended(database: CampaignDatabase, how: signal.Signals) -> DatabaseFault:
    return DatabaseFault(f"database ended by {how.name}", lambda: database.quit(how), database.start)


def _session_killed(database: CampaignDatabase) -> DatabaseFault:
    async def kill() -> None:
        database.kill_session()

    return DatabaseFault("session of the database killed", kill, database.start)


def _frozen(database: CampaignDatabase) -> DatabaseFault:
    async def freeze() -> None:
        database.signal_all(signal.SIGSTOP)

    async def thaw() -> None:
        database.signal_all(signal.SIGCONT)

    return DatabaseFault("database frozen", freeze, thaw)


def _rotated(database: CampaignDatabase) -> DatabaseFault:
    """Change the password without writing it to the file; the end sets the old one again."""
    return DatabaseFault(
        "password rotated",
        lambda: database.change_password("known-to-no-service"),
        lambda: database.change_password(database.password),
    )


def _rotated_in_file(database: CampaignDatabase, rng: random.Random) -> DatabaseFault:
    """Change the password as an operator does; the file that services read gets it a little later."""
    fresh = f"secret-{rng.getrandbits(32):x}"

    async def write() -> None:
        database.write_url(fresh)

    return DatabaseFault("password rotated, then written to the file", lambda: database.change_password(fresh), write)


def _revoked(database: CampaignDatabase, rng: random.Random) -> DatabaseFault:
    table, right = rng.choice(_TABLES), rng.choice(("INSERT", "SELECT", "ALL"))

    async def revoke() -> None:
        await database.execute(f"REVOKE {right} ON {table} FROM {ROLE}")

    return DatabaseFault(f"{right} on {table} revoked", revoke, database.grant)
