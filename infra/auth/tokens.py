"""Makes, lists and revokes device tokens: shown once, stored as hashes; a device may have two, to replace one."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import ClassVar
from uuid import UUID

from infra.database.pool import Connection, Database
from schemas.errors import StandgaleError
from schemas.event_base import DEVICE_ID_PATTERN
from schemas.ids import device_uuid

MAX_VALID = 2
_PREFIX = "stg"
_SECRET_BYTES = 32
_NAME_MAX = 255
_DEVICE_ID = re.compile(DEVICE_ID_PATTERN)

_VALID = "revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())"
_INSERT_DEVICE = """
INSERT INTO devices (id, device_id, name) VALUES ($1, $2, $3)
ON CONFLICT (device_id) DO UPDATE SET name = coalesce(EXCLUDED.name, devices.name)
"""
# The lock on the device makes two concurrent commands count one after the other.
_LOCK_DEVICE = "SELECT id FROM devices WHERE device_id = $1 FOR UPDATE"
_VALID_IDS = f"SELECT token_id FROM device_tokens WHERE device_id = $1 AND {_VALID} ORDER BY created_at"  # noqa: S608
_INSERT_TOKEN = "INSERT INTO device_tokens (token_id, device_id, token_hash) VALUES ($1, $2, $3)"  # noqa: S105
_EXPIRE = "UPDATE device_tokens SET expires_at = now() + $2 WHERE token_id = ANY($1)"
_REVOKE = f"""
UPDATE device_tokens SET revoked_at = now()
WHERE device_id = $1 AND ($2::varchar IS NULL OR token_id = $2) AND {_VALID}
"""  # noqa: S608
_LIST = f"""
SELECT token_id, t.device_id, name, t.created_at, expires_at, revoked_at, last_seen, ({_VALID}) AS valid
FROM device_tokens t JOIN devices d USING (device_id)
ORDER BY t.device_id, t.created_at, token_id
"""  # noqa: S608


class DeviceError(StandgaleError):
    """Raised when a command on devices and their tokens cannot be done."""

    code: ClassVar[str] = "INVALID_DEVICE"


@dataclass(frozen=True, slots=True)
class TokenInfo:
    """Describes one token and its device, without the secret."""

    token_id: str
    device_id: str
    name: str | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_seen: datetime | None
    valid: bool


@dataclass(frozen=True, slots=True)
class NewToken:
    """Holds a new token. Its text is stored nowhere: the database keeps only the hash."""

    token_id: str
    text: str

    @classmethod
    def make(cls) -> NewToken:
        """Make a token ``stg_<id>_<secret>`` with 256 random bits of secret."""
        token_id = secrets.token_hex(8)
        return cls(token_id, f"{_PREFIX}_{token_id}_{secrets.token_urlsafe(_SECRET_BYTES)}")


def token_hash(token: str) -> bytes:
    """Return the SHA-256 of ``token``. A slow hash is not needed: 256 random bits cannot be guessed."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def token_id_of(token: str) -> str | None:
    """Return the public part of ``token``, or None when it does not look like one."""
    parts = token.split("_", 2)
    return parts[1] if len(parts) == 3 and parts[0] == _PREFIX else None


class DeviceTokens:
    """Adds, rotates, revokes and lists tokens; gateways apply a change within ``gateway.token_refresh_s`` seconds.

    All methods raise DatabaseUnavailableError, and DeviceError with what to do instead.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, device_id: str, name: str | None = None) -> str:
        """Register a device, also one that is known from its frames; return its first token, shown only now."""
        _check_id(device_id)
        if name is not None and (len(name) > _NAME_MAX or "\x00" in name):
            raise DeviceError(f"the name of device {device_id} takes at most {_NAME_MAX} characters and no NUL")
        async with self._database.acquire() as connection, connection.transaction():
            await connection.execute(_INSERT_DEVICE, device_uuid(device_id), device_id, name)
            if valid := await _locked_valid_ids(connection, device_id):
                raise DeviceError(
                    f"device {device_id} has a valid token already ({', '.join(valid)}); for a second one next to it: "
                    f"standgale device rotate {device_id}"
                )
            return await _insert_token(connection, device_id)

    async def rotate(self, device_id: str, *, overlap_s: float | None = None) -> str:
        """Return a second token, shown only now; the present one stays valid, or ends after ``overlap_s`` seconds.

        A third one is refused. Ending the oldest instead could end the one that the device still uses.
        """
        _check_id(device_id)
        if overlap_s is not None and overlap_s < 0:
            raise DeviceError(f"the overlap of two tokens is {overlap_s} s; it takes zero or more")
        async with self._database.acquire() as connection, connection.transaction():
            valid = await _locked_valid_ids(connection, device_id)
            if len(valid) >= MAX_VALID:
                raise DeviceError(
                    f"device {device_id} has {len(valid)} valid tokens already ({', '.join(valid)}), the most there "
                    f"may be; revoke the one it no longer uses: standgale device revoke {device_id} --token {valid[0]}"
                )
            token = await _insert_token(connection, device_id)
            if overlap_s is not None:
                await connection.execute(_EXPIRE, valid, timedelta(seconds=overlap_s))
            return token

    async def revoke(self, device_id: str, token_id: str | None = None) -> int:
        """End the token ``token_id`` of the device, or all of them (None); return how many were valid until now."""
        _check_id(device_id)
        async with self._database.acquire() as connection, connection.transaction():
            valid = await _locked_valid_ids(connection, device_id)
            if token_id is not None and token_id not in valid:
                raise DeviceError(
                    f"device {device_id} has no valid token {token_id!r}; valid are: {', '.join(valid) or 'none'}"
                )
            done = await connection.execute(_REVOKE, device_id, token_id)
            return int(done.rpartition(" ")[2])

    async def list(self) -> Sequence[TokenInfo]:
        """Return all tokens, with revoked and expired ones, by device, the oldest first."""
        async with self._database.acquire() as connection:
            rows = await connection.fetch(_LIST)
        return tuple(TokenInfo(**row) for row in rows)


def _check_id(device_id: str) -> None:
    if not _DEVICE_ID.fullmatch(device_id):
        raise DeviceError(
            f"{device_id[:80]!r} is no device id: it takes 1 to 255 letters, digits, dots, underscores and hyphens, "
            "and begins with a letter or digit"
        )


async def _locked_valid_ids(connection: Connection, device_id: str) -> Sequence[str]:
    found: UUID | None = await connection.fetchval(_LOCK_DEVICE, device_id)
    if found is None:
        raise DeviceError(f"there is no device {device_id}; add it first: standgale device add {device_id}")
    return [row["token_id"] for row in await connection.fetch(_VALID_IDS, device_id)]


async def _insert_token(connection: Connection, device_id: str) -> str:
    token = NewToken.make()
    await connection.execute(_INSERT_TOKEN, token.token_id, device_id, token_hash(token.text))
    return token.text
