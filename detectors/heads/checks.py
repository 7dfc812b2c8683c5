"""Checks that what a head read from the outputs are numbers."""

from __future__ import annotations

import numpy as np

from detectors.errors import InferenceError
from detectors.geometry.arrays import FloatArray


def require_numbers(values: FloatArray, what: str) -> None:
    """Raises InferenceError when ``values`` (float32, any shape) hold NaN; ``what`` names them."""
    if np.isnan(values).any():
        raise InferenceError(
            f"the model's {what} are not numbers (NaN): its file is damaged, or the precision is too low for it; "
            "try precision f32 in the card, or another engine"
        )
