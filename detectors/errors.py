"""Defines the errors of detectors: models that must not be loaded, frames that a model fails on, stores that fail."""

from __future__ import annotations

from typing import ClassVar

from infra.errors import RecordError, TransientError
from schemas.errors import StandgaleError


class ModelLoadError(StandgaleError):
    """A model cannot be used as its card describes it; nothing was loaded."""

    code: ClassVar[str] = "MODEL_LOAD_ERROR"


class InferenceError(StandgaleError):
    """The engine failed on tiles, or its outputs are unusable (NaN, a wrong shape).

    One failure does not show whether the tiles or the engine are the cause.
    """

    code: ClassVar[str] = "INFERENCE_ERROR"


class EngineCrashError(InferenceError, RecordError):
    """A frame crashed a worker, and a different engine in a separate process too; a retry does not help."""

    code: ClassVar[str] = "ENGINE_CRASHED"


class EngineKilledError(InferenceError):
    """The process of a frame's trial was ended from outside: no memory was left, or the reason is not the frame."""

    code: ClassVar[str] = "ENGINE_OUT_OF_MEMORY"


class EngineHangError(InferenceError):
    """A suspect frame did not finish its trial in a separate process, which was ended."""

    code: ClassVar[str] = "ENGINE_HANGS"


class TrialKilledError(TransientError):
    """The process of a suspect model's trial was ended from outside, so the trial has no result."""

    code: ClassVar[str] = "TRIAL_KILLED"


class ModelStoreError(ModelLoadError):
    """The model store cannot do what was requested (list, accept a version), or one of its settings is wrong."""

    code: ClassVar[str] = "MODEL_STORE_ERROR"


class ModelStoreUnavailableError(TransientError):
    """The model store, or the folder of fetched models, did not respond in time or failed."""

    code: ClassVar[str] = "MODEL_STORE_UNAVAILABLE"


class ImageTooCostlyError(RecordError):
    """Decoding an image takes more CPU time or memory than an image of its size may take; a retry does not help."""

    code: ClassVar[str] = "IMAGE_TOO_COSTLY"


class DecoderEndedError(TransientError):
    """The process that decodes images was ended, because its worker ends; the next worker decodes the image."""

    code: ClassVar[str] = "DECODER_ENDED"


class DecoderKilledError(InferenceError):
    """The process that decodes images was ended from outside, twice: no memory was left, or the image is the cause."""

    code: ClassVar[str] = "DECODER_OUT_OF_MEMORY"


class TooManyTilesError(RecordError):
    """A frame would be cut into more tiles than can be processed; its sizes or options are wrong."""

    code: ClassVar[str] = "TOO_MANY_TILES"
