"""Pulls one source as long as this process has it, and tries again what failed."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from infra.failure.backoff import Backoff
from infra.failure.settings import RetrySettings
from infra.process.health import HealthPart
from infra.process.monotonic import monotonic_s
from infra.telemetry.logs import redact
from ingest.acceptance.acceptance import Acceptance
from ingest.settings import VideoSettings
from ingest.sources.acceptor import SourceAcceptor
from ingest.sources.address import full_address
from ingest.sources.errors import LeaseLostError
from ingest.sources.lease import Lease
from ingest.sources.metrics import LEASES_LOST
from ingest.sources.options import video_source
from ingest.sources.settings import SourcesSettings
from ingest.sources.table import Report, TakenSource
from ingest.video.counts import VideoCounts
from ingest.video.options import VideoSource
from ingest.video.pull import VideoPull
from ingest.video.reading import SourceState
from schemas.errors import StandgaleError

logger = logging.getLogger(__name__)

_FAILED = RetrySettings(first_delay_s=2.0, max_delay_s=60.0)
"""A source that cannot be read may be repaired: its address, its login, the camera"""
_MAX_REASON = 1_000


@dataclass(frozen=True, slots=True)
class PullParts:
    """Holds what all sources of a process share."""

    acceptance: Acceptance
    sources: SourcesSettings
    video: VideoSettings
    retries: RetrySettings
    logins: Path


class RunningSource:
    """Is one source of this process, from taking it to giving it up."""

    def __init__(self, taken: TakenSource, parts: PullParts) -> None:
        """Begin at :meth:`start`; ``taken`` says how far the holder before came."""
        self.taken = taken
        self.lease = Lease(taken.name, taken.lease)
        self.state = SourceState(
            counts=_counts(taken.counts),
            began_at=taken.began_at,
            last_at=taken.accepted_at,
            accepted_at=taken.accepted_at,
            resume_after=taken.accepted_at,
        )
        self._parts = parts
        self._health = HealthPart(f"video {taken.name}", silence_s=0.0, clock=lambda: 0.0, is_exported=False)
        self._stop = asyncio.Event()
        self._stopping_since_s: float | None = None
        self._failure: str | None = None
        self._failed_after = 0
        """How many frames had been accepted then; with more it works again"""
        self._has_ended = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start pulling; the lease was extended before."""
        self._task = asyncio.create_task(self._run(), name=f"source {self.taken.name}")

    def stop(self) -> None:
        """Ask it to end; it is :attr:`done` some moments later."""
        if self._stopping_since_s is None:
            self._stopping_since_s = monotonic_s()
        self._stop.set()

    @property
    def is_stopping(self) -> bool:
        """Whether it was asked to end."""
        return self._stop.is_set()

    @property
    def stopping_s(self) -> float:
        """For how long it has been asked to end without being done; 0: it was not, or is done."""
        return 0.0 if self._stopping_since_s is None or self.done else monotonic_s() - self._stopping_since_s

    @property
    def done(self) -> bool:
        """Whether nothing of it runs any more."""
        return self._task is not None and self._task.done()

    async def wait(self, timeout_s: float) -> None:
        """Wait until it is done, at most ``timeout_s``; then it is cancelled."""
        assert self._task is not None
        await asyncio.wait({self._task}, timeout=timeout_s)
        if not self._task.done():
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    @property
    def status(self) -> tuple[str, str | None]:
        """The state (pulling, waiting, failed or ended), and the reason for one that is not "pulling"."""
        if self._has_ended:
            return "ended", None
        if self._failure is not None and self.state.counts.accepted == self._failed_after:
            return "failed", self._failure
        if self.is_stopping:
            return "waiting", None
        reason = self._health.reason
        return ("pulling", None) if reason is None else ("waiting", redact(reason)[:_MAX_REASON])

    def report(self, *, gives_up: bool = False) -> Report:
        """Return what the database keeps about it."""
        state, reason = self.status
        return Report(
            name=self.taken.name,
            lease=self.taken.lease,
            state=state,
            reason=reason,
            counts=asdict(self.state.counts),
            lag_s=round(self.state.lag_s(), 3),
            began_at=self.state.began_at,
            accepted_at=self.state.accepted_at,
            gives_up=gives_up,
        )

    async def _run(self) -> None:
        expiry = asyncio.create_task(self._end_with_lease())
        backoff = Backoff(_FAILED)
        try:
            while not self._stop.is_set():
                accepted = self.state.counts.accepted
                if not await self._pull_once():
                    return
                if self.state.counts.accepted > accepted:
                    backoff.reset()
                await backoff.wait(self._stop)
        finally:
            expiry.cancel()

    async def _pull_once(self) -> bool:
        """Pull until it ends; return whether that was a failure, which is tried again."""
        taken, parts = self.taken, self._parts
        self.state.resume_after = self.state.accepted_at
        try:
            # In a thread: a folder of logins may be on another machine.
            source = await asyncio.to_thread(self._source)
            acceptor = SourceAcceptor(parts.acceptance, taken.device_id, self.lease)
            pull = VideoPull(source, acceptor, parts.video, parts.retries, state=self.state, renew=self._source)
            await pull.run(self._stop, self._health)
            self._has_ended = not self._stop.is_set()
            return False
        except LeaseLostError as error:
            LEASES_LOST.inc()
            logger.warning("%s", error, extra={"source": taken.name})
            self.stop()
            return False
        except StandgaleError as error:
            self._fail(redact(str(error)), None)
        except Exception as error:  # noqa: BLE001 (one source must not end the others)
            self._fail(f"an error of the program ({type(error).__name__}); see the log", error)
        return True

    def _source(self) -> VideoSource:
        """Return what is read, with its login as it is in the file now."""
        taken, parts = self.taken, self._parts
        address = full_address(
            taken.name,
            taken.address,
            has_login=taken.has_login,
            logins=parts.logins,
            folders=parts.sources.folders,
        )
        return video_source(taken.name, address, taken.options)

    def _fail(self, reason: str, error: Exception | None) -> None:
        if self._failure != reason[:_MAX_REASON]:
            logger.error(
                "source %s cannot be pulled: %s; it is tried again",
                self.taken.name,
                reason,
                exc_info=error,
                extra={"source": self.taken.name},
            )
        self._failure, self._failed_after = reason[:_MAX_REASON], self.state.counts.accepted

    async def _end_with_lease(self) -> None:
        """Leave the camera when the lease ends, so that its next holder is alone with it."""
        while (remaining_s := self.lease.remaining_s()) > 0:  # noqa: ASYNC110 (it is extended again and again)
            await asyncio.sleep(min(remaining_s, 1.0))
        LEASES_LOST.inc()
        logger.warning(
            "source %s: its lease was not renewed (sources.lease_s); it is pulled here no longer",
            self.taken.name,
            extra={"source": self.taken.name},
        )
        self.stop()


def _counts(stored: dict[str, int]) -> VideoCounts:
    """Return the counts that the holder before reported; a newer version may have others."""
    known = {each.name for each in fields(VideoCounts)}
    return VideoCounts(**{name: value for name, value in stored.items() if name in known and isinstance(value, int)})
