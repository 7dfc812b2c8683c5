"""Runs generators that block in threads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from itertools import islice
from typing import TypeVar

T = TypeVar("T")


async def in_threads(values: Iterator[T], at_once: int) -> AsyncIterator[T]:
    """Yield ``values``, of which ``at_once`` are taken in a thread and kept in memory; close them at the end."""
    running: asyncio.Future[list[T]] | None = None
    try:
        while True:
            running = asyncio.ensure_future(asyncio.to_thread(_take, values, at_once))
            # The thread cannot be cancelled, and a generator cannot be closed while it runs.
            chunk = await asyncio.shield(running)
            if not chunk:
                return
            for value in chunk:
                yield value
    finally:
        if running is not None and not running.done():
            with suppress(Exception):
                await running
        close = getattr(values, "close", None)
        if close is not None:
            await asyncio.to_thread(close)


def _take(values: Iterator[T], count: int) -> list[T]:
    return list(islice(values, count))
