"""Does work in rounds: at once while there is some, after a pause when there is none, later after errors."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from infra.failure.backoff import Backoff
from infra.failure.error_texts import error_code, error_text
from infra.failure.retry import StoppedError, run_until_stop
from infra.failure.settings import RetrySettings
from infra.process.health import HealthPart
from schemas.errors import StandgaleError

logger = logging.getLogger(__name__)

_LAST_ROUND_S = 5.0


@dataclass(frozen=True, slots=True)
class Rounds:
    """Describes work that a component does in rounds."""

    doing: str
    """What it is, for errors: "publishing the outbox" """
    waits: str
    """What an error means, for logs and health: "events wait in the outbox" """
    idle_s: float
    """The pause after a round without work"""
    busy_s: float = 0.0
    """The pause after a round with work"""
    ready_in_spite: bool = False
    """Whether the component stays ready after an error, which is a note then: others do not wait for its work"""


async def run_rounds(
    rounds: Rounds, work: Callable[[], Awaitable[int]], stop: asyncio.Event, health: HealthPart, retry: RetrySettings
) -> None:
    """Call ``work``, which returns how much it did, until ``stop`` is set; the last call gets some seconds to end.

    Errors that a server or the system causes are logged once, shown in health, and tried again; others are raised.
    """
    backoff, failing = Backoff(retry), False
    if rounds.ready_in_spite:
        health.set_ready()
    while not stop.is_set():
        health.beat()
        try:
            done = await run_until_stop(work(), stop, rounds.doing, timeout_s=_LAST_ROUND_S)
        except StoppedError:
            return
        except (StandgaleError, OSError) as error:
            _show(rounds, health, error)
            if not failing:
                logger.warning("%s: %s", rounds.waits, error_text(error), extra={"code": error_code(error)})
            failing = True
            await backoff.wait(stop)
            continue
        if failing:
            logger.info("%s no more", rounds.waits)
        failing = False
        backoff.reset()
        _show(rounds, health, None)
        pause_s = rounds.busy_s if done else rounds.idle_s
        if pause_s:
            await health.pause(pause_s, stop)


def _show(rounds: Rounds, health: HealthPart, error: Exception | None) -> None:
    if rounds.ready_in_spite:
        health.set_note(rounds.doing, None if error is None else f"{rounds.waits} ({error_code(error)})")
    elif error is None:
        health.set_ready()
    else:
        health.set_not_ready(error_text(error))
