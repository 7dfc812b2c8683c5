"""Looks up hosts in threads that the end of the process does not wait for.

A name server that does not answer holds a thread for up to a minute. Python waits at its end for the threads of its own
pools, and the event loop for those of its own look-ups; a thread of this pool ends with the process.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import TypeVar

T = TypeVar("T")
_Call = Callable[[], None]


class LookUpThreads:
    """Runs calls in at most ``most`` threads; a call that waits for a thread and is cancelled is never made."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._started = 0
        self._waiting: SimpleQueue[_Call] = SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._lock = threading.Lock()

    async def run(self, call: Callable[..., T], *arguments: object) -> T:
        """Return what ``call`` returns, or raise its error."""
        result: Future[T] = Future()
        self._waiting.put(lambda: _make(result, call, arguments))
        self._start_thread()
        return await asyncio.wrap_future(result)

    def _start_thread(self) -> None:
        if self._idle.acquire(blocking=False):
            return
        with self._lock:
            if self._started == self._most:
                return
            self._started += 1
            name = f"look-ups-{self._started}"
        threading.Thread(target=self._serve, name=name, daemon=True).start()

    def _serve(self) -> None:
        while True:
            self._waiting.get()()
            self._idle.release()


def _make(result: Future[T], call: Callable[..., T], arguments: tuple[object, ...]) -> None:
    if not result.set_running_or_notify_cancel():
        return
    try:
        found = call(*arguments)
    except Exception as error:  # noqa: BLE001 (the caller gets it)
        result.set_exception(error)
    else:
        result.set_result(found)
