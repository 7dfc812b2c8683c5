"""Collects the frames that wait to be written into a folder, and writes those that wait together as one group."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass

from infra.errors import StoreUnavailableError
from infra.storage.frames.folder_group import FrameFile, FrameGroups

# While one waits for the disk, another collects; and one that writes a very large frame holds up no others.
_THREADS = 2
_GROUP_FRAMES = 64
_GROUP_BYTES = 16 * 1024 * 1024

logger = logging.getLogger(__name__)


@dataclass(eq=False, slots=True)
class _Waiting:
    """Is a frame whose caller waits."""

    frame: FrameFile
    done: asyncio.Future[None]

    def finish(self) -> None:
        """Wake the caller; runs on its event loop."""
        # Kept here, an error would keep itself, and with its traceback the bytes, until Python collects cycles.
        error, self.frame.error, self.frame.data = self.frame.error, None, b""
        if self.done.done():
            return
        if error is None:
            self.done.set_result(None)
        else:
            self.done.set_exception(error)


class GroupWriter:
    """Writes frames in a few threads, which start with the first frame.

    The frames that came while a group was being written are the next group: the busier the store, the larger are the
    groups, and the fewer syncs there are per frame. A frame that comes alone is written at once.
    """

    def __init__(self, groups: FrameGroups, others: Executor) -> None:
        """``others`` writes those frames of a group for whose folder another process holds the lock."""
        self._groups = groups
        self._others = others
        self._queue: deque[_Waiting] = deque()
        self._wake = threading.Condition()
        self._threads: list[threading.Thread] = []
        self._closed = False

    async def write(self, frame: FrameFile) -> None:
        """Store ``frame`` durably. Raises OSError, or StoreUnavailableError.

        When the caller is cancelled while the frame waits, it is not written.
        """
        waiting = _Waiting(frame, asyncio.get_running_loop().create_future())
        with self._wake:
            if self._closed:
                raise StoreUnavailableError("the frame store was closed by this process")
            self._queue.append(waiting)
            if len(self._threads) < _THREADS:
                self._start_thread()
            self._wake.notify()
        try:
            await waiting.done
        except asyncio.CancelledError:
            # Its bytes are not kept any longer than the caller's place is reserved.
            with self._wake, suppress(ValueError):
                self._queue.remove(waiting)
            raise
        finally:
            # It has the error, whose traceback has this call.
            del waiting

    def close(self) -> None:
        """Write what waits, then end the threads; may be called twice."""
        with self._wake:
            self._closed = True
            self._wake.notify_all()
        for thread in self._threads:
            thread.join()

    def _start_thread(self) -> None:
        thread = threading.Thread(target=self._serve, name=f"frames-writer-{len(self._threads)}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _serve(self) -> None:
        while group := self._next_group():
            self._store(group)
            # Until the next group comes, this thread keeps nothing of it.
            group.clear()

    def _next_group(self) -> list[_Waiting]:
        """Wait for the next group; it is empty when the store was closed, and nothing waits."""
        group: list[_Waiting] = []
        size_bytes = 0
        with self._wake:
            while not self._queue:
                if self._closed:
                    return group
                self._wake.wait()
            while self._queue and len(group) < _GROUP_FRAMES and size_bytes < _GROUP_BYTES:
                group.append(self._queue.popleft())
                size_bytes += group[-1].frame.size_bytes
        return group

    def _store(self, group: Sequence[_Waiting], *, wait: bool = False) -> None:
        left: list[FrameFile] = []
        try:
            left = self._groups.store([waiting.frame for waiting in group], wait=wait)
        except Exception as error:
            # A defect in this code. It must not end the thread, because all callers would wait forever.
            logger.exception("a group of %d frames could not be stored", len(group))
            for waiting in group:
                waiting.frame.error = StoreUnavailableError(f"unexpected error {error!r}; see the log")
        if left:
            later = [waiting for waiting in group if waiting.frame in left]
            group = [waiting for waiting in group if waiting.frame not in left]
            self._others.submit(self._store, later, wait=True)
        _finish(group)


def _finish(group: Sequence[_Waiting]) -> None:
    """Wake the callers of ``group``: one call for all of a loop, because waking a loop costs more than they do."""
    for loop in {waiting.done.get_loop() for waiting in group}:
        mine = [waiting for waiting in group if waiting.done.get_loop() is loop]
        with suppress(RuntimeError):  # a closed loop has no callers
            loop.call_soon_threadsafe(_finish_all, mine)


def _finish_all(group: Sequence[_Waiting]) -> None:
    for waiting in group:
        waiting.finish()
