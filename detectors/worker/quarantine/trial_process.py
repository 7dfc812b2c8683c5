"""Runs suspect frames and models in a separate process, so that a crash there cannot end the worker."""

from __future__ import annotations

import asyncio
import multiprocessing
import signal
import time
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.process import BaseProcess
from typing import TypeVar

from detectors.errors import (
    EngineCrashError,
    EngineHangError,
    EngineKilledError,
    InferenceError,
    ModelLoadError,
    TrialKilledError,
)
from detectors.model.loading import LoadRequest
from detectors.worker.pipeline.pipeline import FrameResult
from detectors.worker.quarantine.trial_child import (
    FrameTrial,
    end_with_parent,
    run_detection,
    run_load,
    run_preparation,
)
from infra.process.safe_path import children_with_safe_path

T = TypeVar("T")
U = TypeVar("U")

DEFAULT_LIMIT_S = 120.0
_LOAD_LIMIT_S = 600.0
_CRASHES = {-number for number in (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGILL, signal.SIGFPE)}
_CLOSE_TIMEOUT_S = 5.0
_STATUS_PAUSE_S = 0.01


class _CrashError(Exception):
    """The code that ran in the process ended it."""


class _KilledError(Exception):
    """The process was ended from outside; the text says how."""


class _HangError(Exception):
    """The process did not return in time, and was ended for that."""


class TrialProcess:
    """Runs one trial at a time in a process that is kept while there are trials; after a crash a new one is started."""

    def __init__(self, limit_s: float = DEFAULT_LIMIT_S) -> None:
        """``limit_s``: a frame that takes longer counts as hanging, and its trial is ended."""
        self._limit_s = limit_s
        self._pool: ProcessPoolExecutor | None = None
        self._process: BaseProcess | None = None
        self._busy = asyncio.Lock()
        self._callers = 0

    async def detect(self, trial: FrameTrial) -> FrameResult:
        """Detect on the frame of ``trial``.

        Raises InferenceError when the model cannot be loaded there, EngineCrashError when the frame crashes the
        process, EngineHangError when it does not return, EngineKilledError when it is ended from outside, and every
        error of decoding and detecting.
        """
        try:
            return await self._run(run_detection, trial, prepare=run_preparation)
        except _CrashError as error:
            raise EngineCrashError(
                f"it crashes the engine: first {trial.avoid} together with its worker, then the one after it in a "
                f"separate process ({error}); the frame and the model are needed to find out why"
            ) from error
        except _KilledError as error:
            raise EngineKilledError(
                f"the process in which a suspect frame is tried {error}; if that continues, give the machine more "
                "memory or the model smaller frames"
            ) from error
        except _HangError as error:
            raise EngineHangError(f"the process in which a suspect frame is tried {error}") from error

    async def load(self, request: LoadRequest) -> None:
        """Load the model of ``request`` and close it again.

        Raises ModelLoadError when it does not load, hangs, or crashes the process; TrialKilledError when the process
        is ended from outside.
        """
        try:
            await self._run(run_load, request)
        except _CrashError as error:
            raise ModelLoadError(
                "it crashes the engine when it is loaded: first together with its worker, then in a separate process "
                f"({error}); export it otherwise, or choose another engine (detector.engine)"
            ) from error
        except _HangError as error:
            raise ModelLoadError(f"the process in which a suspect model is loaded {error}") from error
        except _KilledError as error:
            raise TrialKilledError(
                f"the process in which a suspect model is loaded {error}; if that continues, give the machine more "
                "memory"
            ) from error

    async def close(self) -> None:
        """End the process, if there is one; a later trial starts another."""
        pool, self._pool = self._pool, None
        if pool is None:
            return
        process, self._process = self._process, None
        pool.shutdown(wait=False, cancel_futures=True)
        if process is not None:
            await asyncio.to_thread(_wait_until_ended, process)

    async def _run(self, work: Callable[[T], U], what: T, prepare: Callable[[T], None] | None = None) -> U:
        """Run ``work`` in the process; ``prepare`` runs before it, and its duration counts against no frame."""
        self._callers += 1
        try:
            async with self._busy:
                if prepare is not None:
                    await self._prepare(prepare, what)
                return await self._in_pool(work, what, self._limit_s if prepare is not None else _LOAD_LIMIT_S)
        finally:
            self._callers -= 1
            if not self._callers:
                # The process holds a model.
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
        running = self._submit(work, what)
        try:
            async with asyncio.timeout(limit_s):
                return await asyncio.wrap_future(running)
        except TimeoutError as error:
            self._end_process()
            await self.close()
            raise _HangError(f"did not return within {limit_s:g} s and was ended") from error
        except BrokenProcessPool as error:
            process = self._process
            await self.close()
            raise _error_from_exit(process) from error

    def _submit(self, work: Callable[[T], U], what: T) -> Future[U]:
        """Give ``work`` to the process, which is started when there is none."""
        with children_with_safe_path():
            if self._pool is None:
                # A forked child would have locks of threads that do not exist there.
                context = multiprocessing.get_context("spawn")
                self._pool = ProcessPoolExecutor(1, mp_context=context, initializer=end_with_parent)
            running = self._pool.submit(work, what)
        # The pool does not report how its process ended, so the process itself is asked.
        self._process = next(iter(self._pool._processes.values()), self._process)
        return running

    def _end_process(self) -> None:
        if self._process is not None:
            self._process.kill()


def _wait_until_ended(process: BaseProcess) -> None:
    """Return when ``process`` has ended; kill it when it is in a trial that no task waits for."""
    for _ in range(2):
        deadline = time.monotonic() + _CLOSE_TIMEOUT_S
        process.join(_CLOSE_TIMEOUT_S)
        # The pool waits for the process as well. The second of the two gets no status until the first has stored it.
        while process.exitcode is None and time.monotonic() < deadline:
            time.sleep(_STATUS_PAUSE_S)
        if process.exitcode is not None:
            return
        process.kill()


def _error_from_exit(process: BaseProcess | None) -> _CrashError | _KilledError:
    """Return the error that the exit status of ``process`` means.

    An engine crashes by a signal that its own code causes; all other signals come from outside: the system kills a
    process when memory is short, and a service manager ends one with SIGTERM.
    """
    code = process.exitcode if process is not None else None
    name = "ended without a status" if code is None else f"ended with status {code}"
    if code is not None and code < 0:
        name = f"was ended by {signal.Signals(-code).name}"
    return _CrashError(name) if is_crash(code) else _KilledError(name)


def is_crash(status: int | None) -> bool:
    """Return whether a process that ended with ``status`` was ended by the code that ran in it."""
    return status in _CRASHES
