"""Keeps the tokens of callers valid while their media are worked on and posted, and forgets them then."""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
from datetime import UTC, datetime, timedelta
from typing import Any, TypeGuard
from uuid import UUID

import aiohttp
import orjson

from console.media.records import PURPOSE, forget_tokens
from console.media.settings import MediaSettings
from console.metrics import MEDIA_REFRESHES
from infra.database.pool import Database
from infra.encryption.box import SecretBox, SecretUnreadableError
from infra.failure.rounds import Rounds, run_rounds
from infra.failure.settings import RetrySettings
from infra.network.responses import read_bounded
from infra.process.health import HealthPart

logger = logging.getLogger(__name__)

BEFORE_S = 60.0
"""So long before it expires a token is refreshed."""
_AGAIN = timedelta(seconds=10)
"""After a failure."""
_CHECK_S = 1.0
_AT_ONCE = 16
_MOST_TOKEN = 16_384
_MOST_ANSWER = 65_536
_LATEST = 253_402_300_799
_TAKE = """
UPDATE media_runs SET refresh_at = clock_timestamp() + $1::interval WHERE id IN (
    SELECT id FROM media_runs
    WHERE refresh_token IS NOT NULL AND refresh_at <= clock_timestamp()
    ORDER BY refresh_at LIMIT $2 FOR UPDATE SKIP LOCKED
) RETURNING id, refresh_token
"""
# Nothing is stored where the token was forgotten meanwhile. A token that is short-lived, or expired by the clock of the
# database, which decides when it is due, is not asked for again and again.
_KEEP = """
UPDATE media_runs SET token = $2, refresh_token = coalesce($3, refresh_token),
    refresh_at = CASE WHEN $4::timestamptz IS NOT NULL THEN greatest($4, clock_timestamp() + $5::interval) END
WHERE id = $1 AND token IS NOT NULL
"""
_GIVE_UP = "UPDATE media_runs SET refresh_at = NULL WHERE id = $1"
# One that was replaced meanwhile stays.
_REFUSED = "UPDATE media_runs SET refresh_at = NULL, refresh_token = NULL WHERE id = $1 AND refresh_token = $2"


def expiry_of(token: str) -> datetime | None:
    """Return when a JSON web token expires, without checking its signature; None where it does not say it."""
    parts = token.split(".")
    if len(parts) != 3 or len(token) > _MOST_TOKEN:
        return None
    try:
        padded = parts[1] + "=" * (-len(parts[1]) % 4)
        claims = orjson.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (binascii.Error, ValueError):
        return None
    expires = claims.get("exp") if isinstance(claims, dict) else None
    if isinstance(expires, bool) or not isinstance(expires, int | float) or not 0 <= expires <= _LATEST:
        return None
    return datetime.fromtimestamp(expires, UTC)


def refresh_time(token: str) -> datetime | None:
    """Return when ``token`` is to be refreshed; None: once it is refused, because it does not say when it expires."""
    expires = expiry_of(token)
    # A long way back: the database's earliest times are later than Python's.
    return None if expires is None else max(expires, datetime(1980, 1, 1, tzinfo=UTC)) - timedelta(seconds=BEFORE_S)


def _is_token(value: object) -> TypeGuard[str]:
    """Whether ``value`` can be sent as a token: text that fits into a header."""
    return isinstance(value, str) and 0 < len(value) <= _MOST_TOKEN and value.isascii() and value.isprintable()


class MediaTokens:
    """Is the component that refreshes tokens; a failure is tried again, and stops no work on a medium."""

    name = "media-tokens"

    def __init__(self, database: Database, box: SecretBox, settings: MediaSettings, retry: RetrySettings) -> None:
        self._rounds = Rounds(
            "refreshing tokens of media", "tokens of media are not refreshed", _CHECK_S, ready_in_spite=True
        )
        self._retry = retry
        self._database = database
        self._box = box
        self._settings = settings

    async def run(self, stop: asyncio.Event, health: HealthPart) -> None:
        """Refresh until ``stop`` is set; an error is shown and tried again."""
        await run_rounds(self._rounds, self.work, stop, health, self._retry)

    async def work(self) -> int:
        """Forget tokens that have served, and refresh those whose time has come; return how many of these.

        Raises the errors of the database.
        """
        async with self._database.acquire(writing=True) as connection:
            claim_s = self._settings.refresh_timeout_s + _AGAIN.total_seconds()
            await forget_tokens(connection, timedelta(seconds=self._settings.token_keep_s))
            rows: list[Any] = await connection.fetch(_TAKE, timedelta(seconds=claim_s), _AT_ONCE)
        # At once, because one that waits for its time limit must not let others expire.
        results = await asyncio.gather(
            *(self._refresh(row["id"], row["refresh_token"]) for row in rows), return_exceptions=True
        )
        for result in results:
            if isinstance(result, BaseException):
                raise result
            MEDIA_REFRESHES.labels(result).inc()
        return len(rows)

    async def _refresh(self, run: UUID, encrypted: bytes) -> str:
        try:
            status, answer = await self._ask(self._box.decrypt(encrypted, PURPOSE))
        except SecretUnreadableError as error:
            logger.error("the refresh token of a medium cannot be read: %s", error, extra={"code": error.code})
            # What was encrypted with another key may be readable again.
            await self._write(_GIVE_UP, run)
            return "refused"
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            # Not its text, which may have the request.
            logger.warning("a token of a medium could not be refreshed (%s); it is tried again", type(error).__name__)
            return "unavailable"
        token = answer.get("token")
        if status != 200 or not _is_token(token):
            if 400 <= status < 500 and status not in (408, 429):
                logger.warning("the Annotations service refused to refresh a token of a medium: %d", status)
                await self._write(_REFUSED, run, encrypted)
                return "refused"
            logger.warning("a token of a medium could not be refreshed (status %d); it is tried again", status)
            return "unavailable"
        new = answer.get("refreshToken")
        kept = self._box.encrypt(new, PURPOSE) if _is_token(new) else None
        due = refresh_time(token)
        await self._write(_KEEP, run, self._box.encrypt(token, PURPOSE), kept, due, _AGAIN)
        return "refreshed"

    async def _ask(self, refresh_token: str) -> tuple[int, dict[str, Any]]:
        url = f"{self._settings.annotations_url}/auth/refresh"
        async with (
            asyncio.timeout(self._settings.refresh_timeout_s),
            aiohttp.ClientSession(trust_env=False, cookie_jar=aiohttp.DummyCookieJar()) as session,
            session.post(url, json={"refreshToken": refresh_token}, allow_redirects=False) as response,
        ):
            data = await read_bounded(response, _MOST_ANSWER)
        try:
            answer = orjson.loads(data)
        except ValueError:
            answer = None
        return response.status, answer if isinstance(answer, dict) else {}

    async def _write(self, statement: str, *values: object) -> None:
        async with self._database.acquire(writing=True) as connection:
            await connection.execute(statement, *values)
