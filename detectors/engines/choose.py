"""The engines there are, which of them can be used here, and the choice: the one asked for, or the best usable one."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from detectors.engines.port import Engine, EngineRequest, Way
from detectors.errors import ModelLoadError
from infra.settings import EngineKind

__all__ = ["ENGINES", "EngineEntry", "EngineKind", "available_threads", "load_engine", "usable_engines"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class EngineEntry:
    """What is known of an engine without loading it; everything that imports its library happens in a function.

    name: as in detector.engine; extra: of windhover, which installs what it needs; why_not: why it cannot be used here
    (not installed, no GPU …) in words that end in what to do, None when it can; identity: library version and device,
    for a machine's fingerprint; ways: how a request can be run on it, the preferred way first, each in a precision the
    request allows (auto allows all), given whether the graph leaves the number of tiles open; load: see EngineRequest.
    ``why_not`` and ``identity`` are quick and do not raise.
    """

    name: str
    extra: str
    why_not: Callable[[], str | None]
    identity: Callable[[], str]
    ways: Callable[[EngineRequest, bool], Sequence[Way]]
    load: Callable[[EngineRequest], Engine]


def why_not_installed(module: str, extra: str) -> str | None:
    """Why an engine that needs ``module`` cannot be used, or None when the module is there."""
    return None if find_spec(module) is not None else f"not installed; install windhover[{extra}]"


def package_version(*packages: str) -> str:
    """Name and version of the first of ``packages`` that is installed."""
    for package in packages:
        try:
            return f"{package} {version(package)}"
        except PackageNotFoundError:
            continue
    return ""


def _load_openvino(request: EngineRequest) -> Engine:
    from detectors.engines.openvino import OpenVinoEngine  # noqa: PLC0415 - only where it is installed

    return OpenVinoEngine(request)


def _openvino_ways(request: EngineRequest, dynamic: bool) -> Sequence[Way]:
    from detectors.engines.openvino import openvino_ways  # noqa: PLC0415 - only where it is installed

    return openvino_ways(request, dynamic)


def _load_onnxruntime(request: EngineRequest) -> Engine:
    from detectors.engines.onnxruntime import OnnxRuntimeEngine  # noqa: PLC0415 - only where it is installed

    return OnnxRuntimeEngine(request)


def _onnxruntime_ways(request: EngineRequest, dynamic: bool) -> Sequence[Way]:
    """One session per thread, and one session with all threads; tiles in batches make it slower on a CPU."""
    if request.precision not in ("auto", "f32"):
        return ()
    streams = (request.threads, 1) if request.threads > 1 else (1,)
    return tuple(Way("onnxruntime", "f32", count) for count in streams)


ENGINES: Mapping[str, EngineEntry] = {
    entry.name: entry
    for entry in (
        EngineEntry(
            name="openvino",
            extra="cpu",
            why_not=lambda: why_not_installed("openvino", "cpu"),
            identity=lambda: package_version("openvino"),
            ways=_openvino_ways,
            load=_load_openvino,
        ),
        EngineEntry(
            name="onnxruntime",
            extra="cpu",
            why_not=lambda: why_not_installed("onnxruntime", "cpu"),
            identity=lambda: package_version("onnxruntime", "onnxruntime-gpu"),
            ways=_onnxruntime_ways,
            load=_load_onnxruntime,
        ),
    )
}
"""Every engine by name, the one that is usually fastest first."""


def available_threads() -> int:
    """How many CPU threads this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def usable_engines(kind: EngineKind) -> list[EngineEntry]:
    """The engines ``kind`` allows that can be used here, the preferred one first.

    Raises ModelLoadError when there is none, with the reason of each.
    """
    if kind != "auto":
        entry = ENGINES.get(kind)
        why_not = "not part of this version of Windhover" if entry is None else entry.why_not()
        if entry is None or why_not is not None:
            raise ModelLoadError(f"engine {kind} cannot be used: {why_not}; or set detector.engine to auto")
        return [entry]
    reasons = {entry.name: entry.why_not() for entry in ENGINES.values()}
    usable = [ENGINES[name] for name, why_not in reasons.items() if why_not is None]
    if not usable:
        listed = "; ".join(f"{name}: {why_not}" for name, why_not in reasons.items())
        raise ModelLoadError(f"no engine can be used ({listed})")
    return usable


def load_engine(kind: EngineKind, request: EngineRequest) -> Engine:
    """The engine ``kind``, or with ``auto`` the preferred one that can be used here and can load the model.

    Raises ModelLoadError when none can be used (naming the extra to install) or none can load the model.
    """
    usable = usable_engines(kind)
    if kind != "auto":
        return usable[0].load(request)
    refusals: list[str] = []
    for entry in usable:
        why = "the next best engine, because another refused the model" if refusals else "the preferred engine"
        try:
            return entry.load(replace(request, why=why))
        except ModelLoadError as error:
            logger.warning("engine %s cannot load the model, trying the next one", entry.name, exc_info=error)
            refusals.append(str(error))
    raise ModelLoadError("; ".join(refusals))
