"""Sends the frames of the spool: live ones and the backlog side by side, each in order, until all are answered."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Coroutine
from typing import Protocol

from infra.process.monotonic import monotonic_s
from infra.waiting import wait_until_set
from ingest.edge.port import SpoolUnavailableError
from ingest.edge.sending.failing import FailingFrames
from ingest.edge.sending.known import KnownImages
from ingest.edge.sending.link import Link
from ingest.edge.sending.outcomes import Outcomes
from ingest.edge.sending.responses import NotSent, Outcome
from ingest.edge.sending.stream import BacklogStream
from ingest.edge.sending.stream_messages import CLOSED, Ended
from ingest.edge.settings import EdgeSettings
from ingest.edge.spool.entry import Entry, Lane
from ingest.edge.spool.frame_file import DamagedFrameError, SpooledFrame
from ingest.edge.spool.spool import Spool

logger = logging.getLogger(__name__)

_STOP_TIMEOUT_S = 8.0
"""How long the uploads in progress may take at a stop."""
_LOOK_EVERY_S = 1.0
_NOT_THERE_S, _FAILING_S = 600.0, 60.0
"""How long the stream is not tried again where it is not there, and where it fails."""
_MOST_STREAM_FAILURES = 5
_OF_STREAM = (CLOSED, "STREAM_BROKEN", "NO_RESPONSE")
"""Failures that requests may not have; the others are those of the gateway itself."""


class Send(Protocol):
    """Uploads one frame."""

    def __call__(
        self, frame: SpooledFrame, lane: Lane, *, is_known: bool = False, maybe_sent: bool = False
    ) -> Awaitable[Outcome]:
        """Return what became of ``frame``; ``is_known``: the gateway has its image, ``maybe_sent``: maybe the frame."""
        ...


class Sender:
    """Sends one live frame at a time, and the backlog by the stream, or like live frames where there is none."""

    def __init__(self, spool: Spool, send: Send, settings: EdgeSettings) -> None:
        self.link = Link()
        self.stream: BacklogStream | None = None
        self.known: KnownImages | None = None
        self._spool = spool
        self._send = send
        self._failing = FailingFrames()
        self._outcomes = {lane: Outcomes(spool, self.link, self._failing, settings, lane) for lane in Lane}
        self._stream_not_before_s = 0.0
        self._stream_failures = 0

    @property
    def backlog_outcomes(self) -> Outcomes:
        """What the stream of the backlog does with answers."""
        return self._outcomes[Lane.BACKLOG]

    async def run(self, stop: asyncio.Event) -> None:
        """Send until ``stop`` is set; then finish the uploads in progress, if they take no more than seconds."""
        stopped = asyncio.create_task(stop.wait())
        work: list[Coroutine[None, None, None]] = [self._run_live(stop), self._run_backlog(stop)]
        lanes = [asyncio.create_task(each) for each in work]
        try:
            await asyncio.wait({*lanes, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if stop.is_set():
                await asyncio.wait(lanes, timeout=_STOP_TIMEOUT_S if self._spool.is_sending else 0.1)
            for lane in lanes:
                if lane.done():
                    lane.result()
        finally:
            for task in (*lanes, stopped):
                # Not sent, as far as this device knows: the frame stays in the spool.
                task.cancel()
            await asyncio.wait({*lanes, stopped})

    async def _run_live(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            await self._step(Lane.LIVE, stop)

    async def _run_backlog(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            if self.stream is None or monotonic_s() < self._stream_not_before_s:
                await self._step(Lane.BACKLOG, stop)
            elif self._spool.next_of(Lane.BACKLOG) is None and not self.stream.has_frames:
                await self._spool.wait_for_arrival(_LOOK_EVERY_S)
            else:
                await self._stream_backlog(self.stream, stop)

    async def _stream_backlog(self, stream: BacklogStream, stop: asyncio.Event) -> None:
        sent = self._spool.counts.sent
        ended = await stream.send(stop)
        if ended is Ended.TOO_LARGE:
            # By a request, which also says whether the gateway takes it at all.
            await self._step(Lane.BACKLOG, stop)
        if isinstance(ended, NotSent):
            if self._spool.counts.sent > sent or ended.code not in _OF_STREAM:
                self._stream_failures = 0
            self._stream_failures += ended.code in _OF_STREAM
            if self._stream_failures < _MOST_STREAM_FAILURES:
                await wait_until_set(stop, self._outcomes[Lane.BACKLOG].failed(None, ended))
                return
        if isinstance(ended, NotSent) or ended is Ended.NOT_THERE:
            seconds = _FAILING_S if isinstance(ended, NotSent) else _NOT_THERE_S
            self._stream_not_before_s = monotonic_s() + seconds
            self._stream_failures = 0
            stream.give_back()
            reason = ended.reason if isinstance(ended, NotSent) else ended.value
            logger.info("the backlog is sent one frame at a time for %g s: %s", seconds, reason)

    async def _step(self, lane: Lane, stop: asyncio.Event) -> None:
        """Send one frame of ``lane``, or wait for one; after a failure, wait for the next attempt."""
        head = self._spool.next_of(lane)
        if head is None:
            await self._spool.wait_for_arrival(_LOOK_EVERY_S)
            return
        entry = self._failing.instead_of(head, self._spool, lane)
        failure = await self._try_to_send(entry, lane)
        if failure is not None:
            await wait_until_set(stop, self._outcomes[lane].failed(entry, failure))

    async def _try_to_send(self, entry: Entry, lane: Lane) -> NotSent | None:
        """Send the frame of ``entry``; return why it was not sent, or None when it has left the queue."""
        try:
            is_known = lane is Lane.BACKLOG and self.known is not None and await self.known.has(entry)
            try:
                frame = await self._spool.open(entry, lane)
            except DamagedFrameError as error:
                await self._spool.set_damaged_aside(entry, error)
                return None
            if frame is None:
                return None
            maybe_sent, entry.maybe_sent = entry.maybe_sent, True
            outcome = await self._send(frame, lane, is_known=is_known, maybe_sent=maybe_sent)
            return await self._outcomes[lane].take(entry, outcome)
        except SpoolUnavailableError as error:
            return NotSent(str(error), error.code)
