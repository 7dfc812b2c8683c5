"""Sets events at SIGTERM and SIGINT, and makes tasks that wait for an event."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

logger = logging.getLogger(__name__)


@contextmanager
def stop_signals(stopping: asyncio.Event, hurry: asyncio.Event) -> Iterator[None]:
    """Set ``stopping`` at the first SIGTERM or SIGINT inside the block, and ``hurry`` at each further one."""
    loop = asyncio.get_running_loop()

    def caught(name: str) -> None:
        if stopping.is_set():
            logger.warning("%s again: cancelling the work in progress", name)
            hurry.set()
        else:
            logger.info("%s: draining", name)
            stopping.set()

    numbers = (signal.SIGTERM, signal.SIGINT)
    for number in numbers:
        loop.add_signal_handler(number, caught, number.name)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


@asynccontextmanager
async def waiting_for(event: asyncio.Event) -> AsyncIterator[asyncio.Task[bool]]:
    """Give a task that ends when ``event`` is set; it is cancelled at the end of the block."""
    task = asyncio.create_task(event.wait())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait({task})
