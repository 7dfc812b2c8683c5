"""A deadline that every sign of progress moves on: for transfers that may take hours, but not stand still."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress


@asynccontextmanager
async def progress_deadline(seconds: float) -> AsyncIterator[Callable[[], None]]:
    """Raise TimeoutError when nothing moves for ``seconds``. Call what this yields, from any thread, when it does."""
    loop = asyncio.get_running_loop()

    def on_progress() -> None:
        with suppress(RuntimeError):  # the deadline has just passed, or the transfer has ended
            deadline.reschedule(loop.time() + seconds)

    async with asyncio.timeout(seconds) as deadline:
        yield lambda: _soon(loop, on_progress)


def _soon(loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
    with suppress(RuntimeError):  # a thread that was left behind, after the loop was closed
        loop.call_soon_threadsafe(call)
