"""Says why an engine was chosen without naming it three times."""

from __future__ import annotations

import numpy as np
import pytest

from detectors.engines.fallback import FallbackEngine
from detectors.engines.port import Outputs
from detectors.geometry.arrays import ImageArray


class Quick:
    """An engine with a reason as the shipped ones write it."""

    name, batch_size, parallel = "quick", 1, 1
    reason = "quick bf16; Quick 1.2 computes in bf16 with 2 thread(s)"

    def run(self, tiles: ImageArray) -> Outputs:
        return [np.zeros(len(tiles), np.float32)]

    def close(self) -> None:
        """Nothing to give back."""


@pytest.mark.parametrize(
    ("why", "text"),
    [
        (None, Quick.reason),
        (
            "quick bf16: the fastest of 2 measured ways (9.0 tiles/s); next quick f32 8.0",
            "quick bf16: the fastest of 2 measured ways (9.0 tiles/s); next quick f32 8.0; Quick 1.2 computes in bf16 "
            "with 2 thread(s)",
        ),
        ("chosen by hand", f"chosen by hand; {Quick.reason}"),
    ],
)
def test_reason_has_the_way_that_was_measured_once(why: str | None, text: str) -> None:
    assert FallbackEngine(Quick(), Quick, why).reason == text
