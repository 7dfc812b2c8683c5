"""Ends a process that does not end by itself.

A thread that hangs inside a driver can't be stopped, and Python does not end before such threads do.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

logger = logging.getLogger(__name__)

_JOIN_S = 2.0
_FAILED = 1

_current: ForcedExit | None = None


class ForcedExit:
    """The end of one process; only threads that began after this was made are looked at."""

    def __init__(self, leave: Callable[[int], None] = os._exit) -> None:
        """``leave``: ends the process at once, with that status."""
        self._leave = leave
        self._known = set(threading.enumerate())
        self._timer: threading.Timer | None = None

    def exit_after(self, within_s: float) -> None:
        """End the process if it has not ended, or come to ``finish``, ``within_s`` from now."""
        if self._timer is None:
            self._timer = threading.Timer(within_s, self._exit_late, (within_s,))
            self._timer.daemon = True
            self._timer.start()

    def finish(self, status: int) -> None:
        """Nothing is left to do. End the process soon with ``status`` if threads keep Python from ending it.

        Idle threads of a pool do not: Python ends them itself, after this.
        """
        self.cancel()
        if self._remaining_threads():
            timer = threading.Timer(_JOIN_S, self._exit_if_threads_remain, (status,))
            timer.daemon = True
            timer.start()

    def _remaining_threads(self) -> list[str]:
        """The names of the threads that Python waits for."""
        new = [thread for thread in threading.enumerate() if thread not in self._known and not thread.daemon]
        return [thread.name for thread in new if thread.is_alive()]

    def _exit_if_threads_remain(self, status: int) -> None:
        if names := self._remaining_threads():
            logger.error("threads do not end and are left behind: %s", ", ".join(names))
            self._exit_now(status or _FAILED)

    def cancel(self) -> None:
        """Expect nothing any more."""
        if self._timer is not None:
            self._timer.cancel()

    def _exit_late(self, within_s: float) -> None:
        names = sorted(thread.name for thread in threading.enumerate() if thread not in self._known)
        logger.error("the process does not end within %g s and is ended; its threads: %s", within_s, ", ".join(names))
        self._exit_now(_FAILED)

    def _exit_now(self, status: int) -> None:
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        self._leave(status)


@contextmanager
def forced_exit() -> Iterator[ForcedExit]:
    """Inside the block ``force_exit_after`` is about this process; without one it does nothing."""
    global _current  # noqa: PLW0603 (a process ends once)
    _current = ending = ForcedExit()
    try:
        yield ending
    finally:
        ending.cancel()
        _current = None


def force_exit_after(within_s: float) -> None:
    """End the process when it has not ended by itself ``within_s`` from now, where somebody looks after its end."""
    if _current is not None:
        _current.exit_after(within_s)
