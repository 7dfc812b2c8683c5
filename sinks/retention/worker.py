"""Runs retention by its schedule, and sooner when all pictures together are too large; measures them meanwhile."""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime
from functools import partial

from infra.broker.port import Admin, Broker
from infra.database.pool import Database
from infra.errors import TransientError
from infra.failure.error_texts import error_text
from infra.failure.retry import StoppedError, retry
from infra.failure.rounds import Rounds, run_rounds
from infra.failure.settings import RetrySettings
from infra.process.health import HealthPart
from infra.process.monotonic import monotonic_s
from infra.storage.frames.port import FrameStore
from infra.texts import counted
from sinks.retention.errors import RetentionBusyError
from sinks.retention.looking.settled import take_snapshot
from sinks.retention.metrics import LAST_RUN, STORAGE_BYTES, STORAGE_LIMIT
from sinks.retention.policy import RunReport
from sinks.retention.port import FrameArchive
from sinks.retention.run import Retention
from sinks.retention.settings import GIGABYTE, RetentionSettings

logger = logging.getLogger(__name__)

_EVERY_S = 15.0
_TRY_AGAIN_S = 600.0
_BEAT_EVERY = 1_000
_LAST_RUN = "SELECT max(began_at) FROM retention_runs WHERE ended_at IS NOT NULL"
_NOW = "SELECT clock_timestamp()"


class RetentionWorker:
    """Is the component that runs retention; several processes may run it, and one at a time removes."""

    name = "retention"

    def __init__(
        self,
        broker: Broker,
        store: FrameStore,
        database: Database,
        settings: RetentionSettings,
        policy: RetrySettings,
        archive: FrameArchive | None = None,
        *,
        every_s: float = _EVERY_S,
    ) -> None:
        self._broker = broker
        self._store = store
        self._database = database
        self._settings = settings
        self._retry = policy
        self._archive = archive
        self._rounds = Rounds("removing frames", "old frames are still there", every_s, ready_in_spite=True)
        self._started_at: datetime | None = None
        self._measured_s: float | None = None
        self._bytes = 0
        self._not_before_s = monotonic_s()

    async def run(self, stop: asyncio.Event, health: HealthPart) -> None:
        """Work until ``stop`` is set; errors are shown and tried again, and everything else goes on meanwhile."""
        health.set_ready()
        try:
            admin = await retry(
                self._broker.admin, policy=self._retry, stop=stop, health=health, what="connecting to the broker"
            )
        except StoppedError:
            return
        try:
            await run_rounds(self._rounds, partial(self.work, admin, health), stop, health, self._retry)
        finally:
            await admin.close()

    async def work(self, admin: Admin, health: HealthPart) -> int:
        """Measure when it is time to; run when it is time to. Raises the errors of broker, store and database."""
        if self._measured_s is None or monotonic_s() - self._measured_s >= self._settings.measure_interval_s:
            await self._measure(admin, health)
        if not self._settings.cleanup_enabled or monotonic_s() < self._not_before_s or not await self._is_due():
            return 0
        # Whatever becomes of it, the next one is not at once: each lists the store.
        self._not_before_s = monotonic_s() + _TRY_AGAIN_S
        retention = Retention(self._store, self._database, admin, self._settings, self._archive)
        try:
            report = await retention.run(health.beat)
        except RetentionBusyError as error:
            logger.info("frames are not removed by this process: %s", error)
            return 0
        except TransientError as error:
            # What is removed by half is written down.
            logger.warning("frames are not removed: %s", error_text(error), extra={"code": error.code})
            health.set_note("removing", f"frames are not removed ({error.code})")
            return 0
        self._note(report, health)
        return 0

    async def _measure(self, admin: Admin, health: HealthPart) -> None:
        total, count = 0, 0
        async for stored in self._store.objects():
            total, count = total + stored.size_bytes, count + 1
            if count % _BEAT_EVERY == 0:
                health.beat()
        self._bytes = total
        STORAGE_BYTES.set(total)
        limit = self._settings.max_total_gb
        STORAGE_LIMIT.set(0 if limit is None else limit * GIGABYTE)
        warned = total > self._settings.warning_threshold_gb * GIGABYTE
        if warned:
            logger.warning(
                "all stored pictures have %.1f GB, more than retention.warning_threshold_gb (%g); %s",
                total / GIGABYTE,
                self._settings.warning_threshold_gb,
                "`standgale retention estimate` says how long there is room",
            )
        health.set_note("size", "more than retention.warning_threshold_gb is stored" if warned else None)
        if self._settings.cleanup_enabled:
            await take_snapshot(admin, self._database)
        self._measured_s = monotonic_s()

    async def _is_due(self) -> bool:
        """Whether the schedule has a time since the last run, or the last measurement was above the limit."""
        async with self._database.acquire() as connection:
            now: datetime = await connection.fetchval(_NOW)
            last: datetime | None = await connection.fetchval(_LAST_RUN)
        if self._started_at is None:
            self._started_at = now
        limit = self._settings.max_total_gb
        if limit is not None and self._bytes > limit * GIGABYTE:
            return True
        # A clock that was set back since the last run must not stop all runs until it is that time again.
        since = self._started_at if last is None or last > now else last
        return self._settings.next_after(since) <= now

    def _note(self, report: RunReport, health: HealthPart) -> None:
        removed = report.removed.values()
        pictures, size = sum(each.pictures for each in removed), sum(each.bytes for each in removed)
        self._bytes = report.objects.bytes - size
        STORAGE_BYTES.set(self._bytes)
        LAST_RUN.set_to_current_time()
        logger.info(
            "retention removed %s with %d bytes, and %s",
            counted(pictures, "picture"),
            size,
            counted(report.removed_frames, "frame"),
            extra={"over_bytes": report.over_bytes},
        )
        note = None
        if report.over_bytes:
            note = "more than retention.max_total_gb is stored, and everything else is kept (pins, confident, needed)"
            logger.warning("%s: %d bytes too many", note, report.over_bytes)
        health.set_note("removing", note)
