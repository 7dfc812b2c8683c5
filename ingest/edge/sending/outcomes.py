"""Does to a frame of the spool what the gateway's answer asks for, and computes the pause after a failure."""

from __future__ import annotations

from random import uniform

from infra.failure.backoff import Backoff
from ingest.edge.sending.failing import ALONE_ATTEMPTS, FailingFrames
from ingest.edge.sending.link import Link
from ingest.edge.sending.responses import Accepted, NotSent, Outcome, Rejected
from ingest.edge.settings import EdgeSettings
from ingest.edge.spool.entry import Entry, Lane
from ingest.edge.spool.refused import Refusal
from ingest.edge.spool.spool import Spool

_INTERNAL_ERROR = "INTERNAL_ERROR"


class Outcomes:
    """Belongs to one queue of the spool; which frames fail alone is known to all of them."""

    def __init__(self, spool: Spool, link: Link, failing: FailingFrames, settings: EdgeSettings, lane: Lane) -> None:
        self._spool = spool
        self._link = link
        self._failing = failing
        self._lane = lane
        self._backoff = Backoff(settings)

    async def take(self, entry: Entry, outcome: Outcome) -> NotSent | None:
        """Take ``entry`` out of the queue, or return why it stays there. Raises SpoolUnavailableError."""
        if isinstance(outcome, Rejected) and outcome.code == _INTERNAL_ERROR:
            # The gateway failed, and may not do so at the next attempt.
            outcome = NotSent(f"the gateway fails at a frame: {outcome.reason}", outcome.code, may_be_frame=True)
        if isinstance(outcome, NotSent):
            if not (outcome.may_be_frame and self._failing.failed_alone(entry)):
                return outcome
            why = f"the gateway failed {ALONE_ATTEMPTS} times at this frame and accepted others: {outcome.reason}"
            outcome = Rejected(outcome.code, why)
        if isinstance(outcome, Rejected):
            frame = await self._spool.open(entry, self._lane)
            if frame is not None:
                await self._spool.refuse(entry, frame, Refusal(code=outcome.code, reason=outcome.reason))
        else:
            await self._spool.finish(entry)
            self._failing.accepted(entry)
        self._backoff.reset()
        self._link.responded(self._spool.frames, accepted=isinstance(outcome, Accepted))
        return None

    def failed(self, entry: Entry | None, why: NotSent) -> float:
        """Keep ``entry`` for another attempt; return how long to wait before it."""
        if entry is not None:
            self._spool.put_back(entry)
            if not why.may_be_frame:
                self._failing.unavailable(entry)
        self._link.failed(why, self._spool.frames)
        return max(self._backoff.next_delay_s(), why.retry_after_s * uniform(1.0, 1.2))  # noqa: S311
