"""Runs transactions that a frozen process cannot keep open."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from infra.database.pool import Connection

IDLE_LIMIT_S = 30.0
"""After so long without a statement the server undoes a transaction, and ends its connection."""


@asynccontextmanager
async def transaction(connection: Connection, idle_limit_s: float | None = None) -> AsyncIterator[None]:
    """Run the block in a transaction that the server undoes when nothing comes for ``idle_limit_s``, else IDLE_LIMIT_S.

    A process that is frozen (SIGSTOP, a suspended machine) would keep its rows locked, and all others would wait for
    it. When it goes on, its next statement fails as one on a lost connection does.
    """
    limit_ms = (idle_limit_s or IDLE_LIMIT_S) * 1000
    async with connection.transaction():
        await connection.execute(f"SET LOCAL idle_in_transaction_session_timeout = '{limit_ms:.0f}ms'")
        yield
