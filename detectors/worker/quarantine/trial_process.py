"""Frames and models tried in a process of their own: what crashes there takes nobody with it."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from multiprocessing.process import BaseProcess
from typing import TypeVar

from detectors.engines.registry import usable_engines
from detectors.errors import (
    EngineCrashError,
    EngineHangError,
    EngineKilledError,
    InferenceError,
    ModelLoadError,
    TrialKilledError,
)
from detectors.images.decode import decode_image
from detectors.model.loading import LoadRequest, load_model
from detectors.model.options import FrameView
from detectors.model.predict import Predictor
from detectors.tiling.sources import ArraySource
from detectors.worker.pipeline.pipeline import FrameResult
from schemas.errors import StandgaleError
from schemas.events import DetectOptions
from schemas.geometry import CameraGeometry

logger = logging.getLogger(__name__)

T = TypeVar("T")
U = TypeVar("U")

DEFAULT_LIMIT_S = 120.0
_LOAD_LIMIT_S = 600.0
_CRASHES = {-number for number in (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGILL, signal.SIGFPE)}
_CLOSE_TIMEOUT_S = 5.0
_STATUS_PAUSE_S = 0.01


@dataclass(frozen=True, slots=True)
class FrameTrial:
    """A frame to try: the model by its card (None: the one that ships), how to load it, and which engine not to use."""

    request: LoadRequest
    avoid: str
    data: bytes
    asked: DetectOptions
    camera: CameraGeometry | None
    max_pixels: int


class _CrashError(Exception):
    """The process ended by the fault of what ran in it."""


class _KilledError(Exception):
    """The process was ended from outside; says how."""


class _HangError(Exception):
    """The process did not come back, and was ended for that."""


class TrialProcess:
    """A process for trials, there while there are any; another one after a crash. One trial at a time."""

    def __init__(self, limit_s: float = DEFAULT_LIMIT_S) -> None:
        """``limit_s``: a frame that takes longer hangs, and its trial is ended."""
        self._limit_s = limit_s
        self._pool: ProcessPoolExecutor | None = None
        self._process: BaseProcess | None = None
        self._busy = asyncio.Lock()
        self._wanted = 0

    async def detect(self, trial: FrameTrial) -> FrameResult:
        """Find what the frame of ``trial`` shows.

        Raises InferenceError when the model cannot be loaded there, EngineCrashError when the frame crashes the
        process, EngineHangError when it does not come back, EngineKilledError when that is ended from outside, and
        whatever decoding and detecting raise.
        """
        try:
            return await self._run(run_detection, trial, prepare=run_preparation)
        except _CrashError as error:
            raise EngineCrashError(
                f"it crashes the engine: first {trial.avoid} together with its worker, then the one after it in a "
                f"process of its own ({error}); the frame and the model are needed to find out why"
            ) from error
        except _KilledError as error:
            raise EngineKilledError(
                f"the process in which a suspect frame is tried {error}; if that goes on, give the machine more memory "
                "or the model smaller frames"
            ) from error
        except _HangError as error:
            raise EngineHangError(f"the process in which a suspect frame is tried {error}") from error

    async def load(self, request: LoadRequest) -> None:
        """Load the model of ``request`` and close it again.

        Raises ModelLoadError when it does not load, hangs, or crashes the process; TrialKilledError when that is ended
        from outside.
        """
        try:
            await self._run(run_load, request)
        except _CrashError as error:
            raise ModelLoadError(
                f"it crashes the engine when it is loaded: first together with its worker, then in a process of its "
                f"own ({error}); export it otherwise, or choose another engine (detector.engine)"
            ) from error
        except _HangError as error:
            raise ModelLoadError(f"the process in which a suspect model is loaded {error}") from error
        except _KilledError as error:
            raise TrialKilledError(
                f"the process in which a suspect model is loaded {error}; if that goes on, give the machine more memory"
            ) from error

    async def _run(self, work: Callable[[T], U], what: T, prepare: Callable[[T], None] | None = None) -> U:
        """``prepare``: loads what ``work`` needs, which takes its time in a new process and says nothing about it."""
        self._wanted += 1
        try:
            async with self._busy:
                if prepare is not None:
                    await self._prepare(prepare, what)
                return await self._in_pool(work, what, self._limit_s if prepare is not None else _LOAD_LIMIT_S)
        finally:
            self._wanted -= 1
            if not self._wanted:
                # It holds a model.
                await self.close()

    async def _prepare(self, prepare: Callable[[T], None], what: T) -> None:
        try:
            await self._in_pool(prepare, what, _LOAD_LIMIT_S)
        except (_CrashError, _HangError) as error:
            raise InferenceError(
                f"a suspect frame cannot be tried: the process for it {error} while it loaded the model; choose "
                "another engine (detector.engine), or another model"
            ) from error

    async def _in_pool(self, work: Callable[[T], U], what: T, limit_s: float) -> U:
        if self._pool is None:
            # A forked child would have locks of threads that are not there.
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(1, mp_context=context, initializer=end_with_parent)
        running = self._pool.submit(work, what)
        # The pool does not tell how its process ended, so that is asked of the process itself.
        self._process = next(iter(self._pool._processes.values()), self._process)
        try:
            async with asyncio.timeout(limit_s):
                return await asyncio.wrap_future(running)
        except TimeoutError as error:
            self._end_process()
            await self.close()
            raise _HangError(f"did not come back within {limit_s:g} s and was ended") from error
        except BrokenProcessPool as error:
            process = self._process
            await self.close()
            raise _error_from_exit(process) from error

    def _end_process(self) -> None:
        if self._process is not None:
            self._process.kill()

    async def close(self) -> None:
        """End the process, if there is one; a later trial starts another."""
        pool, self._pool = self._pool, None
        if pool is None:
            return
        process, self._process = self._process, None
        pool.shutdown(wait=False, cancel_futures=True)
        if process is not None:
            await asyncio.to_thread(_wait_until_ended, process)


def _wait_until_ended(process: BaseProcess) -> None:
    """Return when ``process`` has ended; one in the middle of a trial nobody waits for is killed."""
    for _ in range(2):
        deadline = time.monotonic() + _CLOSE_TIMEOUT_S
        process.join(_CLOSE_TIMEOUT_S)
        # The pool waits for it as well. The second of the two gets no status until the first has stored it.
        while process.exitcode is None and time.monotonic() < deadline:
            time.sleep(_STATUS_PAUSE_S)
        if process.exitcode is not None:
            return
        process.kill()


def _error_from_exit(process: BaseProcess | None) -> _CrashError | _KilledError:
    """What the exit status of ``process`` says: an engine crashes by a signal of its own, all others come from outside.

    Without memory left the system kills a process; a manager ends one with SIGTERM.
    """
    code = process.exitcode if process is not None else None
    name = "ended without a word" if code is None else f"ended with status {code}"
    if code is not None and code < 0:
        name = f"was ended by {signal.Signals(-code).name}"
    return _CrashError(name) if is_crash(code) else _KilledError(name)


def is_crash(status: int | None) -> bool:
    """Whether a process that ended with ``status`` was ended by the fault of what ran in it."""
    return status in _CRASHES


def end_with_parent() -> None:
    """Make this process end with the one that started it, and not before: Ctrl-C and a service manager tell both to
    stop, and a trial that is ended in its middle would look like a crash of the engine.
    """
    for told in (signal.SIGINT, signal.SIGTERM):
        signal.signal(told, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_exit_with, args=(parent,), name="parent", daemon=True).start()


def _exit_with(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)


def run_detection(trial: FrameTrial) -> FrameResult:
    """What the frame of ``trial`` shows, found in this process on the first usable engine that is not to be avoided.

    Raises errors that can travel to another process: Standgale's own, and InferenceError for all others.
    """
    with _errors_that_travel(InferenceError):
        return _detect(trial)


def run_preparation(trial: FrameTrial) -> None:
    """Load what ``run_detection`` needs for ``trial``, and keep it. Raises errors that can travel, as that does."""
    with _errors_that_travel(InferenceError):
        _predictor(trial.request, trial.avoid)


def run_load(request: LoadRequest) -> None:
    """Load the model of ``request`` in this process. Raises Standgale's errors, ModelLoadError for all others."""
    with _errors_that_travel(ModelLoadError):
        load_model(request).close()


@contextmanager
def _errors_that_travel(others: type[StandgaleError]) -> Iterator[None]:
    """Let Standgale's errors through, which can be pickled, and raise ``others`` for all that may not be."""
    try:
        yield
    except StandgaleError:
        raise
    except Exception as error:
        raise others(f"in a process of its own: {type(error).__name__}: {error}") from error


def _detect(trial: FrameTrial) -> FrameResult:
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
