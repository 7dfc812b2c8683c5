"""Threads that do not keep a process from ending: an engine that hangs would hold on to the pools of the library."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence

logger = logging.getLogger(__name__)


class DaemonPool:
    """Runs what it is given, in the order given, in some daemon threads."""

    def __init__(self, count: int, name: str) -> None:
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=self._run, name=f"{name}-{number}", daemon=True) for number in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, work: Callable[[], None]) -> None:
        """Have ``work`` done; it tells by itself what came of it."""
        self._work.put(work)

    def close(self, timeout_s: float) -> bool:
        """Take no more, do what there is; return whether all threads have ended within ``timeout_s``."""
        for _ in self._threads:
            self._work.put(None)
        return all_ended(self._threads, timeout_s)

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            try:
                work()
            except Exception:
                logger.exception("work in a thread failed, and its caller was not informed")


def all_ended(threads: Sequence[threading.Thread], timeout_s: float) -> bool:
    """Wait for ``threads``, at most ``timeout_s`` for all of them together; return whether none is left."""
    deadline = time.monotonic() + timeout_s
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return not any(thread.is_alive() for thread in threads)
