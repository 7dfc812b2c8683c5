"""Runs work in daemon threads, so that an engine that hangs cannot keep the process from ending."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TypeVar, cast

from detectors.worker.pipeline.ranked_queue import Rank, RankedQueue

logger = logging.getLogger(__name__)
T = TypeVar("T")

# The work takes milliseconds, and a frame has several pieces of it.
_LONGEST_HOLD_S = 0.2


class DaemonPool:
    """Runs functions in daemon threads, in the order in which they were submitted; live ones first."""

    def __init__(self, count: int, name: str) -> None:
        self._work: RankedQueue[Callable[[], None] | None] = RankedQueue(longest_hold_s=_LONGEST_HOLD_S)
        self._threads = [
            threading.Thread(target=self._run, name=f"{name}-{number}", daemon=True) for number in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, work: Callable[[], None], rank: Rank = Rank.LIVE) -> None:
        """Run ``work`` in a thread; it must report its result itself."""
        self._work.put(work, rank)

    def hold_background(self, held: bool) -> None:
        """Begin or end to hold background work; what waited for some tenths of a second runs all the same."""
        self._work.hold_background(held)

    def close(self, timeout_s: float) -> bool:
        """Finish the submitted work and end the threads; return whether all have ended within ``timeout_s``."""
        for _ in self._threads:
            self._work.put(None, Rank.END)
        return all_ended(self._threads, timeout_s)

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            try:
                work()
            except Exception:
                logger.exception("work in a thread failed without reporting the error to its caller")


def all_ended(threads: Sequence[threading.Thread], timeout_s: float) -> bool:
    """Wait for ``threads``, at most ``timeout_s`` for all together; return whether all have ended."""
    deadline = time.monotonic() + timeout_s
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return not any(thread.is_alive() for thread in threads)


def start_in_daemon(work: Callable[[], T], name: str) -> tuple[asyncio.Future[T], threading.Thread]:
    """Run ``work`` in a daemon thread of its own; return the future of its result, and the thread.

    No pool waits for the thread when the event loop is closed; what it returns after that is dropped.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()
    context = contextvars.copy_context()

    def report(result: T | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(cast(T, result))

    def run() -> None:
        result: T | None = None
        failed: BaseException | None = None
        try:
            result = context.run(work)
        except BaseException as error:  # noqa: BLE001 (raised where the future is awaited)
            failed = error
        # A closed loop raises RuntimeError: nothing waits for the result.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(report, result, failed)

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    return future, thread
