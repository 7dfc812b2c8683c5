"""Reads the frames of a video file one by one as arrays, for programs that need no events of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ingest.settings import VideoSettings
from ingest.video.counts import VideoCounts
from ingest.video.decoding import VideoDecoder
from ingest.video.errors import VideoError
from ingest.video.inputs.opened import Opener
from ingest.video.options import VideoSource
from ingest.video.pictures import PictureMaker
from ingest.video.telemetry.embedded import EmbeddedTelemetry

# Containers state a little more than decoders give.
_MISSING_SHARE, _MISSING_S = 0.02, 1.0


@dataclass(frozen=True, slots=True)
class RecordedFrame:
    """Holds one decoded frame."""

    number: int
    """From 0, in the order of presentation"""
    time_s: float
    image: NDArray[np.uint8]
    """(h, w, 3) BGR, turned as the video's metadata asks"""


@dataclass(frozen=True, slots=True)
class Recording:
    """Reads an open video file."""

    name: str
    frames: int | None
    """How many it says that it has; None where it does not"""
    decoder: VideoDecoder
    makers: PictureMaker
    counts: VideoCounts

    @property
    def frames_per_s(self) -> float | None:
        """Its rate; None where it does not state one."""
        return self.decoder.frames_per_s

    def read(self, every: int) -> Iterator[RecordedFrame]:
        """Yield every ``every``-th frame; one is in memory. Raises VideoError where it is damaged or ends early."""
        for number, decoded in enumerate(self.decoder.frames()):
            if number % every == 0:
                yield RecordedFrame(number, decoded.time_s, self.makers.bgr(decoded.picture))
        require_end(self.decoder, self.name)
        lost = self.counts.broken_packets + self.counts.damaged
        if lost:
            raise VideoError(f"{self.name}: {lost} of its frames cannot be decoded; the file is damaged")


@contextmanager
def open_recording(path: Path, settings: VideoSettings, limit: str) -> Iterator[Recording]:
    """Open the video file at ``path``; ``limit`` is the name of the setting that ``settings.max_pixels`` is from.

    Raises SettingsError where there is no such file, or PyAV is missing; VideoError where it is no video.
    """
    counts = VideoCounts()
    with Opener(settings).open(VideoSource(path.name, str(path.absolute()))) as opened:
        telemetry = EmbeddedTelemetry(None, live=False)
        decoder = VideoDecoder(opened, settings, counts, telemetry, limit=limit)
        makers = PictureMaker(settings.jpeg_quality)
        yield Recording(str(path), decoder.stream.frames or None, decoder, makers, counts)


def require_end(decoder: VideoDecoder, name: str) -> None:
    """Raise VideoError where a recording ended before it says that it does."""
    whole_s, end_s = decoder.duration_s, decoder.end_s
    if whole_s is not None and whole_s - end_s > max(_MISSING_S, _MISSING_SHARE * whole_s):
        raise VideoError(f"{name}: ends after {end_s:.1f} of {whole_s:.1f} s; the file is cut short or damaged")
