"""Holds partitions whose frames cannot be processed now, and reports the reasons in health while they are held."""

from __future__ import annotations

import asyncio
import logging
from weakref import WeakKeyDictionary

from detectors.worker.partitions.frames_in_progress import FramesInProgress
from detectors.worker.partitions.partition_queue import PartitionQueue, PendingRecord
from infra.failure.backoff import Backoff
from infra.failure.metrics import RETRIES
from infra.failure.retry import ConsumerContext, StoppedError
from infra.waiting import wait_until_set

logger = logging.getLogger(__name__)

# How late a waiting record notices a stop, or the loss of its partition.
_CHECK_S = 0.25


class WakeSignal:
    """Identifies a step that no other object stands for, so that its success can wake the records that wait for it."""


class Holds:
    """Keeps the records that wait for their next attempt; the success of one wakes others that wait for the same."""

    def __init__(self, in_progress: FramesInProgress, context: ConsumerContext) -> None:
        self._in_progress = in_progress
        self._context = context
        self._held: dict[str, set[PendingRecord]] = {}
        # A model may be replaced while frames wait for it, and then never succeeds: nothing here keeps it in memory.
        self._wake_events: WeakKeyDictionary[object, asyncio.Event] = WeakKeyDictionary()

    def hold(self, queue: PartitionQueue, pending: PendingRecord, what: str, code: str, reason: str) -> None:
        """Hold ``queue`` because of ``pending``; health shows the latest ``reason`` of each step.

        ``what`` names the step that does not work (a bounded set), ``code`` is the code of its error.
        """
        held = self._held.setdefault(what, set())
        if not held:
            logger.warning(
                "partition %d waits: %s: %s",
                queue.partition,
                what,
                reason,
                extra={"code": code, "partition": queue.partition},
            )
        held.add(pending)
        RETRIES.labels(self._context.group, code).inc()
        self._context.health.beat_if_expected()
        self._context.health.set_waiting(what, f"{what}: {reason}")
        self._in_progress.hold(queue, pending)

    def release(self, queue: PartitionQueue, pending: PendingRecord) -> None:
        """Stop holding ``queue`` because of ``pending``, which is finished, void, or left to the next worker."""
        self._in_progress.release(queue, pending)
        for what in [what for what, held in self._held.items() if pending in held]:
            self._held[what].discard(pending)
            if not self._held[what]:
                del self._held[what]
                self._context.health.clear_waiting(what)
                logger.info("no partition waits any more: %s", what)

    def wake(self, signal: object) -> None:
        """Let the records that wait for ``signal`` try again soon."""
        if self._wake_events and (woken := self._wake_events.pop(signal, None)) is not None:
            woken.set()

    async def wait_for_retry(self, pending: PendingRecord, backoff: Backoff, signal: object | None = None) -> None:
        """Wait until ``pending`` may be tried again or is void; ``wake`` with the same ``signal`` ends the wait early.

        Raises StoppedError when the process stops: the record is left uncommitted, for the next worker.
        """
        clock = asyncio.get_running_loop().time
        start, due = clock(), clock() + backoff.next_delay_s()
        woken = self._wake_events.setdefault(signal, asyncio.Event()) if signal is not None else None
        while not pending.is_void and (left := due - clock()) > 0:
            if self._context.stop.is_set():
                raise StoppedError("a frame that cannot be processed now is left for the next worker")
            if woken is not None and woken.is_set():
                # Not at once and without end: other frames may succeed all the time while this one fails.
                due = min(due, start + self._context.policy.first_delay_s)
            await wait_until_set(self._context.stop, min(left, _CHECK_S))
