"""What stops a model from being quantized at all."""

from __future__ import annotations

from typing import ClassVar

from schemas.errors import StandgaleError


class QuantizeError(StandgaleError):
    """A model cannot be quantized with what was given; nothing was written."""

    code: ClassVar[str] = "QUANTIZE_ERROR"
