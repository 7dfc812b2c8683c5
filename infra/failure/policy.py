"""The one failure policy: the world's faults are retried, a record's own go to the dead letters, nothing is lost."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar
from uuid import UUID

import orjson

from infra.broker.port import InRecord, Loss, OutRecord
from infra.errors import TransientError
from infra.event_records import event_record
from infra.failure.redrive import letter_of
from infra.process.health import HealthPart
from infra.settings import RetrySettings
from infra.telemetry import metrics
from infra.telemetry.logs import redact
from infra.telemetry.tracing import Trace, trace_of
from schemas.errors import StandgaleError
from schemas.events import DeadLetter, LostRange, OriginalRecord
from schemas.ids import dead_letter_id, lost_range_id, next_dead_letter_id
from schemas.timestamps import utc_now

logger = logging.getLogger(__name__)

UNEXPECTED = "UNEXPECTED_ERROR"
RECORDS_LOST = "RECORDS_LOST"
"""The reason of a dead letter that tells of records which retention deleted before they were read."""
_LONGEST_MESSAGE = 4_000
_NO_KEY = "unknown"
STOP_TIMEOUT_S = 8.0
"""How long what is under way may take when the process stops; well below telemetry.drain_timeout_s."""

ResultT = TypeVar("ResultT")


class StoppedError(StandgaleError):
    """The process is stopping; what was being retried was given up, and nothing of it was committed."""

    code = "STOPPED"


def is_transient(error: BaseException) -> bool:
    """Whether the same call may succeed later by itself.

    An OSError (connection, time-out, full disk) is always the world's fault and never a record's, so it counts too,
    wherever an adapter let one through.
    """
    return isinstance(error, TransientError | OSError)


def error_code(error: BaseException) -> str:
    """The stable, bounded name of ``error`` for metrics, logs and dead letters."""
    if isinstance(error, StandgaleError):
        return error.code
    return TransientError.code if is_transient(error) else UNEXPECTED


def error_text(error: BaseException) -> str:
    """``error`` for people: never a known secret, never longer than a dead letter takes."""
    text = str(error) if isinstance(error, StandgaleError) else f"{type(error).__name__}: {error}"
    return redact(text)[:_LONGEST_MESSAGE]


class Backoff:
    """Delays that double up to a limit; each is drawn from its upper half, so that many clients do not come as one."""

    def __init__(self, policy: RetrySettings, *, rng: random.Random | None = None) -> None:
        self._policy = policy
        # A generator of its own would be seeded from the system, once per frame and per poll.
        self._uniform = random.uniform if rng is None else rng.uniform
        self._next_s = policy.first_delay_s

    def next_delay_s(self) -> float:
        """How long to wait before the next try."""
        whole = min(self._next_s, self._policy.max_delay_s)
        self._next_s = min(whole * 2, self._policy.max_delay_s)
        return whole * self._uniform(0.5, 1.0)

    def reset(self) -> None:
        """It worked: begin again with the first delay."""
        self._next_s = self._policy.first_delay_s

    async def wait(self, stop: asyncio.Event) -> bool:
        """Wait for the next delay, or less when ``stop`` is set; whether to try again."""
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), self.next_delay_s())
        return not stop.is_set()


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
    """The result of ``operation``, tried until it succeeds or ``stop`` is set (StoppedError).

    Only the world's faults (:func:`is_transient`) are retried, with growing delays; any other error is raised at once.
    Meanwhile ``health`` is not ready and says that ``what`` ("writing to postgres") is waiting and why.
    ``before_retry`` runs before each further try (to look whether it still makes sense: what it raises ends the
    retrying). ``group`` (a consumer group, bounded) labels the metric.
    """
    backoff = Backoff(policy)
    tries = 0
    try:
        while True:
            health.beat_if_expected()
            try:
                return await operation()
            except Exception as error:
                if not is_transient(error):
                    raise
                tries += 1
                _tell_waiting(error, what, tries, health, group)
                if not await backoff.wait(stop):
                    raise StoppedError(f"{what}: given up after {tries} tries because the process stops") from error
            if before_retry is not None:
                await before_retry()
    finally:
        if tries:
            health.clear_waiting(what)
            logger.info("no longer waiting: %s", what, extra={"tries": tries, "group": group})


async def run_until_stop(
    operation: Awaitable[ResultT], stop: asyncio.Event, what: str, timeout_s: float = STOP_TIMEOUT_S
) -> ResultT:
    """The result of ``operation``; StoppedError when it is under way still ``timeout_s`` after ``stop`` was set.

    It is cancelled then and not waited for: what hangs, a database that is frozen for example, may hang at that too.
    """
    task, stopped = asyncio.ensure_future(operation), asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            await asyncio.wait({task}, timeout=timeout_s)
        if not task.done():
            raise StoppedError(f"{what}: left under way after {timeout_s:g} s because the process stops")
        return await task
    finally:
        stopped.cancel()
        # Whatever becomes of it now, nobody asks any more.
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        task.cancel()


def _tell_waiting(error: Exception, what: str, tries: int, health: HealthPart, group: str) -> None:
    code = error_code(error)
    metrics.RETRIES.labels(group, code).inc()
    reason = f"{what}: {error_text(error)}"
    health.set_waiting(what, reason)
    # The first failure and then each tenth: a long outage must not fill the disk with logs.
    level = logging.WARNING if tries % 10 == 1 else logging.DEBUG
    logger.log(level, "waiting: %s", reason, extra={"code": code, "tries": tries, "group": group})


@dataclass(frozen=True, slots=True)
class ConsumerContext:
    """What every step of a consumer needs: the policy, when to stop, whom to tell, and for which group."""

    policy: RetrySettings
    stop: asyncio.Event
    health: HealthPart
    group: str

    async def retry(
        self,
        operation: Callable[[], Awaitable[ResultT]],
        what: str,
        before_retry: Callable[[], Awaitable[None]] | None = None,
    ) -> ResultT:
        """:func:`retry` under this policy."""
        return await retry(
            operation,
            policy=self.policy,
            stop=self.stop,
            health=self.health,
            what=what,
            group=self.group,
            before_retry=before_retry,
        )


def dead_letter(
    record: InRecord,
    *,
    group: str,
    error: BaseException,
    attempts: int,
    topic: str,
    whole: bool = True,
) -> OutRecord:
    """The dead letter of ``record`` for ``topic``, with the reason and the original byte for byte.

    The same record failing in the same group has the same id, however often it is told. With ``whole`` False the
    original's value and headers are left out (for one too large for the dead-letter topic): the letter then says where
    the original stands, and re-driving reads it there.
    """
    device_id, frame_id = _ids(record)
    message = error_text(error)
    if not whole:
        size = len(record.value or b"")
        note = f" (original of {size} bytes left out: it is larger than {topic} takes; it stands at its own place)"
        message = message[: _LONGEST_MESSAGE - len(note)] + note
    letter = DeadLetter(
        id=_letter_id(record, group),
        group=group,
        reason=error_code(error),
        message=message,
        attempts=attempts,
        failed_at=utc_now(),
        device_id=device_id,
        frame_id=frame_id,
        original=OriginalRecord(
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            # Kafka says -1 where a record has no time.
            timestamp_ms=max(0, record.timestamp_ms),
            key=record.key,
            value=record.value if whole else None,
            headers=list(record.headers) if whole else [],
            omitted=not whole,
        ),
    )
    return _as_record(letter, topic, trace_of(record.headers))


def _letter_id(record: InRecord, group: str) -> UUID:
    former = letter_of(record.headers)
    if former is not None:
        return next_dead_letter_id(*former)
    return dead_letter_id(group, record.topic, record.partition, record.offset)


def lost_letter(loss: Loss, *, group: str, topic: str) -> OutRecord:
    """The one dead letter for ``topic`` that tells of all records in ``loss``; the same loss has the same id."""
    place = loss.source
    letter = DeadLetter(
        id=lost_range_id(group, place.topic, place.partition, loss.first, loss.end),
        group=group,
        reason=RECORDS_LOST,
        message=loss_text(loss, group),
        attempts=1,
        failed_at=utc_now(),
        original=OriginalRecord(
            topic=place.topic,
            partition=place.partition,
            offset=loss.first,
            timestamp_ms=0,
            key=None,
            value=None,
            headers=[],
            omitted=True,
        ),
        lost=LostRange(first=loss.first, end=loss.end),
    )
    return _as_record(letter, topic)


def _as_record(letter: DeadLetter, topic: str, trace: Trace | None = None) -> OutRecord:
    return event_record(
        topic,
        letter,
        id=letter.id,
        source=f"standgale/{letter.group}",
        subject=letter.device_id,
        time=letter.failed_at,
        key=letter.original.key or letter.device_id or _NO_KEY,
        trace=trace,
    )


def loss_text(loss: Loss, group: str) -> str:
    """What was lost, why, and what to do, for log, health and dead letter."""
    return (
        f"up to {loss.end - loss.first} records of {loss.source.topic}/{loss.source.partition} (offsets {loss.first} "
        f"to {loss.end - 1}) were deleted by the topic's retention before group {group} read them; let the group run "
        f"more often than retention_s of {loss.source.topic} in topics.yaml, or raise that"
    )


def report_loss(loss: Loss, group: str) -> None:
    """Log and count ``loss``; call it once the loss is committed, so that it is counted once."""
    metrics.RECORDS_LOST.labels(group, loss.source.topic).inc(loss.end - loss.first)
    logger.error("%s", loss_text(loss, group), extra={"code": RECORDS_LOST, "topic": loss.source.topic})


def _ids(record: InRecord) -> tuple[str | None, UUID | None]:
    """Device and frame of a record, as far as they can be read from whatever it holds; the key is the device id."""
    device_id, frame_id = record.key, None
    try:
        data = orjson.loads(record.value or b"null")
    except orjson.JSONDecodeError:
        return device_id, None
    if isinstance(data, dict):
        named = data.get("device_id")
        device_id = named if isinstance(named, str) else device_id
        with suppress(ValueError):
            frame_id = UUID(str(data.get("frame_id")))
    return device_id, frame_id
