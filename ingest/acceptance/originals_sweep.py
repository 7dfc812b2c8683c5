"""Removes uploads that were never announced; a component of the gateway."""

from __future__ import annotations

import asyncio
import logging

from infra.failure.error_texts import error_text
from infra.failure.retry import StoppedError, run_until_stop
from infra.process.health import HealthPart
from infra.storage.originals.port import OriginalUploads
from schemas.errors import StandgaleError

logger = logging.getLogger(__name__)

_NOTE = "originals"
_TIMES_VALID = 2
_MOST_OFTEN_S = 1.0
_LEAST_OFTEN_S = 600.0


class OriginalsSweep:
    """Sweeps from time to time; several gateways may do it at once. No error ends it, and it is always ready."""

    name = "originals"

    def __init__(self, originals: OriginalUploads, *, valid_s: float) -> None:
        """``valid_s``: how long the address of an upload is valid; what is twice as old is removed."""
        self._originals = originals
        self._max_age_s = _TIMES_VALID * valid_s
        self._pause_s = min(_LEAST_OFTEN_S, max(_MOST_OFTEN_S, valid_s / 4))
        self._failing = False

    async def run(self, stop: asyncio.Event, health: HealthPart) -> None:
        """Sweep until ``stop`` is set."""
        health.set_ready()
        while not stop.is_set():
            health.beat()
            try:
                work = self._originals.sweep(self._max_age_s)
                removed = await run_until_stop(work, stop, "sweeping originals", timeout_s=0.0)
            except StoppedError:
                return
            except Exception as error:  # noqa: BLE001 (uploads that stay longer do no harm; the next sweep removes them)
                self._report(error, health)
            else:
                self._failing = False
                health.set_note(_NOTE, None)
                if removed:
                    logger.info("%d uploads of originals were removed: never announced", removed)
            await health.pause(self._pause_s, stop)

    def _report(self, error: Exception, health: HealthPart) -> None:
        health.set_note(_NOTE, f"old uploads of originals cannot be removed: {error_text(error)}")
        # Once per outage.
        if not self._failing:
            known = isinstance(error, StandgaleError | OSError)
            logger.warning(
                "old uploads of originals cannot be removed: %s", error_text(error), exc_info=None if known else error
            )
        self._failing = True
