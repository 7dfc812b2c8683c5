"""Turns logits into scores."""

from __future__ import annotations

import numpy as np

from detectors.geometry.arrays import FloatArray


def sigmoid(logits: FloatArray) -> FloatArray:
    """Return 1 / (1 + exp(-x)) of ``logits`` (float32, any shape): exactly 0 for -inf, NaN for NaN."""
    # The exponential of a number far below 0 is infinite, and 1 / inf is 0, the right result.
    with np.errstate(over="ignore"):
        value: FloatArray = (1.0 / (1.0 + np.exp(-logits))).astype(np.float32)
    return value
