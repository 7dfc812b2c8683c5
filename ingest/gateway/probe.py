"""Asks a part behind the gateway now and then whether it is there, so that readiness is true when no frame comes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from infra.errors import TransientError
from infra.health import HealthPart

log = logging.getLogger(__name__)


class DependencyProbe:
    """A component that keeps the health of one part up to date by calling ``check``, which raises while it is away."""

    def __init__(
        self, name: str, check: Callable[[], Awaitable[object]], *, interval_s: float = 5.0, timeout_s: float = 5.0
    ) -> None:
        self.name = name
        self._check = check
        self._interval_s = interval_s
        self._timeout_s = timeout_s

    async def run(self, stop: asyncio.Event, health: HealthPart) -> None:
        """Ask until ``stop`` is set."""
        while not stop.is_set():
            reason = await self._reason()
            if reason is None:
                health.ready()
            else:
                health.not_ready(reason)
            try:
                await asyncio.wait_for(stop.wait(), self._interval_s)
            except TimeoutError:
                continue

    async def _reason(self) -> str | None:
        """Why the part is not ready, by its error's stable code (probes show it to anybody); None if it is."""
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._check()
        except TransientError as error:
            log.warning("%s is away: %s", self.name, error, extra={"code": error.code})
            return error.code
        except TimeoutError:
            log.warning("%s did not answer within %g s", self.name, self._timeout_s)
            return "no answer in time"
        return None
