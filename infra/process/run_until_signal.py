"""Runs asynchronous work that Ctrl-C and SIGTERM cancel, so that it closes what it opened before the process ends."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
import time
from collections.abc import Callable, Coroutine
from typing import TypeVar

from infra.process.ending import end_now
from infra.process.stopping import REPEAT_S, signal_handlers

logger = logging.getLogger(__name__)
T = TypeVar("T")

# How long the work may take to close what it opened, before the process ends without it.
_CLOSE_TIMEOUT_S = 60.0


def run_until_signal(
    work: Coroutine[None, None, T], loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None
) -> T:
    """Run ``work`` in a new event loop and return its result.

    The first SIGTERM or SIGINT cancels it, and SystemExit is raised once it has ended, with the status that a shell
    gives to that signal. A further signal, a second later or more, ends the process at once. Work that handles the
    signals itself (:func:`infra.process.stopping.signal_handlers`) is not cancelled meanwhile.
    """
    stopping = _Stopping()
    try:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            return runner.run(_stoppable(work, stopping))
    except asyncio.CancelledError:
        if stopping.number is None:
            raise
    except Exception as error:
        # What fails because it was cancelled is not the user's concern, but must not be lost.
        if stopping.number is None:
            raise
        logger.warning("while stopping: %s: %s", type(error).__name__, error)
    raise SystemExit(128 + stopping.number)


class _Stopping:
    """Remembers which signal came first, and when."""

    number: int | None = None
    since: float = 0.0


async def _stoppable(work: Coroutine[None, None, T], stopping: _Stopping) -> T:
    task = asyncio.current_task()
    assert task is not None

    def caught(number: signal.Signals) -> None:
        if stopping.number is None:
            stopping.number, stopping.since = number, time.monotonic()
            late = threading.Timer(_CLOSE_TIMEOUT_S, end_now, (number,))
            late.daemon = True
            late.start()
            task.cancel()
        elif time.monotonic() - stopping.since > REPEAT_S:
            end_now(number)

    if threading.current_thread() is not threading.main_thread():  # signals go to the main thread only
        return await work
    with signal_handlers(caught):
        return await work
