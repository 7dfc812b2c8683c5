"""Makes what a plug-in's engine raises into errors that name it, so that another engine can take over."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import ParamSpec, TypeVar

import numpy as np

from detectors.engines.port import Engine, EngineRequest, Way
from detectors.errors import InferenceError, ModelLoadError
from detectors.geometry.arrays import ImageArray, Outputs
from infra.plugins import plugin_calls

logger = logging.getLogger(__name__)

ParamsT = ParamSpec("ParamsT")
ResultT = TypeVar("ResultT")


def guard(call: Callable[ParamsT, ResultT], part: str, label: str) -> Callable[ParamsT, ResultT]:
    """Return ``call``, the ``part`` of a plug-in's entry, so that all it raises is a ModelLoadError.

    ``label`` names the plug-in.
    """

    def guarded(*args: ParamsT.args, **kwargs: ParamsT.kwargs) -> ResultT:
        with plugin_calls(lambda reason: ModelLoadError(f"{label} failed in {part}: {reason}"), ModelLoadError):
            result = call(*args, **kwargs)
        return result

    return guarded


def guard_ways(
    ways: Callable[[EngineRequest, bool], Sequence[Way]], label: str
) -> Callable[[EngineRequest, bool], Sequence[Way]]:
    """Return ``ways`` of a plug-in's entry as :func:`guard` does; it also raises for what is no Way."""

    def checked(request: EngineRequest, dynamic: bool) -> Sequence[Way]:
        found = tuple(ways(request, dynamic))
        for way in found:
            if not isinstance(way, Way):
                raise TypeError(f"{way!r} is not a Way")
        return found

    return guard(checked, "ways", label)


def guard_load(load: Callable[[EngineRequest], Engine], label: str) -> Callable[[EngineRequest], Engine]:
    """Return ``load`` of a plug-in's entry as :func:`guard` does; the engines that it loads are guarded too."""
    return guard(lambda request: _PluginEngine(load(request), label), "load", label)


class _PluginEngine:
    """A plug-in's engine; whatever its ``run`` raises is an InferenceError."""

    def __init__(self, engine: Engine, label: str) -> None:
        self.name, self.reason = str(engine.name), str(engine.reason)
        self.batch_size, self.parallel = engine.batch_size, engine.parallel
        for part in ("batch_size", "parallel"):
            number = getattr(self, part)
            if not isinstance(number, int) or number < 1:
                raise TypeError(f"{part} of its engine is {number!r}, not a number from 1 on")
        for part in ("run", "close"):
            if not callable(getattr(engine, part, None)):
                raise TypeError(f"its engine {engine!r} has no {part}")
        self._engine = engine
        self._label = label

    def run(self, tiles: ImageArray) -> Outputs:
        """See :class:`detectors.engines.port.Engine`."""
        with plugin_calls(self._failure, InferenceError):
            outputs = self._engine.run(tiles)
            for output in outputs:
                if not isinstance(output, np.ndarray):
                    raise TypeError(f"run gave {type(output).__name__}, not an array")
        return outputs

    def _failure(self, reason: str) -> InferenceError:
        return InferenceError(f"{self._label} failed: {reason}")

    def close(self) -> None:
        """See :class:`detectors.engines.port.Engine`; an error is logged, for nothing depends on it any more."""
        try:
            with plugin_calls(self._failure):
                self._engine.close()
        except InferenceError as error:
            logger.warning("engine %s could not be closed: %s", self.name, error)
