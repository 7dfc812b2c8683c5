"""Starts and stops the Faust application; one that does not stop in time is cut off from Kafka."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from infra.failure.retry import StoppedError

logger = logging.getLogger(__name__)

_START_S = 120.0
_STOP_S = 6.0
_CUT_S = 1.0
_MAIN_OF_THREAD = "ServiceThread._serve"


class FaustStuckError(Exception):
    """Faust does not go on, and says no error."""


@asynccontextmanager
async def running(app: Any, failed: asyncio.Future[None], stop: asyncio.Event) -> AsyncIterator[None]:
    """Start ``app``, and stop it after the block. Raises StoppedError when ``stop`` is set before it has started."""
    start = asyncio.ensure_future(app.start())
    stopped = asyncio.ensure_future(stop.wait())
    try:
        done, _ = await asyncio.wait({start, stopped, failed}, timeout=_START_S, return_when=asyncio.FIRST_COMPLETED)
        if not done:
            raise FaustStuckError(f"Faust did not start within {_START_S:g} s")
        if stopped in done:
            raise StoppedError("Faust is not started: the process stops")
        await (start if start in done else failed)
        yield
    finally:
        stopped.cancel()
        start.cancel()
        await _stop(app)


async def _stop(app: Any) -> None:
    # A frozen broker never answers what Faust asks at its end; nothing is lost without the answer.
    # Not wait_for: Faust swallows the cancellation, and goes on with its next step.
    stopping = asyncio.ensure_future(app.stop())
    done, _ = await asyncio.wait({stopping}, timeout=_STOP_S)
    if not done:
        logger.warning("Faust did not stop within %g s, so it is cut off from Kafka", _STOP_S)
        _cut(app)
        done, _ = await asyncio.wait({stopping}, timeout=_CUT_S)
    if done:
        await stopping
    else:
        stopping.add_done_callback(_log_late_end)


def _cut(app: Any) -> None:
    """End what sends changes of the table, and the membership in the group.

    Otherwise old values would be written over those of the next application as soon as the broker answers again, and
    the group would wait for a member that is gone.
    """
    producer = app.producer._producer
    if producer is not None:
        producer._sender.sender_task.cancel()
        producer._message_accumulator.fail_all(FaustStuckError("Faust is cut off from Kafka"))
    if app._consumer is not None and app._consumer._thread.thread_loop.is_running():
        thread = app._consumer._thread
        thread.thread_loop.call_soon_threadsafe(_cut_consumer, thread)


def _cut_consumer(thread: Any) -> None:
    """Cancel what keeps ``thread`` in the group, and what it waits for; then it ends by itself. To be called in it."""
    for task in asyncio.all_tasks():
        if getattr(task.get_coro(), "__qualname__", "") != _MAIN_OF_THREAD:
            task.cancel()
    if thread._consumer is not None:
        thread.closing = asyncio.ensure_future(thread._consumer._client.close())


def _log_late_end(stopping: asyncio.Future[None]) -> None:
    if not stopping.cancelled() and stopping.exception() is not None:
        logger.warning("Faust, cut off from Kafka, ended with an error", exc_info=stopping.exception())
