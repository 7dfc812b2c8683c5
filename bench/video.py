"""Measures how many frames of a video per second become JPEG frames for acceptance, and a bare loop over PyAV."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
import simplejpeg

from bench import pictures
from bench.measure import Run, rate, take_turns
from bench.result import RATIO, Figure, Goal, Result
from infra.failure.settings import RetrySettings
from infra.process.health import Health
from ingest.settings import VideoSettings
from ingest.video.inputs.opened import require_library
from ingest.video.options import Selection, VideoSource
from ingest.video.port import VideoFrame
from ingest.video.pull import VideoPull

GOAL = 0.8
_SIZE = (1280, 720)
_SETTINGS = VideoSettings()
_NOTE = (
    f"H.264, {_SIZE[0]}x{_SIZE[1]}, with B-frames. The bare loop decodes each frame with as many threads, converts it "
    "to BGR and encodes it as JPEG of the same quality in one thread, as the examples of PyAV do. Ours is the whole "
    "pull: times, selection, colours of JPEG, the hand-over to the event loop, and an acceptor that keeps nothing."
)


class _Acceptor:
    """Counts frames."""

    def __init__(self) -> None:
        self.count = 0

    async def accept(self, frame: VideoFrame) -> None:
        """Count ``frame``."""
        self.count += 1


def run(quick: bool) -> Result:
    """Measure both in turns, and our pull of each tenth frame."""
    require_library()
    with TemporaryDirectory() as folder:
        return asyncio.run(_run(Path(folder, "bench.mp4"), quick))


async def _run(path: Path, quick: bool) -> Result:
    frames, rounds = (100, 2) if quick else (300, 5)
    _write(path, frames)
    compared = await take_turns(_pull(path, frames, Selection()), _bare(path, frames), rounds)
    tenth = await take_turns(_pull(path, frames, Selection("nth", every=10)), _bare(path, frames), 1)
    return Result(
        "video",
        f"Video frames over bare PyAV ({_SIZE[0]}x{_SIZE[1]})",
        (
            Figure("bare PyAV: decode and JPEG", compared.bare_rate, "frames/s"),
            Figure("pull, every frame", compared.our_rate, "frames/s"),
            Figure("pull / bare", compared.ratio, RATIO, Goal(GOAL)),
            Figure("pull, each tenth frame", tenth.our_rate, "frames/s of the video"),
        ),
        (_NOTE,),
    )


def _pull(path: Path, frames: int, selection: Selection) -> Run:
    async def once() -> float:
        source = VideoSource("bench", str(path), selection, start=datetime(2026, 5, 1, tzinfo=UTC))
        acceptor = _Acceptor()
        pull = VideoPull(source, acceptor, _SETTINGS, RetrySettings())
        began = time.perf_counter()
        await pull.run(asyncio.Event(), Health().part("bench"))
        assert acceptor.count == -(-frames // selection.every)
        return rate(frames, began)

    return once


def _bare(path: Path, frames: int) -> Run:
    import av

    def loop() -> float:
        began = time.perf_counter()
        count = 0
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            stream.codec_context.thread_count = _SETTINGS.threads
            stream.codec_context.thread_type = "AUTO"
            for frame in container.decode(stream):
                image = frame.to_ndarray(format="bgr24")
                simplejpeg.encode_jpeg(image, quality=_SETTINGS.jpeg_quality, colorspace="BGR", colorsubsampling="420")
                count += 1
        assert count == frames
        return rate(count, began)

    async def once() -> float:
        return await asyncio.to_thread(loop)

    return once


def _write(path: Path, frames: int) -> None:
    """Write a video of a camera that moves over a photograph-like ground."""
    import av

    ground = cv2.imdecode(np.frombuffer(pictures.of_size(400_000).data, np.uint8), cv2.IMREAD_COLOR)
    assert ground is not None
    ground = cv2.resize(ground, (_SIZE[0] * 2, _SIZE[1] * 2))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "veryfast", "bf": "2"})
        stream.width, stream.height, stream.pix_fmt = *_SIZE, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 25)
        for number in range(frames):
            x, y = number * 4 % _SIZE[0], number * 2 % _SIZE[1]
            part = np.ascontiguousarray(ground[y : y + _SIZE[1], x : x + _SIZE[0]]).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(part, format="bgr24")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
