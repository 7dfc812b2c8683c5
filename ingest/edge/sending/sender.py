"""Sends the frames of the spool in order, and goes on trying until each is accepted or refused."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from random import uniform

from infra.failure.backoff import Backoff
from ingest.edge.port import SpoolUnavailableError
from ingest.edge.sending.failing import ALONE_ATTEMPTS, FailingFrames
from ingest.edge.sending.link import Link
from ingest.edge.sending.responses import NotSent, Outcome, Rejected
from ingest.edge.sending.turns import Turns
from ingest.edge.settings import EdgeSettings
from ingest.edge.spool.entry import Entry
from ingest.edge.spool.frame_file import DamagedFrameError, SpooledFrame
from ingest.edge.spool.refused import Refusal
from ingest.edge.spool.spool import Spool

logger = logging.getLogger(__name__)

_STOP_TIMEOUT_S = 8.0
"""How long the upload in progress may take at a stop."""

Send = Callable[[SpooledFrame], Awaitable[Outcome]]


class Sender:
    """Sends one frame at a time, so that frames arrive in order."""

    def __init__(self, spool: Spool, send: Send, settings: EdgeSettings) -> None:
        self.link = Link()
        self._spool = spool
        self._send = send
        self._turns = Turns(settings.backlog_share)
        self._backoff = Backoff(settings)
        self._failing = FailingFrames()

    async def run(self, stop: asyncio.Event) -> None:
        """Send until ``stop`` is set; then finish the upload in progress, if it takes no more than seconds."""
        stopped = asyncio.create_task(stop.wait())
        try:
            while not stop.is_set():
                step = asyncio.create_task(self._step(stop))
                await asyncio.wait({step, stopped}, return_when=asyncio.FIRST_COMPLETED)
                if not step.done():
                    await asyncio.wait({step}, timeout=_STOP_TIMEOUT_S if self._spool.is_sending else 0)
                if not step.done():
                    step.cancel()
                    # Not sent, as far as this device knows: the frame stays in the spool.
                    await asyncio.wait({step})
                    return
                step.result()
        finally:
            stopped.cancel()

    async def _step(self, stop: asyncio.Event) -> None:
        """Send one frame, or wait for one; after a failure, wait for the next attempt."""
        await self._spool.wait_for_frame()
        live, backlog = self._spool.heads()
        head = self._turns.choose(live, backlog)
        if head is None:
            return
        entry = self._failing.instead_of(head, self._spool)
        failure = await self._try_to_send(entry)
        if failure is None:
            self._backoff.reset()
            self._turns.sent(entry, live, backlog)
            return
        self._spool.put_back(entry)
        self.link.failed(failure, self._spool.frames)
        delay_s = max(self._backoff.next_delay_s(), failure.retry_after_s * uniform(1.0, 1.2))  # noqa: S311
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), delay_s)

    async def _try_to_send(self, entry: Entry) -> NotSent | None:
        """Send the frame of ``entry``; return why it was not sent, or None when it has left the queue."""
        try:
            try:
                frame = await self._spool.open(entry)
            except DamagedFrameError as error:
                await self._spool.set_damaged_aside(entry, error)
                return None
            if frame is None:
                return None
            outcome = await self._send(frame)
            if isinstance(outcome, NotSent):
                if not (outcome.may_be_frame and self._failing.failed_alone(entry)):
                    return outcome
                why = f"the gateway failed {ALONE_ATTEMPTS} times at this frame and accepted others: {outcome.reason}"
                outcome = Rejected(outcome.code, why)
            if isinstance(outcome, Rejected):
                await self._spool.refuse(entry, frame, Refusal(code=outcome.code, reason=outcome.reason))
            else:
                await self._spool.finish(entry)
                self._failing.accepted(entry)
        except SpoolUnavailableError as error:
            return NotSent(str(error), error.code)
        self.link.responded(self._spool.frames, accepted=not isinstance(outcome, Rejected))
        return None
