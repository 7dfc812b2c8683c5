"""Hands frames from the thread that decodes them to the event loop, at most a few at a time."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ingest.video.port import VideoFrame

OVERFLOW_S = 1.0
"""How long a camera's frame waits for a free place before it is left out."""


@dataclass(frozen=True, slots=True)
class _End:
    """Says that the thread has ended, and with which error."""

    error: Exception | None


class Handover:
    """Runs an iterator of frames in a thread of its own; the loop takes them one by one."""

    def __init__(
        self, frames: Callable[[], Iterator[VideoFrame]], places: int, *, overflow: Callable[[], bool]
    ) -> None:
        """Keep at most ``places`` frames.

        ``overflow`` is called in the thread for a frame that found no place for a second, and returns whether that
        frame is left out (a camera does not wait) or waits on (a recording does).
        """
        self._frames = frames
        self._places = threading.Semaphore(places)
        self._overflow = overflow
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[VideoFrame | _End] = asyncio.Queue()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="video", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    async def next(self) -> VideoFrame | None:
        """Return the next frame, or None at the end. Raises the error that ended the thread."""
        item = await self._queue.get()
        if isinstance(item, _End):
            # A second call gets the same.
            self._queue.put_nowait(item)
            if item.error is not None:
                raise item.error
            return None
        self._places.release()
        return item

    async def stop(self, timeout_s: float) -> bool:
        """Let the thread end at its next frame; return whether it ended in time. Its reader is to be closed first."""
        self._stopped.set()
        self._places.release()
        await asyncio.to_thread(self._thread.join, timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        error: Exception | None = None
        frames = self._frames()
        try:
            for frame in frames:
                if self._waited_for_place() and not self._put(frame):
                    break
                if self._stopped.is_set():
                    break
        except Exception as raised:  # noqa: BLE001 (raised again in the loop, by next())
            error = raised
        finally:
            # Closes what the iterator has open, in this thread.
            getattr(frames, "close", lambda: None)()
            self._put(_End(error))

    def _waited_for_place(self) -> bool:
        """Wait until a frame may be put; return False where it is left out, or the thread is to end."""
        while not self._stopped.is_set():
            if self._places.acquire(timeout=OVERFLOW_S):
                return not self._stopped.is_set()
            if self._overflow():
                return False
        return False

    def _put(self, item: VideoFrame | _End) -> bool:
        try:
            self._loop.call_soon_threadsafe(self._queue.put_nowait, item)
        except RuntimeError:
            # The loop is closed: the process ends, and nobody asks for frames any more.
            return False
        return True
