"""Opens engines for rules in tests, and makes detections for them."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
import pytest

from detectors.geometry.arrays import Detections
from detectors.rules.engines import swi, trealla
from detectors.rules.engines.port import RulesEngine
from detectors.rules.facts import FrameFacts
from schemas.event_base import ModelRef
from tests.paths import ROOT

LABELS = ("cow", "sheep", "bird")
Row = tuple[str, float, tuple[float, float, float, float]]
"""Label, score and corners of a detection."""


_CACHE = ROOT / ".cache" / "rules-engine"
"""Compiling Trealla takes seconds of all cores, so it is kept from one run of the tests to the next."""


def open_engine(name: str) -> RulesEngine:
    """Open the engine ``name``; skip the test where it is not installed, and fail in CI."""
    why = trealla.why_unavailable() if name == "trealla" else swi.why_unavailable()
    if why is None:
        return trealla.TreallaEngine(_CACHE) if name == "trealla" else swi.SwiEngine()
    if os.environ.get("CI"):
        pytest.fail(why)
    pytest.skip(why)


def detections_of(rows: Sequence[Row], labels: Sequence[str] = LABELS) -> Detections:
    """Return ``rows`` as detections, in their order."""
    boxes = np.array([box for _, _, box in rows], np.float32).reshape(-1, 4)
    scores = np.array([score for _, score, _ in rows], np.float32)
    return Detections(boxes, scores, np.array([labels.index(label) for label, _, _ in rows], np.int32))


def frame_facts(**known: object) -> FrameFacts:
    """Return the facts of a frame of 4000 by 3000 pixels."""
    return FrameFacts(4000, 3000, ModelRef(name="cows", version="1.0"), **known)  # type: ignore[arg-type]
