"""Runs trials inside the separate process: detects on a suspect frame with another engine, or loads a suspect model."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from multiprocessing.process import BaseProcess

from detectors.engines.registry import usable_engines
from detectors.errors import InferenceError, ModelLoadError
from detectors.images.decode import decode_image
from detectors.model.loading import LoadRequest, load_model
from detectors.model.options import FrameView
from detectors.model.predict import Predictor
from detectors.tiling.sources import ArraySource
from detectors.worker.pipeline.pipeline import FrameResult
from schemas.errors import StandgaleError
from schemas.events import DetectOptions
from schemas.geometry import CameraGeometry


@dataclass(frozen=True, slots=True)
class FrameTrial:
    """Describes one run of a suspect frame."""

    request: LoadRequest
    """How the model is loaded; its card is None for the model that ships."""
    avoid: str
    """The engine that is used only when there is no other."""
    data: bytes
    """The encoded image."""
    asked: DetectOptions
    camera: CameraGeometry | None
    max_pixels: int


def end_with_parent() -> None:
    """Make this process end when its parent ends, and not before.

    Ctrl-C and a service manager signal both processes. A trial that such a signal ends would look like a crash.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_exit_with, args=(parent,), name="parent", daemon=True).start()


def _exit_with(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)


def run_detection(trial: FrameTrial) -> FrameResult:
    """Detect on the frame of ``trial`` with the first usable engine that is not to be avoided.

    Raises errors that can be sent to another process: Standgale's, and InferenceError for all others.
    """
    with _errors_that_travel(InferenceError):
        return _detect(trial)


def run_preparation(trial: FrameTrial) -> None:
    """Load the model that ``run_detection`` needs for ``trial``, and keep it. Raises the same errors."""
    with _errors_that_travel(InferenceError):
        _predictor(trial.request, trial.avoid)


def run_load(request: LoadRequest) -> None:
    """Load the model of ``request`` and close it. Raises Standgale's errors, and ModelLoadError for all others."""
    with _errors_that_travel(ModelLoadError):
        load_model(request).close()


@contextmanager
def _errors_that_travel(others: type[StandgaleError]) -> Iterator[None]:
    """Pass on Standgale's errors, which can be pickled, and raise ``others`` for errors that maybe cannot."""
    try:
        yield
    except StandgaleError:
        raise
    except Exception as error:
        raise others(f"in a separate process: {type(error).__name__}: {error}") from error


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
