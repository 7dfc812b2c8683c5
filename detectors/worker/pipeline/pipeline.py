"""Decodes, cuts, infers and merges many frames in parallel, with tiles of several frames in one engine batch.

    detect() ─▶ host pool: decode ─▶ packer: cut tiles into batches ─▶ engine threads: infer ─▶ host pool: heads, merge

An image whose header does not bound the work of its decoding is decoded in a separate process, for which a thread of
its own waits: a thread inside a decoder could not be ended, and such images must not take the place of all others.

The packer stays a few batches ahead, so the engine never waits while there is host work to do. It cuts tiles only when
they are needed, so memory is bounded by the frames in progress, not by their tiles.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from detectors.errors import InferenceError
from detectors.geometry.arrays import Candidates, Detections, ImageArray
from detectors.images.decode import decode_image
from detectors.images.decode_process import DEFAULT_LIMIT_S, DecodeProcess
from detectors.images.work import has_bounded_work
from detectors.model.options import FrameView, Resolved
from detectors.model.passes import Passes
from detectors.model.predict import Model
from detectors.tiling.tiles import TilePlan
from detectors.worker.pipeline.pixels import PixelPool
from detectors.worker.pipeline.ranked_queue import Rank, RankedQueue
from detectors.worker.pipeline.short_passes import LATELY_S, ShortPasses
from detectors.worker.pipeline.threads import DaemonPool, all_ended
from infra.failure.error_texts import error_text
from schemas.events import DetectOptions
from schemas.geometry import CameraGeometry

logger = logging.getLogger(__name__)

_BATCHES_AHEAD_PER_ENGINE_CALL = 2
# Some large frames, or many small ones.
_IDLE_PIXEL_BYTES = 128 << 20
_CLOSE_TIMEOUT_S = 5.0
# More than most frames have; those are packed at once.
_TURN_TILES = 48
_LOG_EVERY_S = 10.0


@dataclass(frozen=True, slots=True)
class FrameResult:
    """Holds a frame's detections, the options used, and how long each step took (milliseconds of wall time)."""

    detections: Detections
    view: FrameView
    options: Resolved
    tiles: int
    decode_ms: float
    inference_ms: float
    merge_ms: float


@dataclass(frozen=True, slots=True)
class _Wanted:
    """Holds what the caller says about an image."""

    options: DetectOptions
    camera: CameraGeometry | None
    rank: Rank


@dataclass(slots=True, eq=False)
class _FrameTask:
    """A decoded frame and what is known of its tiles."""

    image: NDArray[np.uint8]
    view: FrameView
    passes: Passes
    plan: TilePlan
    """The tiles of the current pass."""
    decode_ms: float
    done: Future[FrameResult]
    memory: ImageArray | None
    """The buffer of its pixels, if it belongs to the pool."""
    rank: Rank
    started: float = field(default_factory=time.perf_counter)
    missing: int = 0
    """How many tiles of the pass have no candidates yet."""
    candidates: dict[int, Candidates] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def fail(self, error: BaseException) -> None:
        """Report ``error``, unless the frame is finished already."""
        with self.lock:
            if not self.done.done():
                self.done.set_exception(error)


@dataclass(frozen=True, slots=True)
class _TileRun:
    """Consecutive tiles of one frame in a batch: tiles ``first`` to ``first + count`` of its plan."""

    frame: _FrameTask
    first: int
    count: int


@dataclass(slots=True)
class _Batch:
    """Tiles for one engine run, uint8 (count, H, W, 3), and the frames they belong to."""

    runs: list[_TileRun] = field(default_factory=list)
    tiles: list[NDArray[np.uint8]] = field(default_factory=list)
    count: int = 0

    @property
    def rank(self) -> Rank:
        """The earliest rank of its frames."""
        return min(run.frame.rank for run in self.runs)

    def add(self, frame: _FrameTask, first: int, tiles: NDArray[np.uint8]) -> None:
        self.runs.append(_TileRun(frame, first, len(tiles)))
        self.tiles.append(tiles)
        self.count += len(tiles)

    def joined(self) -> NDArray[np.uint8]:
        return self.tiles[0] if len(self.tiles) == 1 else np.concatenate(self.tiles)


@dataclass(slots=True)
class _Packing:
    """A frame of which the tiles from ``first`` on are to be cut."""

    frame: _FrameTask
    plan: TilePlan
    first: int = 0


class InferencePipeline:
    """Runs frames through one model; many tasks may call ``detect``, and their number bounds the memory."""

    def __init__(
        self,
        model: Model,
        *,
        host_threads: int,
        max_pixels: int,
        max_decode_s: float = DEFAULT_LIMIT_S,
        batch_wait_s: float = 0.004,
    ) -> None:
        self.model = model
        self._max_pixels = max_pixels
        self._decoder = DecodeProcess(max_pixels=max_pixels, limit_s=max_decode_s)
        self._batch_wait_s = batch_wait_s
        self._pixels = PixelPool(_IDLE_PIXEL_BYTES)
        self._frames: RankedQueue[_Packing | None] = RankedQueue()
        engine_calls = model.engine.parallel
        self._batches: RankedQueue[_Batch | None] = RankedQueue(engine_calls * _BATCHES_AHEAD_PER_ENGINE_CALL)
        self._short = ShortPasses(model.engine.batch_size)
        self._spares_live = False
        self._host = DaemonPool(host_threads, "host")
        self._separate = DaemonPool(1, "separate-decoding")
        self._in_progress = 0
        self._live = 0
        self._live_at = float("-inf")
        self._failures = 0
        self._unlogged = 0
        self._log_at = 0.0
        self._moved_at = time.monotonic()
        self._threads = [threading.Thread(target=self._pack, name="packer", daemon=True)]
        self._threads += [
            threading.Thread(target=self._infer, name=f"engine-{number}", daemon=True) for number in range(engine_calls)
        ]
        for thread in self._threads:
            thread.start()

    async def detect(
        self, data: bytes, asked: DetectOptions, camera: CameraGeometry | None = None, *, rank: Rank = Rank.LIVE
    ) -> FrameResult:
        """Detect on the encoded image ``data``, which ``camera`` took; frames of an earlier ``rank`` overtake others.

        Raises ImageCorruptError, or InferenceError when the engine fails.
        """
        done: Future[FrameResult] = Future()
        if not self._in_progress:
            self._moved_at = time.monotonic()
        self._in_progress += 1
        self._count_live(rank, 1)
        try:
            self._host.submit(partial(self._decode, data, _Wanted(asked, camera, rank), done), rank)
            return await asyncio.wrap_future(done)
        finally:
            self._in_progress -= 1
            self._count_live(rank, -1)

    def _count_live(self, rank: Rank, change: int) -> None:
        """Hold other frames while there is a live one, from its decoding to its last pass."""
        if rank is not Rank.LIVE:
            return
        self._live_at = time.monotonic()
        before, self._live = self._live, self._live + change
        if bool(before) != bool(self._live):
            for each in (self._host, self._frames, self._batches):
                each.hold_background(bool(self._live))
            self._spare_live()

    def _spare_live(self) -> bool:
        """Return whether live frames come: then the engine runs others in short passes, one after the other."""
        spare = bool(self._live) or time.monotonic() - self._live_at < LATELY_S
        if spare != self._spares_live:
            self._spares_live = spare
            self._batches.run_one_background(spare)
        return spare

    @property
    def stalled_s(self) -> float:
        """For how many seconds frames have been in progress without a decoded image or a finished engine batch."""
        return time.monotonic() - self._moved_at if self._in_progress else 0.0

    def stop_separate_decoding(self) -> None:
        """End the decoding of images in the separate process; their ``detect`` raises DecoderEndedError."""
        self._decoder.stop()

    def close(self, timeout_s: float = _CLOSE_TIMEOUT_S) -> bool:
        """Stop all threads; every ``detect`` must have returned, or been cancelled, before.

        Returns whether all have ended within ``timeout_s``; a thread inside an engine that hangs cannot be ended.
        """
        self._frames.put(None, Rank.END)
        self._decoder.close()
        return all([all_ended(self._threads, timeout_s), self._separate.close(timeout_s), self._host.close(timeout_s)])

    def _decode(self, data: bytes, wanted: _Wanted, done: Future[FrameResult]) -> None:
        """Decode ``data`` here, or let it be decoded in the separate process; runs in a host thread."""
        try:
            bounded = has_bounded_work(data, self._max_pixels)
        except Exception as error:  # noqa: BLE001 - every error is reported to this frame's caller
            done.set_exception(error)
            return
        if bounded:
            decode = partial(decode_image, data, max_pixels=self._max_pixels)
            self._plan(decode, wanted, done)
        else:
            self._separate.submit(partial(self._plan, partial(self._decoder.decode, data), wanted, done))

    def _plan(self, decode: Callable[..., ImageArray], wanted: _Wanted, done: Future[FrameResult]) -> None:
        """Decode an image, plan its tiles, and pass the frame to the packer."""
        if not done.set_running_or_notify_cancel():
            return
        start = time.perf_counter()
        taken: list[ImageArray] = []

        def memory(size: int) -> ImageArray:
            taken.append(self._pixels.take(size))
            return taken[0]

        try:
            image = decode(memory=memory)
            view = FrameView.of(image.shape[1], image.shape[0], wanted.camera)
            passes = self.model.passes(view, self.model.resolved(wanted.options, view))
        except Exception as error:  # noqa: BLE001 - every error is reported to this frame's caller
            done.set_exception(error)
            return
        finally:
            # Images that take long, or fail, are no engine that hangs.
            self._moved_at = time.monotonic()
        memory_used = taken[-1] if taken else None
        frame = _FrameTask(image, view, passes, passes.plan, _ms_since(start), done, memory_used, wanted.rank)
        self._queue(frame)

    def _queue(self, frame: _FrameTask) -> bool:
        """Pass ``frame`` to the packer for its next pass; return whether it has one."""
        part = frame.passes.part
        if part is None:
            return False
        frame.plan, frame.missing = part, len(part)
        frame.candidates = {}
        # The frame gets the plan of its next pass as soon as the last batch of this one is done.
        self._frames.put(_Packing(frame, part), frame.rank)
        return True

    def _pack(self) -> None:
        """Cut the tiles of frames into batches of the engine's size; runs in a packer thread.

        Frames have their turn in order of arrival. After ``_TURN_TILES`` tiles the next one has its turn, so that small
        frames do not wait for all tiles of a large one.
        """
        batch = _Batch()
        while True:
            try:
                packing = self._frames.get(self._wait_s(batch))
            except queue.Empty:
                batch = self._emit(batch)
                continue
            if packing is not None:
                batch = self._pack_turn(packing, batch)
                if packing.first < len(packing.plan):
                    # Its next turn comes after those of all that have arrived meanwhile.
                    self._frames.put(packing, packing.frame.rank)
            elif not len(self._frames):
                break
            else:
                # The end comes after all frames that are not finished.
                self._frames.put(None, Rank.END)
        self._emit(batch)
        for _ in range(self.model.engine.parallel):
            self._batches.put(None, Rank.END)

    def _wait_s(self, batch: _Batch) -> float | None:
        """Return how long to wait for the next frame before ``batch`` is passed on as it is; None for an empty one.

        An engine with nothing to do would wait, too, and nothing is gained by that.
        """
        if not batch.runs:
            return None
        return self._batch_wait_s if self._batches.has_unfinished else 0.0

    def _pack_turn(self, packing: _Packing, batch: _Batch) -> _Batch:
        """Cut the tiles of one turn of a frame, pass on the batches that are full, and return the one that is not."""
        rank, room = packing.frame.rank, self.model.engine.batch_size
        plan, end = packing.plan, min(len(packing.plan), packing.first + max(room, _TURN_TILES))
        while packing.first < end:
            if rank is not Rank.LIVE and self._spare_live():
                room = self._short.tiles
                if batch.count >= room:
                    batch = self._emit(batch)
            count = min(room - batch.count, end - packing.first)
            try:
                batch.add(packing.frame, packing.first, self.model.cut(packing.frame.image, plan, packing.first, count))
            except Exception as error:  # noqa: BLE001 - it fails this frame, not the packer
                packing.frame.fail(error)
                packing.first = len(plan)
                return batch
            packing.first += count
            if batch.count >= room:
                batch = self._emit(batch)
        return batch

    def _emit(self, batch: _Batch) -> _Batch:
        """Pass ``batch`` to the engine threads, wait while their queue is full, and return a new batch."""
        if batch.runs:
            self._batches.put(batch, batch.rank)
        return _Batch()

    def _infer(self) -> None:
        """Run batches, and pass their outputs to the host threads; runs in an engine thread."""
        while (batch := self._batches.get()) is not None:
            start = time.perf_counter()
            try:
                outputs = self.model.infer(batch.joined())
                self._moved_at, self._failures = time.monotonic(), 0
                if batch.rank is not Rank.LIVE and self._spares_live:
                    self._short.record(batch.count, time.perf_counter() - start)
            except BaseException as error:  # noqa: BLE001 (it fails these frames, never the thread)
                self._moved_at = time.monotonic()
                self._log_failure(batch)
                for run in batch.runs:
                    run.frame.fail(InferenceError(f"engine {self.model.engine.name}: {error_text(error)}"))
                continue
            finally:
                self._batches.task_done(batch.rank)
            self._host.submit(partial(self._finish, batch, outputs), batch.rank)

    def _log_failure(self, batch: _Batch) -> None:
        """Log one failure per ``_LOG_EVERY_S``: frames are tried again all the time while an engine does not work."""
        self._failures += 1
        self._unlogged += 1
        now = time.monotonic()
        if now < self._log_at:
            return
        about = {"tiles": batch.count, "failures_in_a_row": self._failures, "failures": self._unlogged}
        logger.error("the engine failed on a batch", exc_info=True, extra=about)
        self._log_at, self._unlogged = now + _LOG_EVERY_S, 0

    def _finish(self, batch: _Batch, outputs: tuple[NDArray[np.float32], ...]) -> None:
        """Read the candidates of a batch, and merge each frame whose last tiles are in it; runs in a host thread."""
        start = 0
        for run in batch.runs:
            end = start + run.count
            try:
                self._add_candidates(run, tuple(output[start:end] for output in outputs))
            except Exception as error:  # noqa: BLE001 - it fails this frame only
                run.frame.fail(error)
            start = end

    def _add_candidates(self, run: _TileRun, outputs: tuple[NDArray[np.float32], ...]) -> None:
        frame = run.frame
        candidates = self.model.candidates(outputs, frame.plan, run.first, frame.passes.options)
        with frame.lock:
            frame.candidates[run.first] = candidates
            frame.missing -= run.count
            if frame.missing or frame.done.done():
                return
        start = time.perf_counter()
        # Tile order, not completion order: the same frame gives the same detections, in the same order.
        passes = frame.passes
        passes.add(Candidates.concatenate([frame.candidates[first] for first in sorted(frame.candidates)]))
        if self._queue(frame):
            return
        inference_ms = (start - frame.started) * 1_000
        found = self.model.merge(passes.found, passes.plan, passes.options)
        if frame.memory is not None:
            self._pixels.give(frame.memory)
        tiles, merge_ms = int(passes.processed.sum()), _ms_since(start)
        frame.done.set_result(
            FrameResult(found, frame.view, passes.options, tiles, frame.decode_ms, inference_ms, merge_ms)
        )


def _ms_since(start: float) -> float:
    return (time.perf_counter() - start) * 1_000
