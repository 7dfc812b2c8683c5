"""Watches the engines: one that has frames and gives nothing back for too long hangs, and only a restart may help."""

from __future__ import annotations

import asyncio

from detectors.worker.pipeline.serving import Roster
from detectors.worker.quarantine.quarantine import Guarding
from infra.process.health import HealthPart

_WHAT = "engine"
_LOOKS_PER_SILENCE = 4
_LONGEST_PAUSE_S = 5.0


async def watch_engines(roster: Roster, health: HealthPart, guard: Guarding) -> None:
    """Say in health when an engine hangs, and when it goes on; until cancelled.

    A worker that polls shows no more than that its event loop turns, so the sign of life is a finished batch. What a
    hung engine has is tried apart after the restart, so that a frame which makes it hang does so once.
    """
    accused = False
    pause_s = min(health.silence_s / _LOOKS_PER_SILENCE, _LONGEST_PAUSE_S)
    while True:
        slowest = max(roster.everyone, key=lambda served: served.pipeline.stalled_s)
        stalled_s = slowest.pipeline.stalled_s
        if stalled_s > health.silence_s:
            if not accused:
                guard.accuse()
                accused = True
            health.set_hanging(
                _WHAT,
                f"engine {slowest.model.engine.name} of {slowest.ref.name} {slowest.ref.version} has not finished a "
                f"batch for {stalled_s:.0f} s while frames wait; restart this process, and look at the driver and at "
                "detector.engine if that does not help",
            )
        else:
            health.clear_waiting(_WHAT)
            accused = False
        await asyncio.sleep(pause_s)
