"""Replays the frames of a video file."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from pathlib import Path

from infra.errors import SettingsError
from ingest.replay.errors import SourceError
from ingest.replay.port import Content, Item, Picture, Totals, refused
from ingest.replay.sources.threads import in_threads
from ingest.settings import VideoSettings
from ingest.video.counts import VideoCounts
from ingest.video.errors import VideoError
from ingest.video.options import VideoSource
from ingest.video.port import VideoFrame
from ingest.video.reading import SourceReader, SourceState
from ingest.video.recording import open_recording


class VideoFileSource:
    """Reads one video file from its begin to its end."""

    def __init__(self, path: Path, video: VideoSource, settings: VideoSettings) -> None:
        """Raise OSError when there is no such file."""
        self._path = path.absolute()
        self._video = video
        self._settings = settings
        found = self._path.stat()
        self._state = found.st_size, found.st_mtime_ns

    @property
    def identity(self) -> Mapping[str, str | int | None]:
        """Path, size and time of the file, and which frames are taken."""
        size, written = self._state
        return {
            "kind": "video",
            "address": str(self._path),
            "size": size,
            "written": written,
            "every": self._video.selection.every,
            "start": None if self._video.start is None else self._video.start.isoformat(),
        }

    async def items(self, after: str | None) -> AsyncGenerator[Item, None]:
        """Yield the frames with their pictures; a position is the frame's number."""
        least = int(after) if after else -1
        state = SourceState()
        reader = SourceReader(self._video, self._settings, state)
        try:
            async for frame in in_threads(reader.frames(), 1):
                if frame.number > least:
                    yield Item(f"{frame.number:012d}", f"{frame.source} {frame.number}", _loader(frame))
        except VideoError as error:
            raise SourceError(str(error)) from error
        finally:
            reader.close()
        left_out = _left_out(state.counts)
        if left_out is not None and state.number > least:
            yield refused(f"{state.number:012d}", self._path.name, "FRAMES_LEFT_OUT", left_out)

    async def count(self) -> Totals | None:
        """Return how many frames the file says that it has; None where it does not."""
        try:
            frames = await asyncio.to_thread(self._frames)
        except (VideoError, SettingsError):
            return None
        return None if frames is None else Totals(-(-frames // self._video.selection.every))

    async def close(self) -> None:
        """Do nothing: the file is open only while it is read."""

    def _frames(self) -> int | None:
        with open_recording(self._path, self._settings, "video.max_pixels") as recording:
            return recording.frames


def _left_out(counts: VideoCounts) -> str | None:
    """Return which frames of the file cannot be given; None when all of them were."""
    parts = {
        "frames with missing parts": counts.damaged,
        "packets that cannot be decoded": counts.broken_packets,
        "frames that are not there": counts.missing,
        "frames with more than video.max_pixels": counts.too_large,
    }
    texts = [f"{count:,} {what}" for what, count in parts.items() if count]
    return f"the video is damaged, and this was left out: {', '.join(texts)}" if texts else None


def _loader(frame: VideoFrame) -> Callable[[], Awaitable[Content]]:
    picture = Picture(frame.image, None, captured_at=frame.captured_at, camera=frame.camera, video=frame.position)

    async def load() -> Content:
        return picture

    return load
