"""Checks tokens in memory, so that no request waits for the database, and devices can send while it is unavailable."""

from __future__ import annotations

import asyncio
import hmac
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from infra.auth.kinds import DEVICE_TOKENS, TokenKind
from infra.auth.look_ups import LookUps
from infra.auth.scopes import DeviceScope, ScopeError
from infra.auth.tokens import token_hash, token_id_of
from infra.database.pool import Database
from infra.errors import DatabaseUnavailableError
from infra.failure.backoff import Backoff
from infra.failure.error_texts import error_code, error_text
from infra.failure.retry import StoppedError, run_until_stop
from infra.failure.settings import RetrySettings
from infra.process.health import HealthPart
from infra.process.monotonic import monotonic_s
from schemas.errors import StandgaleError
from schemas.timestamps import format_utc, utc_now

logger = logging.getLogger(__name__)

# A token with an unknown id is compared with this, so that it takes as long as one with a known id.
_NO_HASH = bytes(32)
_NOTE = "tokens"
# A token has 64 characters; a longer text is not worth hashing.
_MAX_TOKEN = 256
_ID = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True, slots=True)
class VerifiedToken:
    """Names the holder of a valid token, a device or a client, and the token."""

    holder_id: str
    token_id: str
    scope: DeviceScope | None = None
    """The devices that a client may see; None: all"""


@dataclass(frozen=True, slots=True)
class _KnownToken:
    """Holds what is known of one valid token."""

    holder: VerifiedToken
    token_hash: bytes
    ends_s: float | None
    """When it expires, on the monotonic clock; None: never."""


class TokenVerifier:
    """Keeps the hashes of all valid tokens, read again every ``refresh_s`` seconds; a component of the
    service that verifies.

    A revoked token takes effect within ``refresh_s``; a new one at once, where :meth:`look_up` is called. While the
    database cannot be read (it is unavailable, it refuses the password, a table is missing), the last list stays in
    force at any age: no token can be revoked in that time either, and devices must not lose frames because of an error
    on our side. Expiry follows the clock of the database, continued by a monotonic one, so it works in that time too,
    and also when the clock of this machine is wrong. The component stays ready, reports the error in a note, and logs a
    warning.
    """

    def __init__(
        self,
        database: Database,
        *,
        refresh_s: float,
        retry: RetrySettings | None = None,
        kind: TokenKind = DEVICE_TOKENS,
    ) -> None:
        self.name = "tokens" if kind is DEVICE_TOKENS else f"{kind.token}s"
        self._kind = kind
        devices, holders = (
            ("devices", f"JOIN {kind.holders} USING ({kind.holder_id}) ") if kind.is_scoped else ("NULL", "")
        )
        self._select = (
            f"SELECT token_id, {kind.holder_id} AS holder_id, token_hash, {devices} AS devices, "  # noqa: S608
            f"extract(epoch FROM expires_at - now())::float8 AS left_s FROM {kind.tokens} {holders}"
            "WHERE revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())"
        )
        self._select_some = f"{self._select} AND token_id = ANY($1)"
        self._look_ups = LookUps(self._read_some, kind.tokens_name)
        self._database = database
        self._refresh_s = refresh_s
        self._backoff = Backoff(retry or RetrySettings())
        self._known: Mapping[str, _KnownToken] | None = None
        self._looked_up: dict[str, _KnownToken] = {}
        self._read_at: datetime | None = None
        self._logged: set[str] = set()

    def verify(self, token: str) -> VerifiedToken | None:
        """Return the holder of ``token``, or None for one that is wrong, revoked or expired.

        Raises DatabaseUnavailableError while no list was read since the start: then it is not known.
        """
        all_known = self._require_known()
        if len(token) > _MAX_TOKEN:
            return None
        known = all_known.get(token_id_of(token, self._kind) or "")
        same = hmac.compare_digest(known.token_hash if known else _NO_HASH, token_hash(token))
        if known is None or not same:
            return None
        if known.ends_s is not None and known.ends_s <= monotonic_s():
            return None
        return known.holder

    def holder_of(self, token_id: str) -> VerifiedToken | None:
        """Return the holder of the token with that public id while it is valid, for what was allowed with it.

        Raises DatabaseUnavailableError as :meth:`verify` does.
        """
        known = self._require_known().get(token_id)
        if known is None or (known.ends_s is not None and known.ends_s <= monotonic_s()):
            return None
        return known.holder

    def _require_known(self) -> Mapping[str, _KnownToken]:
        if self._known is None:
            raise DatabaseUnavailableError(
                f"the {self._kind.tokens_name} could not be read from the database yet; try again"
            )
        return self._known

    async def look_up(self, token: str) -> None:
        """Read the token from the database if it looks like one and its id is not in the list; see :class:`LookUps`.

        It raises nothing: where the database does not answer, the list decides.
        """
        if self._known is None or len(token) > _MAX_TOKEN:
            return
        token_id = token_id_of(token, self._kind)
        if token_id is not None and token_id not in self._known and _ID.fullmatch(token_id):
            await self._look_ups.find(token_id)

    async def _read_some(self, token_ids: Sequence[str]) -> None:
        async with self._database.acquire() as connection:
            rows = await connection.fetch(self._select_some, token_ids)
        found = _tokens_in(rows)
        self._looked_up.update(found)
        self._known = {**(self._known or {}), **found}

    async def refresh(self) -> None:
        """Read the list now. Raises DatabaseUnavailableError or RefusedError; then the former list stays in force."""
        # What is looked up from now on may be newer than the list that is read now.
        self._looked_up.clear()
        async with self._database.acquire() as connection:
            rows = await connection.fetch(self._select)
        self._known = {**_tokens_in(rows), **self._looked_up}
        self._read_at = utc_now()
        self._look_ups.forget()

    async def run(self, stop: asyncio.Event, health: HealthPart) -> None:
        """Refresh until ``stop`` is set; not ready only until the first list is read. No error ends it."""
        while not stop.is_set():
            health.beat()
            try:
                await run_until_stop(self.refresh(), stop, f"reading {self._kind.tokens_name}", timeout_s=0.0)
            except StoppedError:
                return
            except Exception as error:  # noqa: BLE001 (after any error holders continue with the tokens known so far)
                self._report_outdated(error, health)
                await self._backoff.wait(stop)
                continue
            self._report_read(health)
            await health.pause(self._refresh_s, stop)

    def _report_read(self, health: HealthPart) -> None:
        if self._logged:
            logger.info("%s are read again", self._kind.tokens_name)
        self._logged.clear()
        self._backoff.reset()
        health.set_note(_NOTE, None)
        health.set_ready()

    def _report_outdated(self, error: Exception, health: HealthPart) -> None:
        code = error_code(error)
        if self._read_at is None:
            effect = f"no {self._kind.holder} is accepted yet"
            health.set_not_ready(error_text(error))
        else:
            effect = f"those read at {format_utc(self._read_at)} stay valid"
            health.set_note(_NOTE, f"{code}: {self._kind.tokens_name} cannot be read; {effect}")
        # Once per outage and reason; the next line about it reports that it is over.
        if code in self._logged:
            return
        self._logged.add(code)
        if isinstance(error, StandgaleError | OSError):
            logger.warning(
                "%s cannot be read (%s): %s", self._kind.tokens_name, effect, error_text(error), extra={"code": code}
            )
        else:
            logger.error("reading %s failed unexpectedly (%s)", self._kind.tokens_name, effect, exc_info=error)


def _tokens_in(rows: Sequence[Any]) -> dict[str, _KnownToken]:
    now_s = monotonic_s()
    return {
        row["token_id"]: _KnownToken(
            VerifiedToken(row["holder_id"], row["token_id"], _scope_of(row["holder_id"], row["devices"])),
            row["token_hash"],
            None if row["left_s"] is None else now_s + row["left_s"],
        )
        for row in rows
    }


def _scope_of(holder_id: str, devices: Sequence[str] | None) -> DeviceScope | None:
    """Return the scope in a row; one that cannot be read is of no device, and keeps nobody else waiting."""
    if devices is None:
        return None
    try:
        return DeviceScope.of(devices)
    except ScopeError as error:
        logger.error("%s may see no devices, because the list of them in the database is wrong: %s", holder_id, error)
        return DeviceScope(frozenset())
