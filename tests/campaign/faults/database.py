"""The database is stopped, crashes, is frozen, changes the services' password, and takes their privileges away."""

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
    """One fault of the database, as two actions."""

    name: str
    begin: Callable[[], Awaitable[None]]
    end: Callable[[], Awaitable[None]]

    async def strike(self) -> None:
        await self.begin()

    async def heal(self) -> None:
        await self.end()


def kinds(database: CampaignDatabase) -> list[Kind]:
    """All kinds that hit the database; they happen one at a time."""

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
    """Nobody is told the new password; in the end it is set back."""
    return DatabaseFault(
        "password rotated",
        lambda: database.change_password("nobody-knows"),
        lambda: database.change_password(database.password),
    )


def _rotated_in_file(database: CampaignDatabase, rng: random.Random) -> DatabaseFault:
    """As an operator does it: the new password is written where services read it, a little late."""
    fresh = f"secret-{rng.getrandbits(32):x}"

    async def tell() -> None:
        database.write_url(fresh)

    return DatabaseFault("password rotated, then told", lambda: database.change_password(fresh), tell)


def _revoked(database: CampaignDatabase, rng: random.Random) -> DatabaseFault:
    table, right = rng.choice(_TABLES), rng.choice(("INSERT", "SELECT", "ALL"))

    async def revoke() -> None:
        await database.order(f"REVOKE {right} ON {table} FROM {ROLE}")

    return DatabaseFault(f"{right} on {table} revoked", revoke, database.grant)
