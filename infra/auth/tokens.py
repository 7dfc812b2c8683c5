"""Makes, lists and revokes tokens: shown once, stored as hashes; a holder may have two, to replace one."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import ClassVar
from uuid import UUID

from infra.auth.kinds import API_KEYS, DEVICE_TOKENS, TokenKind
from infra.auth.scopes import DeviceScope
from infra.database.pool import Connection, Database
from infra.database.results import rows_changed
from infra.database.transaction import transaction
from schemas.event_base import DEVICE_ID_PATTERN
from schemas.ids import device_uuid

MAX_VALID = 2
_SECRET_BYTES = 32
_NAME_MAX = 255
_HOLDER_ID = re.compile(DEVICE_ID_PATTERN)
_SET_DEVICES = "UPDATE api_clients SET devices = $2 WHERE client_id = $1"
_VALID = "revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())"


@dataclass(frozen=True, slots=True)
class TokenInfo:
    """Describes one token and its holder, a device or a client, without the secret."""

    token_id: str
    holder_id: str
    name: str | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_seen: datetime | None
    valid: bool
    devices: Sequence[str] | None = None
    """The devices that a client may see, as patterns; None: all"""


@dataclass(frozen=True, slots=True)
class NewToken:
    """Holds a new token. Its text is stored nowhere: the database keeps only the hash."""

    token_id: str
    text: str

    @classmethod
    def make(cls, kind: TokenKind = DEVICE_TOKENS) -> NewToken:
        """Make a token ``stg_<id>_<secret>``, for clients ``sgk_…``, with 256 random bits of secret."""
        token_id = secrets.token_hex(8)
        return cls(token_id, f"{kind.prefix}_{token_id}_{secrets.token_urlsafe(_SECRET_BYTES)}")


def token_hash(token: str) -> bytes:
    """Return the SHA-256 of ``token``. A slow hash is not needed: 256 random bits cannot be guessed."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def token_id_of(token: str, kind: TokenKind = DEVICE_TOKENS) -> str | None:
    """Return the public part of ``token``, or None when it does not look like one of ``kind``."""
    parts = token.split("_", 2)
    return parts[1] if len(parts) == 3 and parts[0] == kind.prefix else None


class _Statements:
    """Holds the SQL for one kind; the names of tables and columns are constants of the kinds."""

    def __init__(self, kind: TokenKind) -> None:
        holders, holder, tokens = kind.holders, kind.holder_id, kind.tokens
        self.insert_holder = (
            f"INSERT INTO {holders} (id, {holder}, name) VALUES ($1, $2, $3) "  # noqa: S608 - constants
            f"ON CONFLICT ({holder}) DO UPDATE SET name = coalesce(EXCLUDED.name, {holders}.name)"
        )
        # The lock on the holder makes two concurrent commands count one after the other.
        self.lock_holder = f"SELECT id FROM {holders} WHERE {holder} = $1 FOR UPDATE"  # noqa: S608 - constants
        self.valid_ids = f"SELECT token_id FROM {tokens} WHERE {holder} = $1 AND {_VALID} ORDER BY created_at"  # noqa: S608
        self.insert_token = f"INSERT INTO {tokens} (token_id, {holder}, token_hash) VALUES ($1, $2, $3)"  # noqa: S608 - constants
        self.expire = f"UPDATE {tokens} SET expires_at = now() + $2 WHERE token_id = ANY($1)"  # noqa: S608
        self.revoke = (
            f"UPDATE {tokens} SET revoked_at = now() "  # noqa: S608 - constants
            f"WHERE {holder} = $1 AND ($2::varchar IS NULL OR token_id = $2) AND {_VALID}"
        )
        devices = "devices" if kind.is_scoped else "NULL"
        self.list = (
            f"SELECT token_id, t.{holder} AS holder_id, name, t.created_at, expires_at, revoked_at, last_seen, "  # noqa: S608
            f"({_VALID}) AS valid, {devices} AS devices FROM {tokens} t JOIN {holders} h USING ({holder}) "
            f"ORDER BY t.{holder}, t.created_at, token_id"
        )


class Tokens:
    """Adds, rotates, revokes and lists tokens of one kind; services apply a change within seconds.

    All methods raise DatabaseUnavailableError, and the error of the kind (DeviceError, ClientError) with what to do
    instead.
    """

    kind: ClassVar[TokenKind]

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sql = _Statements(self.kind)

    async def add(self, holder_id: str, name: str | None = None) -> str:
        """Register a holder, also one that is known already; return its first token, shown only now."""
        return await self._add(holder_id, name, None)

    async def _add(self, holder_id: str, name: str | None, devices: Sequence[str] | None) -> str:
        self._check_id(holder_id)
        kind = self.kind
        if name is not None and (len(name) > _NAME_MAX or "\x00" in name):
            raise kind.error(f"the name of {kind.holder} {holder_id} takes at most {_NAME_MAX} characters and no NUL")
        async with self._database.acquire() as connection, transaction(connection):
            await connection.execute(self._sql.insert_holder, device_uuid(holder_id), holder_id, name)
            if valid := await self._locked_valid_ids(connection, holder_id):
                raise kind.error(
                    f"{kind.holder} {holder_id} has a valid {kind.token} already ({', '.join(valid)}); for a second "
                    f"one next to it: standgale {kind.command} rotate {holder_id}"
                )
            if devices is not None:
                await connection.execute(_SET_DEVICES, holder_id, devices)
            return await self._insert_token(connection, holder_id)

    async def rotate(self, holder_id: str, *, overlap_s: float | None = None) -> str:
        """Return a second token, shown only now; the present one stays valid, or ends after ``overlap_s`` seconds.

        A third one is refused. Ending the oldest instead could end the one that the holder still uses.
        """
        self._check_id(holder_id)
        kind = self.kind
        if overlap_s is not None and overlap_s < 0:
            raise kind.error(f"the overlap of two {kind.token}s is {overlap_s} s; it takes zero or more")
        async with self._database.acquire() as connection, transaction(connection):
            valid = await self._locked_valid_ids(connection, holder_id)
            if len(valid) >= MAX_VALID:
                raise kind.error(
                    f"{kind.holder} {holder_id} has {len(valid)} valid {kind.token}s already ({', '.join(valid)}), the "
                    f"most there may be; revoke the one it no longer uses: standgale {kind.command} revoke {holder_id} "
                    f"--{kind.token} {valid[0]}"
                )
            token = await self._insert_token(connection, holder_id)
            if overlap_s is not None:
                await connection.execute(self._sql.expire, valid, timedelta(seconds=overlap_s))
            return token

    async def revoke(self, holder_id: str, token_id: str | None = None) -> int:
        """End the token ``token_id`` of the holder, or all of them (None); return how many were valid until now."""
        self._check_id(holder_id)
        kind = self.kind
        async with self._database.acquire() as connection, transaction(connection):
            seen = f"standgale {kind.command} list shows all"
            valid = await self._locked_valid_ids(connection, holder_id, otherwise=seen)
            if token_id is not None and token_id not in valid:
                raise kind.error(
                    f"{kind.holder} {holder_id} has no valid {kind.token} {token_id!r}; valid are: "
                    f"{', '.join(valid) or 'none'}"
                )
            done = await connection.execute(self._sql.revoke, holder_id, token_id)
            return rows_changed(done)

    async def list(self) -> Sequence[TokenInfo]:
        """Return all tokens, with revoked and expired ones, by holder, the oldest first."""
        async with self._database.acquire() as connection:
            rows = await connection.fetch(self._sql.list)
        return tuple(TokenInfo(**row) for row in rows)

    def _check_id(self, holder_id: str) -> None:
        if not _HOLDER_ID.fullmatch(holder_id):
            raise self.kind.error(
                f"{holder_id[:80]!r} is no {self.kind.holder} id: it takes 1 to 255 letters, digits, dots, underscores "
                "and hyphens, and begins with a letter or digit"
            )

    async def _locked_valid_ids(
        self, connection: Connection, holder_id: str, *, otherwise: str | None = None
    ) -> Sequence[str]:
        """Return the ids of a holder's valid tokens, its row locked; ``otherwise``: the advice where there is none."""
        found: UUID | None = await connection.fetchval(self._sql.lock_holder, holder_id)
        if found is None:
            advice = otherwise or f"add it first: standgale {self.kind.command} add {holder_id}"
            raise self.kind.error(f"there is no {self.kind.holder} {holder_id}; {advice}")
        return [row["token_id"] for row in await connection.fetch(self._sql.valid_ids, holder_id)]

    async def _insert_token(self, connection: Connection, holder_id: str) -> str:
        token = NewToken.make(self.kind)
        await connection.execute(self._sql.insert_token, token.token_id, holder_id, token_hash(token.text))
        return token.text


class DeviceTokens(Tokens):
    """Manages devices that may send frames; gateways follow within ``gateway.token_refresh_s`` seconds."""

    kind = DEVICE_TOKENS


class ApiKeys(Tokens):
    """Manages clients that may ask for jobs; consoles follow within ``console.key_refresh_s`` seconds."""

    kind = API_KEYS

    async def add_for(self, client_id: str, devices: Sequence[str], name: str | None = None) -> str:
        """Add a client as :meth:`add` does, that may see ``devices`` only. Raises ScopeError, too."""
        return await self._add(client_id, name, DeviceScope.of(devices).patterns)

    async def set_devices(self, client_id: str, devices: Sequence[str] | None) -> None:
        """Change which devices a client may see in the live stream; None: all. Raises ScopeError, too."""
        self._check_id(client_id)
        patterns = None if devices is None else DeviceScope.of(devices).patterns
        async with self._database.acquire() as connection, transaction(connection):
            await self._locked_valid_ids(connection, client_id)
            await connection.execute(_SET_DEVICES, client_id, patterns)
