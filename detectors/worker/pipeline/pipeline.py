"""Host work and engine work side by side: decode, cut, infer, merge, in threads, tiles of several frames in one batch.

    detect() ─▶ host pool: decode ─▶ packer: cut tiles into batches ─▶ engine threads: infer ─▶ host pool: heads, merge

The packer stays a few batches ahead, so the engine never waits for host work while there is any; it cuts tiles only
as they are needed, so memory is bounded by the frames under way, not by their tiles.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from detectors.errors import InferenceError
from detectors.geometry.arrays import Candidates, Detections, ImageArray
from detectors.images.decode import decode_image
from detectors.model.options import FrameView, Resolved
from detectors.model.predict import Model
from detectors.tiling.tiles import TilePlan
from detectors.worker.pipeline.pixels import PixelPool
from detectors.worker.pipeline.threads import DaemonPool, all_ended
from infra.failure.error_texts import error_text
from schemas.events import DetectOptions
from schemas.geometry import CameraGeometry

logger = logging.getLogger(__name__)

_BATCHES_AHEAD_PER_ENGINE_CALL = 2
# Some large frames, or many small ones.
_IDLE_PIXEL_BYTES = 128 << 20
_CLOSE_TIMEOUT_S = 5.0
_TELL_EVERY_S = 10.0


@dataclass(frozen=True, slots=True)
class FrameResult:
    """What one frame shows, what it was detected with, and how long each step took (milliseconds of wall time)."""

    detections: Detections
    view: FrameView
    options: Resolved
    tiles: int
    decode_ms: float
    inference_ms: float
    merge_ms: float


@dataclass(slots=True, eq=False)
class _FrameTask:
    """A decoded frame on its way through the engine; ``memory``: the buffer its pixels lie in, if it is of the pool."""

    image: NDArray[np.uint8]
    view: FrameView
    plan: TilePlan
    options: Resolved
    decode_ms: float
    done: Future[FrameResult]
    memory: ImageArray | None
    started: float = field(default_factory=time.perf_counter)
    missing: int = 0
    candidates: dict[int, Candidates] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def fail(self, error: BaseException) -> None:
        """Report ``error`` unless the frame is answered, or has failed, already."""
        with self.lock:
            if not self.done.done():
                self.done.set_exception(error)


@dataclass(frozen=True, slots=True)
class _TileRun:
    """Consecutive tiles of one frame inside a batch: tiles ``first`` to ``first + count`` of its plan."""

    frame: _FrameTask
    first: int
    count: int


@dataclass(slots=True)
class _Batch:
    """Tiles on their way to the engine, uint8 (count, H, W, 3), and whose they are."""

    pieces: list[_TileRun] = field(default_factory=list)
    tiles: list[NDArray[np.uint8]] = field(default_factory=list)
    count: int = 0

    def add(self, frame: _FrameTask, first: int, tiles: NDArray[np.uint8]) -> None:
        self.pieces.append(_TileRun(frame, first, len(tiles)))
        self.tiles.append(tiles)
        self.count += len(tiles)

    def joined(self) -> NDArray[np.uint8]:
        return self.tiles[0] if len(self.tiles) == 1 else np.concatenate(self.tiles)


class InferencePipeline:
    """Runs frames through one model. ``detect`` may be called by many tasks; how many bounds the memory."""

    def __init__(self, model: Model, *, host_threads: int, max_pixels: int, batch_wait_s: float = 0.004) -> None:
        self.model = model
        self._max_pixels = max_pixels
        self._batch_wait_s = batch_wait_s
        self._pixels = PixelPool(_IDLE_PIXEL_BYTES)
        self._frames: queue.SimpleQueue[_FrameTask | None] = queue.SimpleQueue()
        engine_calls = model.engine.parallel
        self._batches: queue.Queue[_Batch | None] = queue.Queue(engine_calls * _BATCHES_AHEAD_PER_ENGINE_CALL)
        self._host = DaemonPool(host_threads, "host")
        self._under_way = 0
        self._failures = 0
        self._untold = 0
        self._tell_at = 0.0
        self._moved_at = time.monotonic()
        self._threads = [threading.Thread(target=self._pack, name="packer", daemon=True)]
        self._threads += [
            threading.Thread(target=self._infer, name=f"engine-{number}", daemon=True) for number in range(engine_calls)
        ]
        for thread in self._threads:
            thread.start()

    async def detect(self, data: bytes, asked: DetectOptions, camera: CameraGeometry | None = None) -> FrameResult:
        """What the encoded image ``data``, taken by ``camera``, shows.

        Raises ImageCorruptError, or InferenceError when the engine fails.
        """
        done: Future[FrameResult] = Future()
        if not self._under_way:
            self._moved_at = time.monotonic()
        self._under_way += 1
        try:
            self._host.submit(partial(self._decode, data, asked, camera, done))
            return await asyncio.wrap_future(done)
        finally:
            self._under_way -= 1

    @property
    def stalled_s(self) -> float:
        """For how long frames have been under way without any batch having come back from the engine."""
        return time.monotonic() - self._moved_at if self._under_way else 0.0

    def close(self, timeout_s: float = _CLOSE_TIMEOUT_S) -> bool:
        """Stop all threads; the caller has awaited, or cancelled, every ``detect`` before.

        Returns whether all have ended within ``timeout_s``; a thread inside an engine that hangs can't be ended.
        """
        self._frames.put(None)
        return all_ended(self._threads, timeout_s) and self._host.close(timeout_s)

    def _decode(
        self, data: bytes, asked: DetectOptions, camera: CameraGeometry | None, done: Future[FrameResult]
    ) -> None:
        """Host thread: encoded bytes to a frame with a plan, handed to the packer."""
        if not done.set_running_or_notify_cancel():
            return
        start = time.perf_counter()
        taken: list[ImageArray] = []

        def memory(size: int) -> ImageArray:
            taken.append(self._pixels.take(size))
            return taken[0]

        try:
            image = decode_image(data, max_pixels=self._max_pixels, memory=memory)
            view = FrameView.of(image.shape[1], image.shape[0], camera)
            options = self.model.resolved(asked, view)
            plan = self.model.plan(view, options)
        except Exception as error:  # noqa: BLE001 - whatever it is belongs to this frame's caller
            done.set_exception(error)
            return
        self._frames.put(
            _FrameTask(image, view, plan, options, _ms_since(start), done, next(iter(taken), None), missing=len(plan))
        )

    def _pack(self) -> None:
        """Packer thread: cut the tiles of frames, in their order of arrival, into batches of the engine's size."""
        room = self.model.engine.batch_size
        batch = _Batch()
        while True:
            try:
                frame = self._frames.get(timeout=self._batch_wait_s) if batch.pieces else self._frames.get()
            except queue.Empty:
                batch = self._emit(batch)
                continue
            if frame is None:
                self._emit(batch)
                for _ in range(self.model.engine.parallel):
                    self._batches.put(None)
                return
            first = 0
            while first < len(frame.plan):
                count = min(room - batch.count, len(frame.plan) - first)
                try:
                    batch.add(frame, first, self.model.cut(frame.image, frame.plan, first, count))
                except Exception as error:  # noqa: BLE001 - it fails this frame, not the packer
                    frame.fail(error)
                    break
                first += count
                if batch.count == room:
                    batch = self._emit(batch)

    def _emit(self, batch: _Batch) -> _Batch:
        """Hand ``batch`` to the engine, waiting for room, and begin the next one."""
        if batch.pieces:
            self._batches.put(batch)
        return _Batch()

    def _infer(self) -> None:
        """Engine thread: run batches; what comes out is decoded and merged by the host pool."""
        while (batch := self._batches.get()) is not None:
            try:
                outputs = self.model.infer(batch.joined())
                self._moved_at, self._failures = time.monotonic(), 0
            except BaseException as error:  # noqa: BLE001 (it fails these frames, never the thread)
                self._moved_at = time.monotonic()
                self._log_failure(batch)
                for piece in batch.pieces:
                    piece.frame.fail(InferenceError(f"engine {self.model.engine.name}: {error_text(error)}"))
                continue
            self._host.submit(partial(self._finish, batch, outputs))

    def _log_failure(self, batch: _Batch) -> None:
        """Log one failure in some seconds: all frames are tried again while an engine is broken, or fails on some."""
        self._failures += 1
        self._untold += 1
        now = time.monotonic()
        if now < self._tell_at:
            return
        about = {"tiles": batch.count, "failures_in_a_row": self._failures, "failures": self._untold}
        logger.error("the engine failed on a batch", exc_info=True, extra=about)
        self._tell_at, self._untold = now + _TELL_EVERY_S, 0

    def _finish(self, batch: _Batch, outputs: tuple[NDArray[np.float32], ...]) -> None:
        """Host thread: heads of a batch's pieces; merges each frame whose last tiles these were."""
        start = 0
        for piece in batch.pieces:
            end = start + piece.count
            try:
                self._take(piece, tuple(output[start:end] for output in outputs))
            except Exception as error:  # noqa: BLE001 - it fails this frame only
                piece.frame.fail(error)
            start = end

    def _take(self, piece: _TileRun, outputs: tuple[NDArray[np.float32], ...]) -> None:
        frame = piece.frame
        candidates = self.model.candidates(outputs, frame.plan, piece.first, frame.options)
        with frame.lock:
            frame.candidates[piece.first] = candidates
            frame.missing -= piece.count
            if frame.missing or frame.done.done():
                return
        inference_ms = _ms_since(frame.started)
        start = time.perf_counter()
        # Tile order, not completion order: the same frame gives the same detections, in the same order.
        in_order = [frame.candidates[first] for first in sorted(frame.candidates)]
        found = self.model.merge(Candidates.concatenate(in_order), frame.plan, frame.options)
        if frame.memory is not None:
            self._pixels.give(frame.memory)
        tiles, merge_ms = len(frame.plan), _ms_since(start)
        frame.done.set_result(
            FrameResult(found, frame.view, frame.options, tiles, frame.decode_ms, inference_ms, merge_ms)
        )


def _ms_since(start: float) -> float:
    return (time.perf_counter() - start) * 1_000
