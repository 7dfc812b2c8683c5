"""Gives a request a connection to the database for a limited time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from console.parts import ConsoleParts
from infra.database.pool import Connection
from infra.errors import DatabaseUnavailableError


@asynccontextmanager
async def request_connection(parts: ConsoleParts, *, writing: bool = False) -> AsyncIterator[Connection]:
    """Give a connection for the block, which may take ``console.database_timeout_s``.

    Raises DatabaseUnavailableError after that, and the errors of :meth:`infra.database.pool.Database.acquire`.
    """
    timeout_s = parts.settings.database_timeout_s
    try:
        async with asyncio.timeout(timeout_s), parts.database.acquire(writing=writing) as connection:
            yield connection
    except TimeoutError as error:
        raise DatabaseUnavailableError(
            f"the database did not answer within {timeout_s:g} s (console.database_timeout_s)"
        ) from error
