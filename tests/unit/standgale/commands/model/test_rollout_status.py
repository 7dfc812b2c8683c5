"""Checks the engines that `standgale model status` shows, also after a change to another engine."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from rich.console import Console

from detectors.engines.fallback import FAILURES_IN_A_ROW, FallbackEngine
from detectors.errors import InferenceError
from detectors.geometry.arrays import ImageArray, Outputs
from schemas.event_base import ModelRef
from schemas.model_events import ModelAvailability, WorkerAvailability
from schemas.timestamps import utc_now
from standgale.commands.context import Context
from standgale.commands.model.rollout_status import refusals, show


@dataclass
class Named:
    """An engine of a name, which fails or does not."""

    name: str
    fails: bool
    batch_size: int = 1
    parallel: int = 1

    @property
    def reason(self) -> str:
        return f"{self.name} computes"

    def run(self, tiles: ImageArray) -> Outputs:
        if self.fails:
            raise InferenceError("[it] broke")
        return (np.zeros((len(tiles), 1), np.float32),)

    def close(self) -> None:
        """Nothing to give back."""


def report(worker: str, engine: FallbackEngine) -> WorkerAvailability:
    model = ModelAvailability(
        model=ModelRef(name="boats", version="1.0.0"),
        role="stable",
        state="enabled",
        serving=True,
        engine=engine.name,
        engine_reason=engine.reason,
        since=utc_now(),
    )
    return WorkerAvailability(
        lane="default",
        worker=worker,
        activation=None,
        settled=True,
        state="enabled",
        models=[model],
        reported_at=utc_now(),
        valid_s=60,
    )


def test_status_shows_a_fallback_engine_with_the_failure_of_the_first() -> None:
    well, ill = (
        FallbackEngine(
            Named("quick", fails), lambda: Named("steady", False), "quick f32: the fastest of 2 measured ways"
        )
        for fails in (False, True)
    )
    for _ in range(FAILURES_IN_A_ROW):
        ill.run(np.zeros((1, 8, 8, 3), np.uint8))
    out = io.StringIO()
    here = Context(None, out=Console(file=out, width=200))
    show(here, "default", None, [report("a", well), report("c", ill), report("b", well)])
    lines = out.getvalue().splitlines()
    assert "  a, b: boats 1.0.0 on quick f32: the fastest of 2 measured ways; quick computes" in lines
    assert "  c: boats 1.0.0 on steady: engine quick failed 5 times in a row ([it] broke); steady computes" in lines


def test_workers_that_refuse_a_version_for_the_same_reason_share_a_line() -> None:
    refused = {
        worker: [
            ModelAvailability(
                model=ModelRef(name="boats", version="2"),
                role="stable",
                state="warning",
                serving=False,
                detail=detail,
                since=utc_now(),
            )
        ]
        for worker, detail in (("a", "it is damaged"), ("b", "no memory"), ("c", "it is damaged"))
    }
    assert refusals(refused) == ["a, c refuse boats 2: it is damaged", "b refuses boats 2: no memory"]
