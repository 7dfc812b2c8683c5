"""Lists all engines, finds those that can be used here, and loads the requested or the best one."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from detectors.engines import installed, loaders
from detectors.engines.memory_fit import reduce_streams_to_fit, require_room
from detectors.engines.plugins import guard, guard_load, guard_ways
from detectors.engines.port import Engine, EngineRequest, Way
from detectors.errors import ModelLoadError
from detectors.settings import EngineKind
from infra.errors import SettingsError
from infra.extras import install_extra
from infra.plugin_names import PluginGroup, plugin_names, warn_of_hidden_plugins
from infra.plugins import load_plugin, plugin_error, plugin_label

__all__ = ["ENGINES", "EngineEntry", "available_threads", "load_engine", "usable_engines"]

logger = logging.getLogger(__name__)

_PLUGINS: PluginGroup = "standgale.engines"


def _three_copies(request: EngineRequest) -> float:
    """Return 3: the file, the graph that is read from it, and the engine's form of the weights."""
    del request
    return 3.0


@dataclass(frozen=True, slots=True)
class EngineEntry:
    """Describes an engine without loading it; everything that imports its library happens in a function.

    ``why_not``, ``passed_over`` and ``identity`` are quick and do not raise.
    """

    name: EngineKind
    """Its name in ``detector.engine``."""
    why_not: Callable[[], str | None]
    """Says why it cannot be used here (not installed, no GPU …), ending in what to do; None when it can."""
    identity: Callable[[], str]
    """Gives the version of its library, and the device: a part of the key under which measurements are kept."""
    ways: Callable[[EngineRequest, bool], Sequence[Way]]
    """Gives the ways to run a request, the preferred one first, each in a precision that the request allows.

    Precision auto allows all. The second argument says whether the graph leaves the number of tiles open.
    """
    load: Callable[[EngineRequest], Engine]
    """Loads a model. Raises ModelLoadError."""
    copies: Callable[[EngineRequest], float] = _three_copies
    """Says about how many times it holds the weights in the host's memory."""
    gpu: bool = False
    """Whether it computes on a GPU; where it can be used, engines on the CPU are not measured."""
    passed_over: Callable[[], str | None] = lambda: None
    """Says why ``auto`` leaves it out although it can be named; None when ``auto`` takes it."""

    def open(self, request: EngineRequest) -> Engine:
        """Load ``request`` with as many streams as fit into memory. Raises ModelLoadError, also when none fits."""
        if self.gpu:
            require_room(self.name, request, self.copies)
            return self.load(request)
        return self.load(reduce_streams_to_fit(self.name, request, self.copies))

    def preferred(self, request: EngineRequest, why: str) -> EngineRequest:
        """Return ``request`` in the engine's preferred way; unchanged without one, so that ``load`` says why."""
        way = next(iter(self.ways(request, False)), None)
        return replace(request, why=why) if way is None else request.run_as(way, why)


def _takes_minutes() -> str | None:
    """Return why auto does not choose an engine that takes minutes to build: a worker would wait for it."""
    return "takes minutes at the first load; request it by name, or let a worker build it in the background"


ENGINES: Mapping[str, EngineEntry] = {
    entry.name: entry
    for entry in (
        EngineEntry(
            name="onnxruntime_cuda",
            why_not=installed.why_no_onnxruntime_cuda,
            identity=lambda: installed.gpu_identity("onnxruntime-gpu", "onnxruntime"),
            ways=lambda request, dynamic: loaders.gpu_ways("onnxruntime_cuda", ("f32", "f16"), request, dynamic),
            load=loaders.load_onnxruntime_cuda,
            gpu=True,
        ),
        EngineEntry(
            name="torch",
            why_not=installed.why_no_torch,
            identity=lambda: installed.gpu_identity("torch"),
            ways=loaders.torch_ways,
            load=loaders.load_torch,
            gpu=True,
            passed_over=installed.why_slow_without_gpu,
        ),
        EngineEntry(
            name="tensorrt",
            why_not=installed.why_no_tensorrt,
            identity=lambda: installed.gpu_identity("tensorrt", "tensorrt-cu12", "tensorrt-cu13"),
            ways=lambda request, dynamic: loaders.gpu_ways("tensorrt", ("f32", "f16"), request, False),
            load=loaders.load_tensorrt,
            gpu=True,
            passed_over=_takes_minutes,
        ),
        EngineEntry(
            name="onnxruntime_tensorrt",
            why_not=installed.why_no_onnxruntime_tensorrt,
            identity=lambda: installed.gpu_identity("onnxruntime-gpu", "onnxruntime"),
            ways=lambda request, dynamic: loaders.gpu_ways("onnxruntime_tensorrt", ("f32", "f16"), request, False),
            load=loaders.load_onnxruntime_tensorrt,
            gpu=True,
            passed_over=_takes_minutes,
        ),
        EngineEntry(
            name="openvino",
            why_not=lambda: installed.why_not_installed("cpu", "openvino"),
            identity=lambda: installed.package_version("openvino"),
            ways=loaders.openvino_ways,
            load=loaders.load_openvino,
            # Measured with 190 MB of weights: 2.2 in f32, 2.0 in bf16, however many streams.
            copies=lambda request: 2.3,
        ),
        EngineEntry(
            name="onnxruntime",
            why_not=lambda: installed.why_not_installed("cpu", "onnxruntime"),
            identity=lambda: installed.package_version("onnxruntime", "onnxruntime-gpu"),
            ways=loaders.onnxruntime_ways,
            load=loaders.load_onnxruntime,
            # Measured with 190 MB of weights; every session has its own.
            copies=lambda request: 3.1 * (request.streams or request.threads),
        ),
    )
}
"""Every engine by its name; the one that is usually fastest comes first."""


def available_threads() -> int:
    """Return how many CPU threads this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def usable_engines(kind: EngineKind) -> list[EngineEntry]:
    """Return the engines that ``kind`` allows and that can be used here, the preferred one first.

    Raises ModelLoadError when there is none, with the reason of each.
    """
    warn_of_hidden_plugins(_PLUGINS, (*ENGINES, "auto"))
    if kind != "auto":
        entry = ENGINES[kind] if kind in ENGINES else _load_plugin_entry(kind)
        why_not = "not part of this version of Standgale" if entry is None else entry.why_not()
        if entry is None or why_not is not None:
            raise ModelLoadError(f"engine {kind} cannot be used: {why_not}; or set detector.engine to auto")
        return [entry]
    reasons = {entry.name: entry.why_not() or entry.passed_over() for entry in ENGINES.values()}
    usable = [ENGINES[name] for name, why_not in reasons.items() if why_not is None]
    if not usable:
        listed = "; ".join(f"{name}: {why_not}" for name, why_not in reasons.items())
        raise ModelLoadError(f"no engine can be used ({listed})")
    return usable


def _load_plugin_entry(name: str) -> EngineEntry | None:
    """Return the entry of the engine that a distribution offers as ``name``, or None when there is none.

    Raises ModelLoadError that names the distribution when it cannot be loaded; so do the functions of the entry.
    """
    if name not in plugin_names(_PLUGINS):
        return None
    try:
        entry = load_plugin(_PLUGINS, name)
        if not isinstance(entry, EngineEntry):
            raise plugin_error(_PLUGINS, name, f"{entry!r} is not an EngineEntry")
        if entry.name != name:
            raise plugin_error(_PLUGINS, name, f"its engine has the name {entry.name!r}; both must be the same")
    except SettingsError as error:
        raise ModelLoadError(str(error)) from error
    label = plugin_label(_PLUGINS, name)
    return replace(
        entry,
        why_not=guard(entry.why_not, "why_not", label),
        identity=guard(entry.identity, "identity", label),
        ways=guard_ways(entry.ways, label),
        load=guard_load(entry.load, label),
        copies=guard(entry.copies, "copies", label),
    )


def load_engine(kind: EngineKind, request: EngineRequest, check: Callable[[Engine], object] | None = None) -> Engine:
    """Load the model on engine ``kind``, or with ``auto`` on the preferred one that can be used and can load it.

    ``check`` raises ModelLoadError when a loaded engine does not fit. Raises ModelLoadError when none can be used
    (naming the extra to install) or none can load the model.
    """
    usable = usable_engines(kind)
    if kind != "auto":
        return open_and_check(usable[0], usable[0].preferred(request, "requested"), check)
    next_best = "the next best engine, because another refused the model"
    whys = ["the preferred engine"] + [next_best] * (len(usable) - 1)
    return _first_that_opens(list(zip(usable, whys, strict=True)), request, check)


def load_other(name: str, request: EngineRequest, check: Callable[[Engine], object]) -> Engine:
    """Load ``request`` on the best usable engine except ``name``. Raises ModelLoadError when there is none."""
    others = [(entry, f"engine {name} failed") for entry in usable_engines("auto") if entry.name != name]
    if not others:
        raise ModelLoadError(f"no other engine is installed; {install_extra('cpu')}")
    return _first_that_opens(others, request, check)


def _first_that_opens(
    entries: Sequence[tuple[EngineEntry, str]], request: EngineRequest, check: Callable[[Engine], object] | None
) -> Engine:
    """Load ``request`` on the first of ``entries`` that can; each has the reason to choose it.

    Raises ModelLoadError with every refusal when none can.
    """
    refusals: dict[str, None] = {}
    for entry, why in entries:
        try:
            return open_and_check(entry, entry.preferred(request, why), check)
        except ModelLoadError as error:
            logger.warning("engine %s cannot load the model: %s", entry.name, error)
            refusals[str(error)] = None
    raise ModelLoadError("; ".join(refusals))


def open_and_check(entry: EngineEntry, request: EngineRequest, check: Callable[[Engine], object] | None) -> Engine:
    """Load ``request`` on the engine of ``entry``; close it when ``check`` raises."""
    engine = entry.open(request)
    return engine if check is None else check_or_close(engine, check)


def check_or_close(engine: Engine, check: Callable[[Engine], object]) -> Engine:
    """Return ``engine`` after ``check``; close it when ``check`` raises."""
    try:
        check(engine)
    except BaseException:
        engine.close()
        raise
    return engine
