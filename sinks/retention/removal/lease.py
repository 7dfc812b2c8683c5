"""Lets one process at a time remove frames: by a lease of some minutes in the database, which it renews."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID, uuid4

from infra.database.clock_tests import is_over
from infra.database.pool import Connection, Database
from infra.process.monotonic import monotonic_s
from sinks.retention.errors import RetentionBusyError

LEASE_S = 120.0
# The part of a lease that is not used, because two clocks differ and a call is on its way for a moment.
_USED = 0.5
_IS_OVER = is_over("retention_owner.leased_until", "10 * $2::interval")
_TAKE = f"""
INSERT INTO retention_owner (holder, leased_until) VALUES ($1, clock_timestamp() + $2::interval)
ON CONFLICT (id) DO UPDATE SET holder = EXCLUDED.holder, leased_until = EXCLUDED.leased_until
WHERE retention_owner.holder = $1 OR {_IS_OVER}
RETURNING TRUE
"""  # noqa: S608 (constants)
_GIVE_BACK = "DELETE FROM retention_owner WHERE holder = $1"


class RemovalLease:
    """Takes, renews and gives back the lease of this process."""

    def __init__(self, database: Database, *, lease_s: float = LEASE_S) -> None:
        self._database = database
        self._lease_s = lease_s
        self._holder: UUID = uuid4()
        self._until_s = monotonic_s()

    async def renew(self) -> None:
        """Take the lease, or extend it. Raises RetentionBusyError while another process has it."""
        async with self._database.acquire(writing=True) as connection:
            await self.renew_in(connection)

    async def renew_in(self, connection: Connection) -> None:
        """Do the same with ``connection``."""
        asked_at_s = monotonic_s()
        if not await connection.fetchval(_TAKE, self._holder, timedelta(seconds=self._lease_s)):
            raise RetentionBusyError(
                f"another process removes frames now, or was killed less than {self._lease_s:g} s ago while it did; "
                "try again after that time"
            )
        self._until_s = asked_at_s + self._lease_s * _USED

    def require(self) -> None:
        """Raise RetentionBusyError unless the lease is still this process's, as before each removal."""
        if monotonic_s() >= self._until_s:
            raise RetentionBusyError(
                "this process could not renew its right to remove frames in time, because it stood still or the "
                "database did not respond; another process may remove now, and this one begins again"
            )

    async def give_back(self) -> None:
        """End the lease."""
        async with self._database.acquire(writing=True) as connection:
            await connection.execute(_GIVE_BACK, self._holder)
