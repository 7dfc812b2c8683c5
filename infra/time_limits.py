"""Limits the time of blocks that run for each frame: all limits of the same length share one timer."""

from __future__ import annotations

import asyncio
import threading
from types import TracebackType


class TimeLimit:
    """Is one block whose time is limited, as with asyncio.timeout; see :func:`time_limit`."""

    __slots__ = ("_cancelling", "_expired", "_line", "_task", "ends_at")

    def __init__(self, line: _Line) -> None:
        self._line = line
        self._expired = False
        self.ends_at = 0.0
        """On the clock of the event loop"""

    def __enter__(self) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("the time of a block can be limited inside a task only")
        self._task, self._cancelling = task, task.cancelling()
        self._line.begin(self)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._line.end(self)
        if self._expired and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def expire(self) -> None:
        """Cancel the task: the time of the block is over."""
        self._expired = True
        self._task.cancel()


class _Line:
    """Holds the blocks with one time limit, in the order in which they began, which is that of their ends."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._running: dict[TimeLimit, None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def begin(self, block: TimeLimit) -> None:
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            # The loop before is closed: its timers do not run any more.
            self._loop, self._timer = loop, None
            self._running.clear()
        block.ends_at = loop.time() + self._seconds
        self._running[block] = None
        if self._timer is None:
            self._timer = loop.call_at(block.ends_at, self._end_late, loop)

    def end(self, block: TimeLimit) -> None:
        self._running.pop(block, None)

    def _end_late(self, loop: asyncio.AbstractEventLoop) -> None:
        """Expire what is late, and wait for the oldest of the others."""
        self._timer = None
        now = loop.time()
        while (oldest := next(iter(self._running), None)) is not None:
            if oldest.ends_at > now:
                self._timer = loop.call_at(oldest.ends_at, self._end_late, loop)
                return
            del self._running[oldest]
            oldest.expire()


class _Lines(threading.local):
    """Holds the lines of one thread, by seconds: one event loop runs in a thread, and settings have few limits."""

    def __init__(self) -> None:
        self.by_seconds: dict[float, _Line] = {}


_lines = _Lines()


def time_limit(seconds: float) -> TimeLimit:
    """Return a context manager that raises TimeoutError when its block takes longer than ``seconds``.

    It costs a frame no timer of its own. For limits from settings; each length is remembered for good.
    """
    line = _lines.by_seconds.get(seconds)
    if line is None:
        line = _lines.by_seconds[seconds] = _Line(seconds)
    return TimeLimit(line)
