"""Forces a process to exit when hanging threads keep it alive.

A thread that hangs inside a driver cannot be stopped, and Python does not exit before all such threads end.
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
    """Exits the process when threads remain; threads that were there before this object was made do not count."""

    def __init__(self, leave: Callable[[int], None] = os._exit) -> None:
        """``leave`` ends the process at once, with the given status."""
        self._leave = leave
        self._known = set(threading.enumerate())
        self._timer: threading.Timer | None = None
        self._given_up: list[threading.Thread] = []

    def give_up(self, thread: threading.Thread) -> None:
        """Let ``finish`` exit at once, with its own status, if ``thread`` still runs then: its work is not needed."""
        self._given_up.append(thread)

    def exit_after(self, within_s: float) -> None:
        """Exit after ``within_s`` seconds, unless the process has ended or called ``finish`` by then."""
        if self._timer is None:
            self._timer = threading.Timer(within_s, self._exit_late, (within_s,))
            self._timer.daemon = True
            self._timer.start()

    def finish(self, status: int) -> None:
        """Exit soon with ``status`` if threads keep Python alive; call it when all work is done.

        Idle threads of a pool do not count: Python ends them after this.
        """
        self.cancel()
        if running := [thread.name for thread in self._given_up if thread.is_alive()]:
            # Python must not take its modules down below a library that still works in such a thread.
            logger.info("the process exits without waiting for %s", ", ".join(running))
            self._exit_now(status)
        if self._remaining_threads():
            timer = threading.Timer(_JOIN_S, self._exit_if_threads_remain, (status,))
            timer.daemon = True
            timer.start()

    def _remaining_threads(self) -> list[str]:
        """Return the names of the threads that Python waits for."""
        new = [thread for thread in threading.enumerate() if thread not in self._known and not thread.daemon]
        return [thread.name for thread in new if thread.is_alive()]

    def _exit_if_threads_remain(self, status: int) -> None:
        if names := self._remaining_threads():
            logger.error("the process exits although threads have not ended: %s", ", ".join(names))
            self._exit_now(status or _FAILED)

    def cancel(self) -> None:
        """Stop the timer of ``exit_after``."""
        if self._timer is not None:
            self._timer.cancel()

    def _exit_late(self, within_s: float) -> None:
        names = sorted(thread.name for thread in threading.enumerate() if thread not in self._known)
        logger.error("the process did not end within %g s and is ended; its threads: %s", within_s, ", ".join(names))
        self._exit_now(_FAILED)

    def _exit_now(self, status: int) -> None:
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        self._leave(status)


@contextmanager
def forced_exit() -> Iterator[ForcedExit]:
    """Make ``force_exit_after`` work inside the block; outside of one it does nothing."""
    global _current  # noqa: PLW0603 (a process ends once)
    _current = ending = ForcedExit()
    try:
        yield ending
    finally:
        ending.cancel()
        _current = None


def force_exit_after(within_s: float) -> None:
    """Exit after ``within_s`` seconds unless the process has ended by then; only inside ``forced_exit``."""
    if _current is not None:
        _current.exit_after(within_s)


def give_up_thread(thread: threading.Thread) -> None:
    """Do not wait for ``thread``, a daemon, when the process ends; only inside ``forced_exit``."""
    if _current is not None:
        _current.give_up(thread)
