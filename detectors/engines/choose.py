"""The choice of an engine: the one asked for, or the best one present, and why."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib.util import find_spec
from typing import Literal

from detectors.engines.port import Engine, EngineRequest
from detectors.errors import ModelLoadError

EngineKind = Literal["auto", "openvino", "onnxruntime"]

logger = logging.getLogger(__name__)


def _openvino(request: EngineRequest) -> Engine:
    from detectors.engines.openvino import OpenVinoEngine  # noqa: PLC0415 - only where it is installed

    return OpenVinoEngine(request)


def _onnxruntime(request: EngineRequest) -> Engine:
    from detectors.engines.onnxruntime import OnnxRuntimeEngine  # noqa: PLC0415 - only where it is installed

    return OnnxRuntimeEngine(request)


ENGINES: Mapping[str, Callable[[EngineRequest], Engine]] = {"openvino": _openvino, "onnxruntime": _onnxruntime}
"""Engine → how it is loaded, the fastest on a CPU first. A name is also the package the engine needs."""


def available_threads() -> int:
    """How many CPU threads this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def load_engine(kind: EngineKind, request: EngineRequest) -> Engine:
    """The engine ``kind``, or with ``auto`` the fastest one that is installed and can load the model.

    Raises ModelLoadError when the engine is not installed (naming the extra to install) or cannot load the model.
    """
    present = [name for name in ENGINES if find_spec(name) is not None]
    if kind != "auto":
        if kind not in present:
            raise ModelLoadError(
                f"engine {kind} is not installed; install windhover[cpu], or set detector.engine to auto"
            )
        return ENGINES[kind](request)
    if not present:
        raise ModelLoadError(f"no engine is installed (none of {', '.join(ENGINES)}); install windhover[cpu]")
    refusals: list[str] = []
    for name in present:
        why = "the next best engine, because another refused the model" if refusals else "the fastest engine installed"
        try:
            return ENGINES[name](replace(request, why=why))
        except ModelLoadError as error:
            logger.warning("engine %s cannot load the model, trying the next one", name, exc_info=error)
            refusals.append(str(error))
    raise ModelLoadError("; ".join(refusals))
