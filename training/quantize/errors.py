"""Defines the error of a quantization that cannot be made."""

from __future__ import annotations

from typing import ClassVar

from schemas.errors import StandgaleError


class QuantizeError(StandgaleError):
    """Says that a model cannot be quantized as requested; nothing was written."""

    code: ClassVar[str] = "QUANTIZE_ERROR"
