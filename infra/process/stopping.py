"""Sets events at SIGTERM and SIGINT, and makes tasks that wait for an event."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress

from infra.process.ending import STOP_SIGNALS

logger = logging.getLogger(__name__)

REPEAT_S = 1.0
"""Signals within this time after the first are the same request: `timeout` sends two, and a shell its own as well."""

OnSignal = Callable[[signal.Signals], None]
_installed: list[OnSignal] = []


@contextmanager
def signal_handlers(on_signal: OnSignal, *, for_good: bool = False) -> Iterator[None]:
    """Call ``on_signal`` in the event loop at each SIGTERM and SIGINT inside the block.

    A block inside another one takes the signals over, and gives them back at its end; ``for_good``: keeps them until
    the outer one ends, too.
    """
    loop = asyncio.get_running_loop()
    former = {number: signal.getsignal(number) for number in STOP_SIGNALS}

    def route(handler: OnSignal) -> None:
        for number in STOP_SIGNALS:
            loop.add_signal_handler(number, handler, number)

    route(on_signal)
    _installed.append(on_signal)
    try:
        yield
    finally:
        _installed.pop()
        if _installed:
            _installed[-1] = on_signal if for_good else _installed[-1]
            route(_installed[-1])
        else:
            for number, handler in former.items():
                loop.remove_signal_handler(number)
                if handler is not None:
                    signal.signal(number, handler)


@contextmanager
def stop_signals(stopping: asyncio.Event, hurry: asyncio.Event) -> Iterator[None]:
    """Set ``stopping`` at the first SIGTERM or SIGINT inside the block, and ``hurry`` at a further one, a second later.

    What stopped is closed after the block, and signals must not cancel that: they still set these events then.
    """
    since = 0.0

    def caught(number: signal.Signals) -> None:
        nonlocal since
        if not stopping.is_set():
            logger.info("%s: draining", number.name)
            since = time.monotonic()
            stopping.set()
        elif time.monotonic() - since > REPEAT_S:
            logger.warning("%s again: cancelling the work in progress", number.name)
            hurry.set()

    with signal_handlers(caught, for_good=True):
        yield


def stop_at_end_of_input() -> None:
    """Send this process SIGTERM when its standard input ends, as it does when the process that started it is killed."""

    def wait_for_end() -> None:
        with suppress(OSError):
            while os.read(0, 4096):
                pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait_for_end, name="end-of-input", daemon=True).start()


@asynccontextmanager
async def waiting_for(event: asyncio.Event) -> AsyncIterator[asyncio.Task[bool]]:
    """Give a task that ends when ``event`` is set; it is cancelled at the end of the block."""
    task = asyncio.create_task(event.wait())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait({task})
