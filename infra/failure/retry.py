"""Retries operations that fail with transient errors, with growing delays, until they succeed or the process stops."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from infra.failure.backoff import Backoff
from infra.failure.error_texts import error_code, error_text, is_transient
from infra.failure.metrics import RETRIES
from infra.failure.settings import RetrySettings
from infra.process.health import HealthPart
from infra.texts import counted
from schemas.errors import StandgaleError

logger = logging.getLogger(__name__)

STOP_TIMEOUT_S = 8.0
"""How long work in progress may take when the process stops; well below telemetry.drain_timeout_s."""

ResultT = TypeVar("ResultT")


class StoppedError(StandgaleError):
    """The process stops, so an operation was given up; nothing of it was committed."""

    code = "STOPPED"


async def retry(
    operation: Callable[[], Awaitable[ResultT]],
    *,
    policy: RetrySettings,
    stop: asyncio.Event,
    health: HealthPart,
    what: str,
    group: str = "",
    before_retry: Callable[[], Awaitable[None]] | None = None,
) -> ResultT:
    """Return the result of ``operation``, which is tried until it succeeds; raise StoppedError when ``stop`` is set.

    Only transient errors (:func:`is_transient`) are retried, with growing delays; any other error is raised at once.
    While it waits, ``health`` is not ready and shows that ``what`` ("writing to postgres") waits, and why.
    ``before_retry`` runs before each further attempt; an error from it ends the attempts. ``group`` (a consumer group)
    labels the metric.
    """
    backoff = Backoff(policy)
    tries = 0
    try:
        while True:
            health.beat_if_expected()
            try:
                result = await operation()
            except Exception as error:
                if not is_transient(error):
                    raise
                tries += 1
                _report_waiting(error, what, tries, health, group)
                if not await backoff.wait(stop):
                    raise StoppedError(
                        f"{what}: given up after {counted(tries, 'try', 'tries')} because the process stops"
                    ) from error
            else:
                if tries:
                    logger.info("%s: works again", what, extra={"tries": tries, "group": group})
                return result
            if before_retry is not None:
                await before_retry()
    finally:
        if tries:
            health.clear_waiting(what)


async def run_until_stop(
    operation: Awaitable[ResultT], stop: asyncio.Event, what: str, timeout_s: float = STOP_TIMEOUT_S
) -> ResultT:
    """Return the result of ``operation``; raise StoppedError when it still runs ``timeout_s`` after ``stop`` was set.

    It is then cancelled and not waited for, because a call to a frozen database may hang in its cancellation too.
    """
    task, stopped = asyncio.ensure_future(operation), asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            await asyncio.wait({task}, timeout=timeout_s)
        if not task.done():
            waited = f" after {timeout_s:g} s" if timeout_s else ""
            raise StoppedError(f"{what}: still in progress{waited} and left, because the process stops")
        return await task
    finally:
        stopped.cancel()
        # Its result is read here, because no other code does: an error would be logged as never retrieved.
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        task.cancel()


def _report_waiting(error: Exception, what: str, tries: int, health: HealthPart, group: str) -> None:
    code = error_code(error)
    RETRIES.labels(group, code).inc()
    reason = f"{what}: {error_text(error)}"
    health.set_waiting(what, reason)
    # The first failure and then each tenth: a long outage must not fill the disk with logs.
    level = logging.WARNING if tries % 10 == 1 else logging.DEBUG
    logger.log(level, "%s; it is tried again", reason, extra={"code": code, "tries": tries, "group": group})


@dataclass(frozen=True, slots=True)
class ConsumerContext:
    """Holds what every step of a consumer needs."""

    policy: RetrySettings
    """Delays and limits of retries"""
    stop: asyncio.Event
    """Set when the process stops"""
    health: HealthPart
    """Where waits are reported"""
    group: str
    """The consumer group, for metrics and logs"""

    async def retry(
        self,
        operation: Callable[[], Awaitable[ResultT]],
        what: str,
        before_retry: Callable[[], Awaitable[None]] | None = None,
    ) -> ResultT:
        """Call :func:`retry` with this context."""
        return await retry(
            operation,
            policy=self.policy,
            stop=self.stop,
            health=self.health,
            what=what,
            group=self.group,
            before_retry=before_retry,
        )
