"""Reads the frames of a video file one by one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2

from detectors.geometry.arrays import ImageArray
from infra.errors import ImageCorruptError, SettingsError
from infra.regular_files import open_regular

VIDEO_SUFFIXES = frozenset(
    (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".wmv", ".flv", ".3gp")
)


def is_video(path: Path) -> bool:
    """Return whether the name of ``path`` is that of a video."""
    return path.suffix.lower() in VIDEO_SUFFIXES


@dataclass(frozen=True, slots=True)
class VideoFrame:
    """Holds one decoded frame."""

    number: int
    """From 0, as the video counts them"""
    time_s: float
    image: ImageArray
    """uint8 (h, w, 3) BGR"""


@dataclass(frozen=True, slots=True)
class Video:
    """Reads an open video. ``frames``: how many it says it has, None where unknown."""

    path: Path
    frames: int | None
    frames_per_s: float
    _capture: cv2.VideoCapture

    def read(self, every: int) -> Iterator[VideoFrame]:
        """Yield every ``every``-th frame; one is in memory. Raises ImageCorruptError where the video ends early."""
        number = 0
        while self._capture.grab():
            if number % every == 0:
                decoded, image = self._capture.retrieve()
                if not decoded:
                    raise ImageCorruptError(f"{self.path}: frame {number} cannot be decoded; the file is damaged")
                yield VideoFrame(number, number / self.frames_per_s, image)  # type: ignore[arg-type]  # uint8
            number += 1
        if number == 0:
            raise ImageCorruptError(f"{self.path}: has no frames; the recording was stopped before the first one")
        # Containers count a frame or two more than decoders give.
        if self.frames is not None and number < 0.98 * self.frames - 2:
            raise ImageCorruptError(
                f"{self.path}: ends after {number} of {self.frames} frames; the file is cut short or damaged"
            )


@contextmanager
def open_capture(path: Path) -> Iterator[cv2.VideoCapture]:
    """Give the file at ``path`` to OpenCV, which may read no video in it. Raises SettingsError if it cannot be read."""
    try:
        open_regular(path).close()
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read ({error.strerror}); give the path of a video") from error
    # Some relative names are addresses for FFmpeg, such as that of a file "concat:a.mp4".
    capture = cv2.VideoCapture(str(path.absolute()))
    try:
        yield capture
    finally:
        capture.release()


@contextmanager
def open_video(path: Path, max_pixels: int) -> Iterator[Video]:
    """Open the video at ``path``, with frames of at most ``max_pixels``. Raises SettingsError if none can be read."""
    with open_capture(path) as capture:
        width, height = (int(capture.get(each)) for each in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
        if not capture.isOpened() or width <= 0 or height <= 0:
            raise SettingsError(
                f"{path}: no frame of this video can be decoded, its codec is unknown or the file is damaged; "
                f"convert it with: ffmpeg -i {path.name} -c:v libx264 converted.mp4"
            )
        if width * height > max_pixels:
            raise SettingsError(
                f"{path}: frames of {width}×{height} pixels are more than detector.max_pixels allows ({max_pixels})"
            )
        frames = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        rate = capture.get(cv2.CAP_PROP_FPS)
        yield Video(path, frames if frames > 0 else None, rate if rate > 0 else 25.0, capture)
