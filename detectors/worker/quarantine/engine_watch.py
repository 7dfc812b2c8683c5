"""Finds engines that hang: they have frames and finish no batch for too long, and only a restart may help."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from detectors.worker.pipeline.serving import LoadedModel
from detectors.worker.quarantine.quarantine import QuarantinePort
from infra.process.health import HealthPart

_WHAT = "engine"
_CHECKS_PER_SILENCE = 4
_LONGEST_PAUSE_S = 5.0


async def watch_engines(
    models: Callable[[], Sequence[LoadedModel]], health: HealthPart, quarantine: QuarantinePort
) -> None:
    """Report in health when an engine of ``models`` hangs, and when it works again; until cancelled.

    Polling only proves that the event loop runs, so the sign of life is a finished batch. The frames that a hanging
    engine has become suspects, so that a frame which makes an engine hang does so once.
    """
    suspected = False
    pause_s = min(health.silence_s / _CHECKS_PER_SILENCE, _LONGEST_PAUSE_S)
    while True:
        slowest = max(models(), key=lambda loaded: loaded.pipeline.stalled_s)
        stalled_s = slowest.pipeline.stalled_s
        if stalled_s > health.silence_s:
            if not suspected:
                quarantine.suspect_all_running()
                suspected = True
            health.set_hanging(
                _WHAT,
                f"engine {slowest.model.engine.name} of {slowest.ref.name} {slowest.ref.version} has not finished a "
                f"batch for {stalled_s:.0f} s while frames wait; restart this process, and look at the driver and at "
                "detector.engine if that does not help",
            )
        else:
            health.clear_waiting(_WHAT)
            suspected = False
        await asyncio.sleep(pause_s)
