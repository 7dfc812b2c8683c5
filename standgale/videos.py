"""Opens video files for commands: `detect` and `demo`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from infra.errors import ImageCorruptError, SettingsError
from ingest.settings import VideoSettings
from ingest.video.errors import FramesTooLargeError, VideoError

if TYPE_CHECKING:
    from ingest.video.recording import RecordedFrame, Recording

VIDEO_SUFFIXES = frozenset(
    (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".wmv", ".flv", ".3gp")
)


def is_video(path: Path) -> bool:
    """Return whether the name of ``path`` is that of a video."""
    return path.suffix.lower() in VIDEO_SUFFIXES


@dataclass(frozen=True, slots=True)
class Video:
    """Reads an open video."""

    recording: Recording

    @property
    def frames(self) -> int | None:
        """How many frames it says that it has; None where it does not."""
        return self.recording.frames

    @property
    def frames_per_s(self) -> float | None:
        """Its rate; None where it does not say one."""
        return self.recording.frames_per_s

    def read(self, every: int) -> Iterator[RecordedFrame]:
        """Yield every ``every``-th frame; one is in memory. Raises ImageCorruptError where the video ends early."""
        try:
            yield from self.recording.read(every)
        except VideoError as error:
            raise ImageCorruptError(str(error)) from error


@contextmanager
def open_video(path: Path, max_pixels: int) -> Iterator[Video]:
    """Open the video at ``path``, with frames of at most ``max_pixels``. Raises SettingsError if none can be read."""
    from ingest.video.recording import open_recording  # noqa: PLC0415 (numpy and PyAV, which most commands do without)

    with ExitStack() as stack:
        settings = VideoSettings(max_pixels=max_pixels)
        try:
            recording = stack.enter_context(open_recording(path, settings, "detector.max_pixels"))
        except FramesTooLargeError as error:
            raise SettingsError(str(error)) from error
        except VideoError as error:
            reason = str(error).removeprefix(f"{path.absolute()}: ")
            raise SettingsError(
                f"{path}: no frame of this video can be decoded: {reason}. Convert it with: "
                f"ffmpeg -i {path.name} -c:v libx264 converted.mp4"
            ) from error
        yield Video(recording)
