"""Frames and models tried in a process of their own: what crashes there takes nobody with it."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from functools import cache
from multiprocessing.process import BaseProcess
from typing import TypeVar

from detectors.decode import decode_image
from detectors.engines.choose import usable_engines
from detectors.errors import EngineCrashError, InferenceError, ModelLoadError
from detectors.loading import LoadRequest, load_model
from detectors.options import FrameView
from detectors.predict import Predictor
from detectors.sources import ArraySource
from detectors.worker.pipeline import FrameResult
from schemas.errors import WindhoverError
from schemas.events import DetectOptions
from schemas.geometry import CameraGeometry

T = TypeVar("T")
U = TypeVar("U")


@dataclass(frozen=True, slots=True)
class Trial:
    """A frame to try: the model by its card (None: the one that ships), how to load it, and which engine not to use."""

    request: LoadRequest
    avoid: str
    data: bytes
    asked: DetectOptions
    camera: CameraGeometry | None
    max_pixels: int


class Apart:
    """A process for trials, there while there are any; another one after a crash. One trial at a time."""

    def __init__(self) -> None:
        self._pool: ProcessPoolExecutor | None = None
        self._busy = asyncio.Lock()
        self._wanted = 0

    async def detect(self, trial: Trial) -> FrameResult:
        """What the frame of ``trial`` shows.

        Raises EngineCrashError when it crashes the process, and whatever loading, decoding and detecting raise.
        """
        try:
            return await self._run(detect_here, trial)
        except BrokenProcessPool as error:
            raise EngineCrashError(
                f"it crashes the engine: first {trial.avoid} together with its worker, then the one after it in a "
                "process of its own; the frame and the model are needed to find out why"
            ) from error

    async def load(self, request: LoadRequest) -> None:
        """Load the model of ``request`` and close it again. Raises ModelLoadError, also when it crashes the process."""
        try:
            await self._run(load_here, request)
        except BrokenProcessPool as error:
            raise ModelLoadError(
                "it crashes the engine when it is loaded: first together with its worker, then in a process of its "
                "own; export it otherwise, or choose another engine (detector.engine)"
            ) from error

    async def _run(self, work: Callable[[T], U], what: T) -> U:
        self._wanted += 1
        try:
            async with self._busy:
                return await self._in_pool(work, what)
        finally:
            self._wanted -= 1
            if not self._wanted:
                # It holds a model.
                await self.close()

    async def _in_pool(self, work: Callable[[T], U], what: T) -> U:
        if self._pool is None:
            # A forked child would have locks of threads that are not there.
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(1, mp_context=context, initializer=live_with_parent)
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, work, what)
        except BrokenProcessPool:
            await self.close()
            raise

    async def close(self) -> None:
        """End the process, if there is one; a later trial starts another."""
        pool, self._pool = self._pool, None
        if pool is not None:
            await asyncio.to_thread(pool.shutdown, cancel_futures=True)


def live_with_parent() -> None:
    """Make this process end with the one that started it, and not before: Ctrl-C and a service manager tell both to
    stop, and a trial that is ended in its middle would look like a crash of the engine.
    """
    for told in (signal.SIGINT, signal.SIGTERM):
        signal.signal(told, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), name="parent", daemon=True).start()


def _end_with(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)


def detect_here(trial: Trial) -> FrameResult:
    """What the frame of ``trial`` shows, found in this process on the first usable engine that is not to be avoided.

    Raises errors that can travel to another process: Windhover's own, and InferenceError for all others.
    """
    try:
        return _detected(trial)
    except WindhoverError:
        raise
    except Exception as error:
        raise InferenceError(f"in a process of its own: {type(error).__name__}: {error}") from error


def load_here(request: LoadRequest) -> None:
    """Load the model of ``request`` in this process. Raises Windhover's errors, ModelLoadError for all others."""
    try:
        load_model(request).close()
    except WindhoverError:
        raise
    except Exception as error:
        raise ModelLoadError(f"in a process of its own: {type(error).__name__}: {error}") from error


def _detected(trial: Trial) -> FrameResult:
    predictor = _predictor(trial.request, trial.avoid)
    start = time.perf_counter()
    image = decode_image(trial.data, max_pixels=trial.max_pixels)
    view = FrameView.of(image.shape[1], image.shape[0], trial.camera)
    decode_ms, start = (time.perf_counter() - start) * 1_000, time.perf_counter()
    found = predictor.find(ArraySource(image), trial.asked, view.gsd_m)
    inference_ms = (time.perf_counter() - start) * 1_000
    return FrameResult(found.detections, view, found.options, found.tiles, decode_ms, inference_ms, 0.0)


@cache
def _predictor(request: LoadRequest, avoid: str) -> Predictor:
    usable = [entry.name for entry in usable_engines("auto")]
    others = [name for name in usable if name != avoid] or usable
    return Predictor(load_model(replace(request, engine=others[0])))
