"""Attempts deliveries that are due, many at a time, and keeps what became of each."""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import timedelta
from uuid import UUID

from infra.database.pool import Database
from infra.database.transaction import transaction
from infra.encryption.box import SecretBox, SecretUnreadableError
from infra.failure.error_texts import error_code, error_text
from infra.failure.rounds import Rounds, run_rounds
from infra.failure.settings import RetrySettings
from infra.process.health import HealthPart
from schemas.errors import StandgaleError
from sinks.metrics import WEBHOOK_CALLS
from sinks.webhooks.calls import Caller, Outcome
from sinks.webhooks.records import (
    Delivery,
    Hook,
    claim,
    disable,
    forget_finished,
    hooks_of,
    note_delivered,
    note_failed,
)
from sinks.webhooks.schedule import delay_after
from sinks.webhooks.settings import WebhookSettings
from sinks.webhooks.signing import headers_of

logger = logging.getLogger(__name__)

PURPOSE = "webhook"
"""What the secrets are encrypted for."""
_ROUNDS = Rounds("calling web-hooks", "web-hooks cannot be called", idle_s=0.5)
_FULL_S = 0.5
_FORGET_EVERY_S = 600.0
_DRAIN_S = 5.0
_MOST_TEXT = 500


class WebhookSender:
    """Is the component that calls; several processes share the deliveries.

    A delivery that is claimed belongs to its process until its next attempt is due; a process that is killed gives it
    back by that. A receiver may get a delivery twice, with the same ``webhook-id``, when its response was lost.
    """

    name = "webhook-sender"

    def __init__(self, database: Database, box: SecretBox, settings: WebhookSettings, retry: RetrySettings) -> None:
        self._database = database
        self._box = box
        self._settings = settings
        self._caller = Caller(settings)
        self._retry = retry
        self._lease = timedelta(seconds=2 * settings.timeout_s + 30.0)
        self._running: dict[asyncio.Task[None], UUID] = {}
        self._forgot_at = 0.0

    async def run(self, stop: asyncio.Event, health: HealthPart) -> None:
        """Call until ``stop`` is set; calls in progress get some seconds. After an error it is not ready."""
        try:
            await run_rounds(_ROUNDS, self._round, stop, health, self._retry)
        finally:
            if self._running:
                await asyncio.wait(self._running, timeout=_DRAIN_S)
            for task in self._running:
                task.cancel()
            await asyncio.gather(*self._running, return_exceptions=True)
            await self._caller.close()

    async def _round(self) -> int:
        started = await self.start_some()
        await self._forget()
        if len(self._running) >= self._settings.concurrency:
            await asyncio.wait(self._running, timeout=_FULL_S, return_when=asyncio.FIRST_COMPLETED)
            return 1
        return started

    async def start_some(self) -> int:
        """Start the deliveries that are due and for which there is room; return how many."""
        room = self._settings.concurrency - len(self._running)
        if room <= 0:
            return 0
        running = list(self._running.values())
        async with self._database.acquire(writing=True) as connection:
            due = await claim(connection, self._lease, room, self._settings.per_webhook, running)
            hooks = await hooks_of(connection, due) if due else {}
        for delivery in due:
            hook = hooks.get(delivery.webhook)
            if hook is not None:
                task = asyncio.create_task(self._deliver(delivery, hook), name=f"webhook-{hook.webhook_id}")
                self._running[task] = hook.id
                task.add_done_callback(self._running.pop)
        return len(due)

    async def drain(self) -> None:
        """Wait for the calls in progress."""
        while self._running:
            await asyncio.wait(list(self._running))

    async def _deliver(self, delivery: Delivery, hook: Hook) -> None:
        try:
            outcome = await self._call(delivery, hook)
            WEBHOOK_CALLS.labels("delivered" if outcome.error is None else "failed").inc()
            await self._note(delivery, hook, outcome)
        except (StandgaleError, OSError) as error:
            # It is attempted again when the lease ends; nothing is lost.
            logger.warning(
                "the outcome of a delivery to %s could not be kept: %s",
                hook.webhook_id,
                error_text(error),
                extra={"code": error_code(error)},
            )
        except Exception:
            logger.exception("a delivery to %s failed unexpectedly", hook.webhook_id)

    async def _call(self, delivery: Delivery, hook: Hook) -> Outcome:
        try:
            secret_texts = [
                self._box.decrypt(each, PURPOSE) for each in (hook.secret, hook.former_secret) if each is not None
            ]
        except SecretUnreadableError as error:
            return Outcome(None, str(error))
        headers = headers_of(str(delivery.id), int(time.time()), delivery.payload, secret_texts)
        return await self._caller.post(hook.url, delivery.payload, headers)

    async def _note(self, delivery: Delivery, hook: Hook, outcome: Outcome) -> None:
        async with self._database.acquire(writing=True) as connection, transaction(connection):
            if outcome.error is None:
                assert outcome.status is not None
                await note_delivered(connection, delivery, outcome.status)
                return
            text = outcome.error[:_MOST_TEXT]
            if outcome.is_gone:
                await note_failed(connection, delivery, outcome.status, text, None)
                await disable(connection, hook.id, "the receiver answered 410 Gone")
                logger.info("web-hook %s is disabled: its receiver answered 410 Gone", hook.webhook_id)
                return
            delay = delay_after(delivery.attempts, outcome.retry_after_s)
            await note_failed(connection, delivery, outcome.status, text, delay)
        if delay is None:
            WEBHOOK_CALLS.labels("dead").inc()
            logger.warning("a delivery to web-hook %s is a dead letter: %s", hook.webhook_id, text)

    async def _forget(self) -> None:
        now = time.monotonic()
        if self._forgot_at and now - self._forgot_at < _FORGET_EVERY_S:
            return
        async with self._database.acquire(writing=True) as connection:
            removed = await forget_finished(connection, timedelta(days=self._settings.keep_days))
        # A thousand at a time: with more, the next round goes on.
        self._forgot_at = now if removed < 1_000 else 0.0
