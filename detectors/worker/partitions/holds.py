"""Holds lanes whose work can't go on, and says in health what is held and why, for as long as anything is."""

from __future__ import annotations

import asyncio
import logging
from weakref import WeakKeyDictionary

from detectors.worker.partitions.frames_in_progress import Flow
from detectors.worker.partitions.partition_queue import Entry, Lane
from infra.failure.metrics import RETRIES
from infra.failure.retry import Backoff, ConsumerContext, StoppedError

logger = logging.getLogger(__name__)

# How late a stop, or the loss of a partition, is noticed by an entry that waits.
_LOOK_S = 0.25


class Sign:
    """Something that passes when a step works again, for a step that has nothing else to stand for it."""


class Holding:
    """All entries that wait for their next try. One that passes wakes the others that were held for the same thing."""

    def __init__(self, flow: Flow, work: ConsumerContext) -> None:
        self._flow = flow
        self._work = work
        self._held: dict[str, set[Entry]] = {}
        # A model may be replaced while frames wait for it, and then passes no more: nothing here keeps it in memory.
        self._passed: WeakKeyDictionary[object, asyncio.Event] = WeakKeyDictionary()

    def hold(self, lane: Lane, entry: Entry, what: str, code: str, reason: str) -> None:
        """Hold ``lane`` because of ``entry``; ``what``: the step that does not work (bounded), ``code``: of its error.

        Health shows ``reason``, the latest of each step.
        """
        held = self._held.setdefault(what, set())
        if not held:
            logger.warning("waiting: %s: %s", what, reason, extra={"code": code, "lane": lane.number})
        held.add(entry)
        RETRIES.labels(self._work.group, code).inc()
        self._work.health.beat_if_expected()
        self._work.health.set_waiting(what, f"{what}: {reason}")
        self._flow.hold(lane, entry)

    def end(self, lane: Lane, entry: Entry) -> None:
        """``entry`` is not held any more: it passed, is dead, void, or given up."""
        self._flow.go_on(lane, entry)
        for what in [what for what, held in self._held.items() if entry in held]:
            self._held[what].discard(entry)
            if not self._held[what]:
                del self._held[what]
                self._work.health.clear_waiting(what)
                logger.info("no longer waiting: %s", what)

    def passed(self, sign: object) -> None:
        """Let those that wait for ``sign`` try soon."""
        if self._passed and (woken := self._passed.pop(sign, None)) is not None:
            woken.set()

    async def pause(self, entry: Entry, backoff: Backoff, sign: object | None = None) -> None:
        """Wait until ``entry`` may be tried again, or is void; ends early when something passed that is a ``sign``.

        Raises StoppedError when the process stops: what is held is left uncommitted, for the next worker.
        """
        clock = asyncio.get_running_loop().time
        start, due = clock(), clock() + backoff.next_delay_s()
        woken = self._passed.setdefault(sign, asyncio.Event()) if sign is not None else None
        while not entry.void and (left := due - clock()) > 0:
            if self._work.stop.is_set():
                raise StoppedError("a frame that can't be answered just now is left for the next worker")
            if woken is not None and woken.is_set():
                # Not at once and without end: others may pass all the time while this one fails.
                due = min(due, start + self._work.policy.first_delay_s)
            try:
                async with asyncio.timeout(min(left, _LOOK_S)):
                    await self._work.stop.wait()
            except TimeoutError:
                continue
