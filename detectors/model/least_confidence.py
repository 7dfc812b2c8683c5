"""Says which boxes the NMS inside a model never gives, however low a confidence is asked for."""

from __future__ import annotations

import math

from detectors.card.onnx_file import OnnxFile
from detectors.heads.metadata import least_confidence_of

# f32 makes 0.25 a little more or less.
_EQUAL = 1e-4


def least_confidence(about: OnnxFile) -> float | None:
    """Return the score that a box needs in the NMS inside the model, where its nodes or metadata show it; else None."""
    stated = [one for one in (about.graph.score_threshold, least_confidence_of(about.metadata)) if one is not None]
    return max(stated, default=None)


def least_confidence_text(least: float) -> str:
    """Return text about a model whose NMS inside leaves out scores below ``least``."""
    return (
        f"the NMS inside the model leaves out scores below {least:.4g}, so a lower confidence finds nothing more; "
        "export it with a lower one for that"
    )


def why_less_finds_nothing(asked: float, least: float | None) -> str | None:
    """Return why a confidence of ``asked`` finds no more than ``least`` does, or None where it may."""
    if least is None or asked >= least or math.isclose(asked, least, abs_tol=_EQUAL):
        return None
    return f"confidence {asked:.4g} was asked for, but {least_confidence_text(least)}"
