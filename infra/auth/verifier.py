"""Checks tokens in memory: no request waits for the database, and devices go on sending while it is away."""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from infra.auth.tokens import token_hash, token_id_of
from infra.database.pool import Database
from infra.errors import DatabaseUnavailableError, TransientError
from infra.failure import Backoff
from infra.health import HealthPart
from infra.settings import RetrySettings
from schemas.timestamps import format_utc, utc_now

_log = logging.getLogger(__name__)

_SELECT = """
SELECT token_id, device_id, token_hash, expires_at FROM device_tokens
WHERE revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())
"""
# What a token with an unknown id is compared with, so that it takes as long as one with a known id.
_NO_HASH = bytes(32)


@dataclass(frozen=True, slots=True)
class VerifiedDevice:
    """Who showed a valid token, and which."""

    device_id: str
    token_id: str


@dataclass(frozen=True, slots=True)
class _Known:
    device: VerifiedDevice
    token_hash: bytes
    expires_at: datetime | None


class TokenVerifier:
    """Keeps the hashes of all valid tokens, read anew every ``refresh_s`` seconds; a component of the gateway.

    A new or revoked token takes effect within ``refresh_s``. While the database is away the last list stays in force,
    however old: nobody can revoke a token then either, and devices must not lose frames for a fault that is ours.
    Expiry is judged by the clock, so it holds also then. The component stays ready and logs a warning.
    """

    name = "tokens"

    def __init__(self, database: Database, *, refresh_s: float, retry: RetrySettings | None = None) -> None:
        self._database = database
        self._refresh_s = refresh_s
        self._backoff = Backoff(retry or RetrySettings())
        self._known: Mapping[str, _Known] | None = None
        self._read_at: datetime | None = None
        self._behind = False

    def verify(self, token: str) -> VerifiedDevice | None:
        """Whose ``token`` this is, or None for one that is wrong, revoked or expired.

        Raises DatabaseUnavailableError while no list could be read since the start: then nobody can tell.
        """
        if self._known is None:
            raise DatabaseUnavailableError("the device tokens could not be read from the database yet; try again")
        known = self._known.get(token_id_of(token) or "")
        same = hmac.compare_digest(known.token_hash if known else _NO_HASH, token_hash(token))
        if known is None or not same:
            return None
        if known.expires_at is not None and known.expires_at <= utc_now():
            return None
        return known.device

    async def refresh(self) -> None:
        """Read the list now. Raises DatabaseUnavailableError; the former list then stays in force."""
        async with self._database.acquire() as connection:
            rows = await connection.fetch(_SELECT)
        self._known = {
            row["token_id"]: _Known(
                VerifiedDevice(row["device_id"], row["token_id"]), row["token_hash"], row["expires_at"]
            )
            for row in rows
        }
        self._read_at = utc_now()

    async def run(self, stop: asyncio.Event, health: HealthPart) -> None:
        """Refresh until ``stop`` is set; not ready only until the first list is there."""
        while not stop.is_set():
            health.alive()
            try:
                await self.refresh()
            except TransientError as error:
                self._report_behind(error, health)
                await self._backoff.wait(stop)
                continue
            if self._behind:
                _log.info("device tokens are read again")
            self._behind = False
            self._backoff.reset()
            health.ready()
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), self._refresh_s)

    def _report_behind(self, error: TransientError, health: HealthPart) -> None:
        if self._read_at is None:
            health.not_ready(str(error))
        # Once per outage: the next line about it says that it is over.
        if not self._behind:
            effect = (
                "nobody can be let in yet" if self._read_at is None else f"as of {format_utc(self._read_at)} they hold"
            )
            _log.warning("device tokens cannot be read (%s): %s", effect, error)
        self._behind = True
