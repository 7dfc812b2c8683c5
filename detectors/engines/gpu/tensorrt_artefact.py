"""Builds TensorRT engines in a separate process, one at a time per machine, with a limited number of attempts."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import tensorrt

from detectors.engines.gpu.cuda import CudaError, Gpu, find_gpu
from detectors.engines.gpu.tensorrt_job import REFUSED, BuildJob, batch_of, engine_name, precision_of
from detectors.engines.port import Engine, EngineRequest
from detectors.errors import ModelLoadError
from infra.storage.durable_files import sync_file
from schemas.event_base import ModelRef

logger = logging.getLogger(__name__)

_LOOK_S = 0.1
_TIMEOUT_S = 5.0
"""How long a terminated builder may take before it is killed."""
_LAST_LINES = 8


@dataclass(frozen=True, slots=True)
class BuildLimits:
    """Limits the builds of one engine."""

    seconds: float = 3600.0
    """How long one build may take."""
    workspace_bytes: int = 4 * 2**30
    """GPU memory that kernels may use while they are measured."""
    attempts: int = 2
    """How many builds may be started in all."""


class TensorRtArtefact:
    """Builds and loads the TensorRT engine of one model. See :class:`detectors.engines.artefact.EngineArtefact`."""

    def __init__(
        self, request: EngineRequest, model_cache: Path, model: ModelRef, limits: BuildLimits | None = None
    ) -> None:
        """Raises CudaError when there is no GPU, ModelLoadError when the model file cannot be read."""
        gpu = find_gpu()
        self.model, self.model_cache = model, model_cache
        self.name = engine_name(request, gpu, tensorrt.__version__)
        self.path = model_cache / model.name / model.version / self.name
        self._request, self._gpu, self._limits = request, gpu, limits or BuildLimits()

    @property
    def is_cached(self) -> bool:
        """See :class:`detectors.engines.artefact.EngineArtefact`."""
        return self.path.is_file()

    def build(self, stop: threading.Event) -> bool:
        """See :class:`detectors.engines.artefact.EngineArtefact`."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(self.path.with_suffix(".lock"), stop):
            if self.is_cached:
                return False
            self._require_attempt_left()
            part = self.path.with_suffix(f".{os.getpid()}.part")
            try:
                self._run(self._job(part), stop)
                _sync(part)
                part.replace(self.path)
            finally:
                part.unlink(missing_ok=True)
            self._failures.unlink(missing_ok=True)
            return True

    def load(self) -> Engine:
        """See :class:`detectors.engines.artefact.EngineArtefact`."""
        from detectors.engines.gpu.tensorrt import TensorRtEngine  # noqa: PLC0415 - the module of the engine loads this one

        try:
            return TensorRtEngine(self._request, self.path)
        except ModelLoadError as error:
            # When the GPU is unavailable or short of memory, the file may be good; to build it again takes minutes.
            if not isinstance(error.__cause__, CudaError):
                self.path.unlink(missing_ok=True)
            raise

    def _job(self, output: Path) -> BuildJob:
        return BuildJob(
            model=self._request.path.resolve(),
            output=output.resolve(),
            input=self._request.input,
            constants={name: value.shape for name, value in self._request.constants.items()},
            batch=batch_of(self._request),
            precision=precision_of(self._request, self._gpu),
            workspace_bytes=self._limits.workspace_bytes,
            timing_cache=(self.model_cache / _timing_cache_name(self._gpu)).resolve(),
        )

    def _run(self, job: BuildJob, stop: threading.Event) -> None:
        """Run one builder process until it ends. Raises ModelLoadError when it built nothing."""
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "detectors.engines.gpu.tensorrt_build"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        lines: deque[str] = deque(maxlen=_LAST_LINES)
        reading = threading.Thread(target=_read, args=(process, lines), daemon=True)
        reading.start()
        try:
            # Its standard input stays open as long as this process runs; the builder ends when it closes.
            _send_job(process, job.model_dump_json())
            why_ended = self._watch(process, stop)
        finally:
            _end(process)
            reading.join()
        if process.returncode == 0 and job.output.is_file():
            return
        if stop.is_set():
            raise ModelLoadError(f"the build of {self.name} was cancelled")
        why = why_ended or f"the builder ended with status {process.returncode}"
        self._record_failure(f"{why}: {' | '.join(lines) or 'it printed nothing'}", final=process.returncode == REFUSED)

    def _watch(self, process: subprocess.Popen[str], stop: threading.Event) -> str | None:
        """Wait until ``process`` ends; return why it must be terminated, or None when it has ended."""
        deadline = time.monotonic() + self._limits.seconds
        while process.poll() is None:
            if stop.wait(_LOOK_S):
                return "it was cancelled"
            if time.monotonic() > deadline:
                return f"the builder took longer than {self._limits.seconds:.0f} s"
        return None

    @property
    def _failures(self) -> Path:
        return self.path.with_suffix(".failed")

    def _require_attempt_left(self) -> None:
        attempts, reason = _failed_before(self._failures)
        if attempts >= self._limits.attempts:
            raise ModelLoadError(
                f"{self.name} is not built again, it failed {attempts} time(s) ({reason}); "
                f"delete {self._failures} to allow another build"
            )

    def _record_failure(self, reason: str, final: bool) -> None:
        """Save a failed attempt (``final``: another would fail in the same way) and raise ModelLoadError."""
        attempts = _failed_before(self._failures)[0] + 1
        counted = max(attempts, self._limits.attempts) if final else attempts
        self._failures.write_text(json.dumps({"attempts": counted, "reason": reason}), encoding="utf-8")
        raise ModelLoadError(f"TensorRT engine {self.name} could not be built (attempt {attempts}): {reason}")


def _failed_before(note: Path) -> tuple[int, str]:
    """Return how often a build failed according to ``note``, and its last reason; (0, "") without a readable note."""
    try:
        found = json.loads(note.read_text(encoding="utf-8"))
        return int(found["attempts"]), str(found["reason"])
    except FileNotFoundError:
        return 0, ""
    except (ValueError, KeyError, TypeError):
        logger.warning("%s is damaged and ignored", note)
        return 0, ""


def _timing_cache_name(gpu: Gpu) -> str:
    major, minor = gpu.capability
    return f"timing-trt{tensorrt.__version__}-cc{major}{minor}-sm{gpu.multiprocessors}.cache"


@contextmanager
def _locked(path: Path, stop: threading.Event) -> Iterator[None]:
    """Hold the lock at ``path``, which all processes of this machine share; it opens when its holder ends."""
    with path.open("a") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if stop.wait(_LOOK_S):
                    raise ModelLoadError(f"waiting for another build at {path} was cancelled") from None
        yield


def _read(process: subprocess.Popen[str], lines: deque[str]) -> None:
    """Log what the builder prints, and keep its last lines for an error's text."""
    assert process.stdout is not None
    for line in process.stdout:
        logger.info("TensorRT: %s", line.rstrip())
        lines.append(line.strip())


def _send_job(process: subprocess.Popen[str], job: str) -> None:
    assert process.stdin is not None
    try:
        process.stdin.write(job + "\n")
        process.stdin.flush()
    except BrokenPipeError:
        # It ended before it read; its status and last lines say why.
        logger.debug("the builder ended before it read its job")


def _end(process: subprocess.Popen[str]) -> None:
    """Terminate ``process`` if need be, and wait until it has ended."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    if process.stdin is not None:
        try:
            process.stdin.close()
        except BrokenPipeError:
            logger.debug("the builder ended before it read its job")


def _sync(path: Path) -> None:
    """Write the bytes of ``path`` to the disk, before the file is renamed."""
    with path.open("rb") as file:
        sync_file(file.fileno())
