"""Defines the errors of detectors: models that must not be loaded, frames that a model fails on, stores that fail."""

from __future__ import annotations

from typing import ClassVar

from infra.errors import RecordError, TransientError
from schemas.errors import StandgaleError


class ModelLoadError(StandgaleError):
    """A model cannot be used as its card describes it; nothing was loaded."""

    code: ClassVar[str] = "MODEL_LOAD_ERROR"


class InferenceError(StandgaleError):
    """The engine failed on tiles, or answered with something that is no answer (NaN, another shape).

    Whether the tiles are at fault or the engine, one failure does not tell.
    """

    code: ClassVar[str] = "INFERENCE_ERROR"


class EngineCrashError(InferenceError, RecordError):
    """A frame crashed a worker, and another engine in a process of its own as well: trying again is no use."""

    code: ClassVar[str] = "ENGINE_CRASHED"


class EngineKilledError(InferenceError):
    """The process in which a frame was tried was ended from outside: for want of memory, or for no fault of it."""

    code: ClassVar[str] = "ENGINE_OUT_OF_MEMORY"


class EngineHangError(InferenceError):
    """A suspect frame was tried in a process of its own, which did not come back and was ended."""

    code: ClassVar[str] = "ENGINE_HANGS"


class TrialKilledError(TransientError):
    """The process in which a suspect model is loaded was ended from outside, so nothing was found out about it."""

    code: ClassVar[str] = "TRIAL_KILLED"


class ModelStoreError(ModelLoadError):
    """The model store cannot do what was asked (list, take a version), or a setting of it is wrong."""

    code: ClassVar[str] = "MODEL_STORE_ERROR"


class ModelStoreUnavailableError(TransientError):
    """The model store, or the folder fetched models lie in, did not answer in time or is at fault itself."""

    code: ClassVar[str] = "MODEL_STORE_UNAVAILABLE"


class TooManyTilesError(RecordError):
    """A frame would be cut into more tiles than can be worked off in any time; its sizes or options are at fault."""

    code: ClassVar[str] = "TOO_MANY_TILES"
