"""Defines what a video gives, one frame at a time, and the port that takes it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from schemas.events import ClockOrigin, VideoPosition
from schemas.geometry import CameraGeometry


@dataclass(frozen=True, slots=True)
class VideoFrame:
    """Holds one frame of a video as a picture, with its times."""

    image: bytes
    """JPEG; turned as the video's metadata asks"""
    width: int
    height: int
    number: int
    """From 0, of all frames that were decoded, also of those that were not selected"""
    source: str
    presentation_time_s: float
    """Since the source's first frame"""
    captured_at: datetime
    """UTC; later frames have later times"""
    clock: ClockOrigin
    camera: CameraGeometry | None

    @property
    def position(self) -> VideoPosition:
        """Its place in the video, for its event."""
        return VideoPosition(source=self.source, presentation_time_s=self.presentation_time_s, clock=self.clock)


class FrameAcceptor(Protocol):
    """Takes frames into the frame store and onto the broker."""

    async def accept(self, frame: VideoFrame) -> None:
        """Return when ``frame`` is durable; the same frame may be given again after an error.

        Raises a transient error (infra.errors) where a later try may succeed, and RecordError where this frame is
        refused for good.
        """
        ...
