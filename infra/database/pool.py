"""Opens the connection pool when it is first needed, and translates its errors into Standgale's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeAlias
from urllib.parse import parse_qs, urlsplit

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from infra.database.error_translation import WriteRefusedError, refused_login_error, too_slow_error, translate
from infra.database.settings import DatabaseSettings
from infra.errors import RefusedError, SettingsError, TransientError
from infra.extras import install_extra
from infra.secrets import read_secret, secrets_in
from infra.telemetry.logs import add_secrets_to_mask

if TYPE_CHECKING:
    from infra.database.embedded import EmbeddedPostgres

# As text: the class takes type arguments in its stubs only.
Connection: TypeAlias = "PoolConnectionProxy[asyncpg.Record]"
_CLOSE_TIMEOUT_S = 4.0
"""How long connections may take to close; a frozen server never responds."""


class Database:
    """Gives services connections to PostgreSQL; when the server was restarted, the next call connects again.

    Without a url in the settings it is the embedded server below the data directory. It is started unless it runs, and
    stopped by :meth:`close` of its last user (see :class:`EmbeddedPostgres`).
    """

    def __init__(
        self, settings: DatabaseSettings, embedded: EmbeddedPostgres | None, url_file: Path | None = None
    ) -> None:
        """Use :meth:`open`."""
        self._settings = settings
        self._embedded = embedded
        self._url_file = url_file
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None
        self._connecting = asyncio.Lock()
        self._where = "the data directory" if settings.url is None else address(settings.url.get_secret_value())

    @classmethod
    def open(cls, settings: DatabaseSettings, data_dir: Path, url_file: Path | None = None) -> Self:
        """Return the database of ``settings``; it connects at the first use, so a service can start without it.

        ``url_file`` is the file of the url; it is read again for each new connection. Raises SettingsError for a wrong
        url, or without the embedded server's programs.
        """
        if settings.url is not None:
            return cls(settings, None, url_file)
        try:
            # Imported here, because it needs the extra "embedded".
            from infra.database.embedded import EmbeddedPostgres  # noqa: PLC0415
        except ModuleNotFoundError as error:
            raise SettingsError(
                f"without STANDGALE_DATABASE__URL Standgale runs its own PostgreSQL, which needs {error.name!r}: "
                f"{install_extra('embedded')}; or set STANDGALE_DATABASE__URL to a server of yours"
            ) from error
        return cls(settings, EmbeddedPostgres(data_dir))

    async def dsn(self) -> str:
        """Return the url with its password; the embedded server is started before."""
        if self._embedded is not None:
            return await self._embedded.start()
        assert self._settings.url is not None
        return self._url_in_file() or self._settings.url.get_secret_value()

    @asynccontextmanager
    async def acquire(self, *, writing: bool = False) -> AsyncIterator[Connection]:
        """Give a connection for the block; errors inside the block are translated at its end.

        - DatabaseUnavailableError: try again; it is unknown whether a transaction in progress was committed
        - DatabaseTooSlowError: the same, and fewer rows may be in time
        - RefusedError: login, privilege, or a missing table
        - RowRefusedError: a value
        - WriteRefusedError: a constraint or a trigger, when ``writing`` rows; otherwise that is a RefusedError

        Catch asyncpg's errors inside the block.
        """
        with self._translated(writing):
            pool = await self._connect_pool()
            async with pool.acquire(timeout=self._settings.command_timeout_s) as connection:
                try:
                    yield connection
                except TimeoutError as error:
                    raise too_slow_error(self._where, self._settings.command_timeout_s) from error
                except asyncpg.PostgresError as error:
                    if isinstance(translate(error, self._where), TransientError):
                        # The cause may be a value of this session since its start: read-only, a time limit, a schema.
                        await pool.expire_connections()
                    raise
                except asyncpg.InterfaceError as error:
                    # The same type is raised for misuse, where a retry does not help.
                    if not _is_lost(connection):
                        raise
                    raise ConnectionResetError(str(error)) from error

    async def check(self) -> None:
        """Run a query; raises the errors of :meth:`acquire`."""
        async with self.acquire() as connection:
            await connection.fetchval("SELECT 1")

    async def close(self) -> None:
        """Close all connections, and stop the embedded server unless others use it; may be called twice."""
        async with self._connecting:
            pool, self._pool = self._pool, None
        if pool is not None:
            try:
                # Not wait_for: before Python 3.12 it may swallow a cancellation.
                async with asyncio.timeout(min(_CLOSE_TIMEOUT_S, self._settings.command_timeout_s)):
                    await pool.close()
            except TimeoutError:
                pool.terminate()
        if self._embedded is not None:
            await self._embedded.stop()

    async def _connect_pool(self) -> asyncpg.Pool[asyncpg.Record]:
        if self._embedded is not None:
            # Cheap while it runs; starts it again after a crash.
            await self._embedded.start()
        async with self._connecting:
            if self._pool is None:
                timeout_s = self._settings.command_timeout_s
                self._pool = await asyncpg.create_pool(
                    connect=self._connect,
                    min_size=self._settings.pool_min,
                    max_size=self._settings.pool_max,
                    timeout=timeout_s,
                    command_timeout=timeout_s,
                    server_settings={"application_name": "standgale", "timezone": "UTC"},
                )
            return self._pool

    async def _connect(self, *_: object, **how: Any) -> asyncpg.Connection[asyncpg.Record]:
        """Open a connection of the pool with the present url, which may have changed since the pool was made."""
        try:
            return await asyncpg.connect(await self.dsn(), **how)
        except asyncpg.InterfaceError as error:
            raise refused_login_error(self._where, error) from error

    def _url_in_file(self) -> str | None:
        """Return the url that is now in its file; None without such a file, or while it has no valid url."""
        url = None if self._url_file is None else read_secret(self._url_file)
        if not url:
            return None
        try:
            address(url)
        except SettingsError:
            return None
        add_secrets_to_mask(secrets_in(url))
        return url

    @contextmanager
    def _translated(self, writing: bool) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            meaning = translate(error, self._where)
            if meaning is None:
                raise
            if isinstance(meaning, WriteRefusedError) and not writing:
                # No row is written, so the server is the cause, until a person acts.
                raise RefusedError(f"{meaning}; it is tried again without a restart") from error
            raise meaning from error


def _is_lost(connection: Connection) -> bool:
    try:
        return connection.is_closed()
    except asyncpg.InterfaceError:
        # The pool has taken the connection back, as it does when the server closes it.
        return True


def address(dsn: str) -> str:
    """Return ``host:port/database`` of ``dsn``, without user and password. Raises SettingsError for a wrong dsn."""
    try:
        parts = urlsplit(dsn)
        host, port = parts.hostname, parts.port
    except ValueError:
        # Not "from": the cause's text may quote the password.
        raise SettingsError(_URL_SHAPE) from None
    if parts.scheme not in {"postgresql", "postgres"} or not parts.path.strip("/"):
        raise SettingsError(_URL_SHAPE)
    host = host or parse_qs(parts.query).get("host", ["localhost"])[0]
    return f"{host}{f':{port}' if port else ''}{parts.path}"


_URL_SHAPE = (
    "STANDGALE_DATABASE__URL (not shown: it holds a password) takes postgresql://user:password@host:port/database"
)
