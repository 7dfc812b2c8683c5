"""What can go wrong in a detector: a model that must not be loaded, and a frame the model fails on."""

from __future__ import annotations

from typing import ClassVar

from infra.errors import RecordError
from schemas.errors import WindhoverError


class ModelLoadError(WindhoverError):
    """A model cannot be used as its card describes it; nothing was loaded."""

    code: ClassVar[str] = "MODEL_LOAD_ERROR"


class InferenceError(RecordError):
    """The engine failed on tiles, or answered with something that is no answer (NaN, another shape)."""

    code: ClassVar[str] = "INFERENCE_ERROR"
