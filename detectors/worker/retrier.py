"""The failure policy bound to one worker, so that its steps say only what they do."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from infra.failure import Backoff, StoppedError, retrying
from infra.health import HealthPart
from infra.settings import RetrySettings

ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True)
class Retrier:
    """Retries what the world is in the way of until ``stop``; ``group`` labels the metrics."""

    policy: RetrySettings
    stop: asyncio.Event
    health: HealthPart
    group: str

    async def run(self, operation: Callable[[], Awaitable[ResultT]], what: str) -> ResultT:
        """The result of ``operation``, see :func:`infra.failure.retrying`. Raises StoppedError."""
        return await retrying(
            operation, policy=self.policy, stop=self.stop, health=self.health, what=what, group=self.group
        )

    async def pause(self, backoff: Backoff, what: str) -> None:
        """Wait before the next try of ``what``. Raises StoppedError when the process stops meanwhile."""
        if not await backoff.wait(self.stop):
            raise StoppedError(f"{what}: given up because the process stops")
