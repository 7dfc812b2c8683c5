"""Keeps this process's share of the sources: takes, renews and gives up leases, and runs what it has."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
from collections import Counter
from collections.abc import Coroutine
from typing import TypeVar

from infra.failure.error_texts import error_text, is_transient
from infra.failure.retry import STOP_TIMEOUT_S
from infra.process.health import HealthPart
from infra.process.monotonic import monotonic_s
from infra.texts import counted
from ingest.sources.metrics import SOURCES
from ingest.sources.running import PullParts, RunningSource
from ingest.sources.table import Round, SourceTable
from schemas.errors import StandgaleError

logger = logging.getLogger(__name__)

ResultT = TypeVar("ResultT")

STATES = ("pulling", "waiting", "failed", "ended")
_WHAT = "reading the list of sources"


async def _within(timeout_s: float, work: Coroutine[None, None, ResultT], health: HealthPart) -> ResultT:
    """Return the result of ``work``; raise TimeoutError after ``timeout_s``, and do not wait for its cancellation.

    A call to a database that is frozen hangs in that, too. What it does later is harmless: leases have numbers.
    """
    task = asyncio.ensure_future(work)
    try:
        if not await health.wait_for(task, timeout_s):
            raise TimeoutError(f"no answer within {timeout_s:g} s")
        return task.result()
    finally:
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        task.cancel()


def puller_name() -> str:
    """Return a name for this start of this process: a restarted one must not take the leases of the one before."""
    return f"{socket.gethostname()[:200]}-{os.getpid()}-{secrets.token_hex(4)}"


class SourceKeeper:
    """Looks at the table again and again; between two looks it pulls what it has, also while the database is away."""

    def __init__(self, table: SourceTable, parts: PullParts, puller: str | None = None) -> None:
        self._table = table
        self._parts = parts
        self.puller = puller or puller_name()
        self.running: dict[str, RunningSource] = {}
        """By name; also those that are ending"""
        self._last_problem: str | None = None
        self._left_out = 0
        self._hanging: set[str] = set()

    async def run(self, stop: asyncio.Event, health: HealthPart) -> None:
        """Keep the share until ``stop`` is set, then give everything up."""
        try:
            while not stop.is_set():
                await self._look(health)
                await health.pause(self._parts.sources.poll_s, stop)
        finally:
            await self._leave(health)

    async def _look(self, health: HealthPart) -> None:
        settings = self._parts.sources
        done = [name for name, each in self.running.items() if each.done]
        reports = [each.report(gives_up=each.done) for each in self.running.values()]
        asked_at_s = monotonic_s()
        try:
            looking = self._table.look(self.puller, reports, lease_s=settings.lease_s, most=settings.most)
            found = await _within(settings.lease_s, looking, health)
        except (StandgaleError, OSError) as error:
            if isinstance(error, StandgaleError) and not is_transient(error):
                raise
            self._report_problem(error_text(error), health)
            self._forget_lost(done)
            self._show(health)
            return
        if self._last_problem is not None:
            logger.info("%s works again", _WHAT)
            self._last_problem = None
        health.clear_waiting(_WHAT)
        for name in done:
            del self.running[name]
        self._follow(found, asked_at_s)
        self._report_left_out(found)
        self._show(health)
        # A camera that is off is no reason to restart this process, or to send it no traffic.
        health.set_ready()

    def _follow(self, found: Round, asked_at_s: float) -> None:
        """Do what the table says: extend, end what is no longer ours or too much, begin what was taken."""
        lease_s = self._parts.sources.lease_s
        for name, each in self.running.items():
            if name in found.renewed:
                each.lease.extend(asked_at_s, lease_s)
            elif not each.is_stopping:
                logger.info("source %s was removed, or is another process's now", name, extra={"source": name})
                each.lease.end()
                each.stop()
        active = [each for name, each in self.running.items() if name in found.renewed and not each.is_stopping]
        for each in active[found.share :]:
            logger.info(
                "source %s is given up: %d are this process's share",
                each.taken.name,
                found.share,
                extra={"source": each.taken.name},
            )
            each.stop()
        for taken in found.taken:
            former = self.running.pop(taken.name, None)
            if former is not None:
                former.stop()
            running = self.running[taken.name] = RunningSource(taken, self._parts)
            running.lease.extend(asked_at_s, lease_s)
            logger.info("source %s is pulled here", taken.name, extra={"source": taken.name, "lease": taken.lease})
            running.start()

    def _report_left_out(self, found: Round) -> None:
        if found.left_out and not self._left_out:
            logger.warning(
                "%d more sources are this process's share than sources.most (%d) allows, and no process pulls them: "
                "start more processes, or raise it",
                found.left_out,
                self._parts.sources.most,
            )
        self._left_out = found.left_out

    def _forget_lost(self, done: list[str]) -> None:
        """Forget what ended with its lease: there is nothing to give up."""
        for name in done:
            if self.running[name].lease.remaining_s() <= 0:
                del self.running[name]

    def _report_problem(self, reason: str, health: HealthPart) -> None:
        health.set_waiting(_WHAT, f"{_WHAT}: {reason}")
        if reason != self._last_problem:
            logger.warning("%s: %s; it is tried again, and sources are pulled until their leases end", _WHAT, reason)
        self._last_problem = reason

    def _show(self, health: HealthPart) -> None:
        states = Counter(each.status[0] for each in self.running.values())
        for state in STATES:
            SOURCES.labels(state).set(states[state])
        texts = [f"{states[state]} {state}" for state in STATES if states[state]]
        more = f"; {self._left_out} more are not pulled, by sources.most" if self._left_out else ""
        text = f"{counted(len(self.running), 'source')} ({', '.join(texts)}){more}"
        health.set_note("sources", text if texts or more else None)
        self._show_hanging(health)

    def _show_hanging(self, health: HealthPart) -> None:
        """Report sources whose threads do not end; only a restart of the process ends those."""
        hanging = {name: each.stopping_s for name, each in self.running.items() if each.stopping_s > health.silence_s}
        for name in self._hanging - hanging.keys():
            health.clear_waiting(f"ending source {name}")
        for name, seconds in hanging.items():
            health.set_hanging(f"ending source {name}", f"source {name} has not ended for {seconds:.0f} s")
        self._hanging = set(hanging)

    async def _leave(self, health: HealthPart) -> None:
        for each in self.running.values():
            each.stop()
        await asyncio.gather(*(each.wait(STOP_TIMEOUT_S) for each in self.running.values()))
        reports = [each.report(gives_up=True) for each in self.running.values()]
        self.running.clear()
        for state in STATES:
            SOURCES.labels(state).set(0)
        try:
            await _within(STOP_TIMEOUT_S / 2, self._table.leave(self.puller, reports), health)
        except (StandgaleError, OSError) as error:
            logger.warning(
                "the sources could not be given up (%s); other processes pull them when the leases end",
                error_text(error),
            )
