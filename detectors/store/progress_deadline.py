"""Limits how long a transfer may make no progress; the transfer itself may take hours."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress


@asynccontextmanager
async def progress_deadline(seconds: float) -> AsyncIterator[Callable[[], None]]:
    """Raise TimeoutError after ``seconds`` without progress; each call of the yielded function is progress.

    Any thread may call it.
    """
    loop = asyncio.get_running_loop()

    def on_progress() -> None:
        with suppress(RuntimeError):  # the deadline has just passed, or the transfer has ended
            deadline.reschedule(loop.time() + seconds)

    async with asyncio.timeout(seconds) as deadline:
        yield lambda: _call_soon(loop, on_progress)


def _call_soon(loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
    with suppress(RuntimeError):  # a thread that still runs after the loop was closed
        loop.call_soon_threadsafe(call)
