"""Migrates a database's schema up or down to a revision; several processes may do it at once.

The functions block and need a thread without a running event loop: from one, call them by ``asyncio.to_thread``.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import asyncpg
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from infra.database.error_translation import translate
from infra.database.pool import address
from infra.errors import SettingsError

T = TypeVar("T")

_log = logging.getLogger(__name__)

_CONNECT_TIMEOUT_S = 30.0
# Alembic keeps its state in module globals, so a process runs one migration at a time. Between processes the advisory
# lock in migrations/env.py does the same.
_ALEMBIC = threading.Lock()


def migrate_up(dsn: str, revision: str = "head") -> None:
    """Migrate the schema up to ``revision``, all steps in one transaction; do nothing when it has that revision.

    Raises DatabaseUnavailableError, RefusedError (credentials, privileges), SettingsError (an unknown revision).
    """
    before, after = _run(dsn, lambda connection: _upgrade(connection, revision))
    if before != after:
        _log.info("migrated the schema of the database", extra={"before": before, "after": after})


def migrate_down(dsn: str, revision: str) -> None:
    """Migrate the schema down to ``revision`` (``base``: to nothing); the content of removed tables is lost.

    Errors as for :func:`migrate_up`.
    """
    _run(dsn, lambda connection: command.downgrade(_config(connection), revision))


def current_revision(dsn: str) -> str | None:
    """Return the schema's revision, or None when there is no schema yet."""
    return _run(dsn, lambda connection: MigrationContext.configure(connection).get_current_revision())


def newest_revision() -> str | None:
    """Return the newest revision that this version of Standgale has."""
    return ScriptDirectory.from_config(_config(None)).get_current_head()


def _upgrade(connection: Connection, revision: str) -> tuple[str | None, str | None]:
    """Migrate; return the schema's revision before and after it."""
    before = MigrationContext.configure(connection).get_current_revision()
    command.upgrade(_config(connection), revision)
    return before, MigrationContext.configure(connection).get_current_revision()


def _config(connection: Connection | None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def _run(dsn: str, work: Callable[[Connection], T]) -> T:
    where = address(dsn)
    with _ALEMBIC:
        return asyncio.run(_run_connected(dsn, where, work))


async def _run_connected(dsn: str, where: str, work: Callable[[Connection], T]) -> T:
    engine = create_async_engine(
        "postgresql+asyncpg://",
        # asyncpg reads the DSN itself, because SQLAlchemy's form of it lacks some of its options.
        async_creator=lambda: asyncpg.connect(dsn, timeout=_CONNECT_TIMEOUT_S),
        poolclass=NullPool,
    )
    try:
        async with engine.connect() as connection:
            result = await connection.run_sync(work)
            await connection.commit()
            return result
    except CommandError as error:
        raise SettingsError(
            f"the database at {where} cannot be migrated: {error}; known revisions are base to "
            f"{newest_revision()}, and a schema that is newer than this Standgale needs the newer Standgale"
        ) from error
    except Exception as error:
        meaning = translate(_cause(error), where)
        if meaning is None:
            raise
        raise meaning from error
    finally:
        await engine.dispose()


def _cause(error: BaseException) -> BaseException:
    """Return the driver's error, without the layers that SQLAlchemy puts around it."""
    if isinstance(error, DBAPIError) and error.orig is not None:
        return error.orig.__cause__ or error.orig
    return error
