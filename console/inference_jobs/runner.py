"""Starts the processes of inference jobs, watches them, and starts those again that were lost."""

from __future__ import annotations

import asyncio
import logging
import time
from uuid import uuid4

from console.inference_jobs.leases import ClaimedJob, JobLeases
from console.inference_jobs.process import Ended, Launcher
from console.inference_settings import InferenceJobsSettings
from console.metrics import INFERENCE_STARTS
from infra.database.pool import Database
from infra.encryption.box import SecretBox
from infra.errors import TooSlowError
from infra.failure.error_texts import error_text
from infra.failure.rounds import Rounds, run_rounds
from infra.failure.settings import RetrySettings
from infra.process.health import HealthPart
from schemas.errors import StandgaleError

logger = logging.getLogger(__name__)

_ROUND_TIMEOUT_S = 20.0
# The call-back ends a job a moment before its process ends.
_GRACE_S = 15.0


class InferenceJobRunner:
    """Is the component that runs jobs; several consoles may run it, and each job is with one of them at a time.

    A job whose process was killed, alone or with its console, is started again, some times. Its results come by the
    call-back, so a process that was given up too early does no harm.
    """

    name = "inference-jobs"

    def __init__(
        self,
        database: Database,
        box: SecretBox,
        settings: InferenceJobsSettings,
        retry: RetrySettings,
        launcher: Launcher,
        base_url: str | None,
    ) -> None:
        """``base_url``: where the processes of jobs reach this console; None: unknown, so that none is started."""
        self._database = database
        self._settings = settings
        self._launcher = launcher
        self._base_url = base_url
        self._retry = retry
        self._rounds = Rounds(
            "running inference jobs", "new inference jobs are not started", settings.poll_s, ready_in_spite=True
        )
        self._leases = JobLeases(uuid4(), box, settings.lease_s, settings.attempts, settings.bucket)
        self._running: dict[int, asyncio.Task[Ended]] = {}
        self._lost_since: dict[int, float] = {}
        self._renewed = float("-inf")

    async def run(self, stop: asyncio.Event, health: HealthPart) -> None:
        """Run jobs until ``stop`` is set; then their processes are ended, and the jobs are given back."""
        if self._base_url is None:
            logger.warning(
                "inference jobs are not started: the port of the console is 0, so set inference_jobs.callback_url "
                "(STANDGALE_INFERENCE_JOBS__CALLBACK_URL)"
            )
        try:
            await run_rounds(self._rounds, self._timed_round, stop, health, self._retry)
        finally:
            await self._stop_all()

    async def _timed_round(self) -> int:
        try:
            async with asyncio.timeout(_ROUND_TIMEOUT_S):
                await self._round()
        except TimeoutError as error:
            raise TooSlowError(f"a look at inference jobs took longer than {_ROUND_TIMEOUT_S:g} s") from error
        return 0

    async def _round(self) -> None:
        """Write how processes ended, renew leases, and start jobs."""
        await self._settle()
        await self._renew()
        async with self._database.acquire(writing=True) as connection:
            for lost in await self._leases.give_up(connection):
                logger.error("inference job %d has failed: its process was lost too often", lost)
        free = self._settings.at_once - len(self._running)
        if free > 0 and self._base_url is not None:
            async with self._database.acquire(writing=True) as connection:
                claimed = await self._leases.claim(connection, free, self._base_url)
            for job in claimed:
                INFERENCE_STARTS.inc()
                self._running[job.id] = asyncio.create_task(self._limited(job), name=f"inference-job-{job.id}")

    async def _limited(self, job: ClaimedJob) -> Ended:
        limit_s = self._settings.time_limit_s
        try:
            async with asyncio.timeout(limit_s):
                return await self._launcher.run(job.id, job.variables)
        except TimeoutError:
            return Ended(f"it ran longer than {limit_s:g} s (inference_jobs.time_limit_s), and was ended", final=True)

    async def _settle(self) -> None:
        for job, task in list(self._running.items()):
            if not task.done():
                continue
            if task.cancelled():
                # The job is not this console's any more.
                self._forget(job)
                continue
            if (error := task.exception()) is None:
                ended = task.result()
            else:
                ended = Ended(f"its process could not be started: {error_text(error)}")
            async with self._database.acquire(writing=True) as connection:
                if ended.final:
                    await self._leases.fail(connection, job, ended.reason)
                else:
                    await self._leases.give_back(connection, job, ended.reason)
            self._forget(job)

    def _forget(self, job: int) -> None:
        del self._running[job]
        self._lost_since.pop(job, None)

    async def _renew(self) -> None:
        """Renew leases in time; a process whose job is another console's is ended."""
        now = time.monotonic()
        if not self._running or now - self._renewed < self._settings.lease_s / 3:
            return
        async with self._database.acquire(writing=True) as connection:
            kept = await self._leases.keep(connection, self._running.keys())
        self._renewed = now
        for job, task in self._running.items():
            if job in kept:
                self._lost_since.pop(job, None)
            elif now - self._lost_since.setdefault(job, now) > _GRACE_S:
                logger.warning("the process of inference job %d is ended: its job has ended, or is run elsewhere", job)
                task.cancel()

    async def _stop_all(self) -> None:
        for task in self._running.values():
            task.cancel()
        await asyncio.gather(*self._running.values(), return_exceptions=True)
        try:
            async with asyncio.timeout(_GRACE_S), self._database.acquire(writing=True) as connection:
                for job in self._running:
                    await self._leases.give_back(connection, job, None)
        except (StandgaleError, OSError, TimeoutError) as error:
            logger.warning("inference jobs are given back only when their leases end: %s", error_text(error))
        self._running.clear()
