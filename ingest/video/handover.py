"""Hands frames from the thread that decodes them to the event loop, at most a few at a time."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from traceback import clear_frames

from ingest.video.port import VideoFrame


@dataclass(frozen=True, slots=True)
class _End:
    """Says that the thread has ended, and with which error."""

    error: Exception | None


class Handover:
    """Runs an iterator of frames in a thread of its own; the loop takes them one by one."""

    def __init__(self, frames: Callable[[], Iterator[VideoFrame]], places: int) -> None:
        """Keep at most ``places`` frames; the thread waits for a free one."""
        self._frames = frames
        self._places = threading.Semaphore(places)
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
                self._places.acquire()
                if self._stopped.is_set() or not self._put(frame):
                    break
        except Exception as raised:  # noqa: BLE001 (raised again in the loop, by next())
            error = raised
        finally:
            # Closes what the iterator has open, in this thread.
            getattr(frames, "close", lambda: None)()
            _forget_variables(error)
            self._put(_End(error))

    def _put(self, item: VideoFrame | _End) -> bool:
        try:
            self._loop.call_soon_threadsafe(self._queue.put_nowait, item)
        except RuntimeError:
            # The loop is closed: the process ends, and nobody asks for frames any more.
            return False
        return True


def _forget_variables(error: BaseException | None) -> None:
    """Clear what the functions that ``error`` went through had in variables, such as FFmpeg's decoder."""
    while error is not None:
        clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__
