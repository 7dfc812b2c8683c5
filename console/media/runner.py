"""Works on media, some at a time: fetches their bytes, makes their frames, and gives events to those that have an end.

All state is in the database: a medium whose process was killed is taken over when its lease has ended, and its frames
are made again from the stored bytes, with the same ids.
"""

from __future__ import annotations

import asyncio
import logging
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TypeVar
from uuid import UUID, uuid4

from console.media import records
from console.media.errors import (
    LeaseLostError,
    MediumError,
    MediumFetchError,
    MediumTooLargeError,
    UnauthorizedFetchError,
)
from console.media.fetching import FetchLaterError, MediaFetcher
from console.media.frames import KeptMedia
from console.media.records import PURPOSE, MediaFrame, Medium, Run
from console.media.settings import MediaSettings
from console.metrics import MEDIA, MEDIA_FRAMES
from infra.database.pool import Connection, Database
from infra.database.transaction import transaction
from infra.encryption.box import SecretBox
from infra.errors import RecordError, SettingsError
from infra.failure.backoff import Backoff
from infra.failure.error_texts import error_code, error_text, is_transient
from infra.failure.rounds import Rounds, run_rounds
from infra.failure.settings import RetrySettings
from infra.process.health import HealthPart
from infra.process.monotonic import monotonic_s
from schemas.errors import StandgaleError
from sinks.annotations.records import ask_for_refresh
from sinks.postgres.job_failures import public_text

logger = logging.getLogger(__name__)

ResultT = TypeVar("ResultT")

LEASE_S = 30.0
_IDLE_S = 0.2
_REFRESH_TURN_S = 5.0
"""How long a token may wait for its turn to be refreshed."""
_ROUND_S = 0.1
_MOST_FETCHES = 6
_MOST_TAKEOVERS = 5
"""A video that ends the process which reads it must not do so for ever."""
_INTERNAL = "INTERNAL_ERROR"


class MediaRunner:
    """Is the component that works on media; several processes may run it."""

    name = "media"

    def __init__(
        self,
        database: Database,
        kept: KeptMedia,
        box: SecretBox,
        settings: MediaSettings,
        retry: RetrySettings,
        *,
        lease_s: float = LEASE_S,
    ) -> None:
        self._rounds = Rounds("working on media", "media wait", _IDLE_S)
        self._database = database
        self._kept = kept
        self._box = box
        self._settings = settings
        self._retry = retry
        self._lease_s = lease_s
        self._fetcher = MediaFetcher(settings)
        self._owner = uuid4()
        self._working: set[asyncio.Task[None]] = set()

    async def run(self, stop: asyncio.Event, health: HealthPart) -> None:
        """Work until ``stop`` is set; what is in progress goes on in another process, or after a restart."""
        try:
            await run_rounds(self._rounds, self.work, stop, health, self._retry)
        finally:
            for task in self._working:
                task.cancel()
            await asyncio.gather(*self._working, return_exceptions=True)

    async def work(self) -> int:
        """Begin with a medium whose turn it is; return whether there was one. Raises the errors of the database."""
        if len(self._working) >= self._settings.max_at_once:
            return 0
        async with self._database.acquire(writing=True) as connection, transaction(connection):
            run = await records.claim_run(connection, self._owner, self._lease_s, self._settings.max_at_once)
        if run is None:
            return 0
        task = asyncio.create_task(self._run(run), name=f"media-{run.id}")
        self._working.add(task)
        task.add_done_callback(self._working.discard)
        return 1

    async def _run(self, run: Run) -> None:
        extra = {"media_id": run.media_id, "run": str(run.id)}
        try:
            async with self._attended(run):
                error = await self._outcome(run)
            await self._again(lambda: self._end(run, error))
            if error is not None:
                logger.warning("a medium ended with an error: %s", error[1], extra={"code": error[0], **extra})
            MEDIA.labels("processed" if error is None else "error").inc()
        except LeaseLostError as lost:
            logger.info("a medium is left: %s", lost, extra=extra)
        except asyncio.CancelledError:
            with suppress(StandgaleError, OSError, TimeoutError):
                async with asyncio.timeout(2.0), self._database.acquire(writing=True) as connection:
                    await records.release_run(connection, run.id, self._owner)
            raise

    async def _outcome(self, run: Run) -> tuple[str, str] | None:
        """Do the work; return the error that ends it, if there is one."""
        if run.takeovers > _MOST_TAKEOVERS:
            return (
                _INTERNAL,
                f"The processes that worked at this medium ended {run.takeovers} times, and it is given up",
            )
        try:
            medium = run.medium or await self._fetch(run)
            return await self._detect(run, medium)
        except LeaseLostError:
            raise
        except StandgaleError as error:
            return error_code(error), public_text(error_text(error))
        except Exception:
            logger.exception("a medium cannot be worked on", extra={"media_id": run.media_id})
            return _INTERNAL, "The service failed at this medium; its log has the reason"

    async def _fetch(self, run: Run) -> Medium:
        with tempfile.TemporaryDirectory(prefix="standgale-media-") as folder:
            path = Path(folder, "medium")
            try:
                async with asyncio.timeout(self._settings.fetch_timeout_s):
                    await self._again(lambda: self._fetch_once(run, path), most_fetches=_MOST_FETCHES)
            except TimeoutError as error:
                raise MediumFetchError(
                    f"the medium could not be fetched within {self._settings.fetch_timeout_s:g} s "
                    "(media.fetch_timeout_s)"
                ) from error
            medium = await self._again(lambda: self._kept.keep(path))
        await self._write(lambda connection: records.set_medium(connection, run.id, self._owner, medium))
        return medium

    async def _fetch_once(self, run: Run, path: Path) -> None:
        async with self._database.acquire() as connection:
            # The token may have been refreshed since the last try.
            secrets = await records.secrets_of_run(connection, run.id)
        if secrets.source is not None:
            await self._fetcher.from_source(self._box.decrypt(secrets.source, PURPOSE), path)
            return
        token = None if secrets.token is None else self._box.decrypt(secrets.token, PURPOSE)
        try:
            await self._fetcher.from_annotations(run.media_id, token, path)
        except UnauthorizedFetchError as error:
            if secrets.token is None or secrets.refresh_token is None:
                raise
            # Not every token says when it expires.
            await self._refresh(run, secrets.token)
            raise FetchLaterError(f"{error}, and its token is refreshed") from error

    async def _refresh(self, run: Run, refused: bytes) -> None:
        """Ask for another token than ``refused``, and wait until it is there or it is known that there is none."""
        async with self._database.acquire(writing=True) as connection:
            await ask_for_refresh(connection, run.id, refused)
        until_s = monotonic_s() + self._settings.refresh_timeout_s + _REFRESH_TURN_S
        while monotonic_s() < until_s:
            await asyncio.sleep(_IDLE_S)
            async with self._database.acquire() as connection:
                kept = await records.secrets_of_run(connection, run.id)
            if kept.token != refused or kept.refresh_token is None:
                return

    async def _detect(self, run: Run, medium: Medium) -> tuple[str, str] | None:
        """Make the frames, wait for their ends, and return the error if none has a result, or some are missing."""
        error: tuple[str, str] | None = None
        if not run.is_read:
            try:
                await self._make_frames(run, medium)
            except (RecordError, SettingsError, MediumError) as failure:
                # What was detected up to here has its events before the last one.
                error = error_code(failure), public_text(error_text(failure))
            else:
                await self._write(lambda connection: records.set_read(connection, run.id, self._owner))
        await self._wait_until(lambda connection: records.is_all_said(connection, run.id))
        return error or await self._read(lambda connection: records.failure_of_all(connection, run.id))

    async def _make_frames(self, run: Run, medium: Medium) -> None:
        duration_s = await self._again(lambda: self._kept.duration_s(medium))
        await self._write(lambda connection: records.set_duration(connection, run.id, self._owner, duration_s))
        window = self._kept.settings.job_window
        while True:
            done = await self._read(lambda connection: records.progress_of(connection, run.id))
            count = done.frames
            try:
                async for frame in self._kept.frames(run, medium, done):
                    count += 1
                    if count > self._settings.max_frames:
                        raise MediumTooLargeError(
                            f"the video has more than {self._settings.max_frames} frames, the most that are detected "
                            "(media.max_frames); choose fewer of them with sampling"
                        )
                    await self._wait_until(lambda connection: records.has_room(connection, run.id, window))
                    await self._write(partial(_add, run=run.id, owner=self._owner, frame=frame))
                    MEDIA_FRAMES.inc()
            except Exception as error:
                if not is_transient(error):
                    raise
                # The store was away: go on behind the frames that have rows.
                logger.warning("a medium waits: %s", error_text(error), extra={"code": error_code(error)})
                await asyncio.sleep(self._retry.max_delay_s)
            else:
                return

    async def _end(self, run: Run, error: tuple[str, str] | None) -> None:
        async with self._database.acquire(writing=True) as connection:
            if not await records.end_run(connection, run.id, self._owner, error):
                raise LeaseLostError("another process works on this medium now")

    async def _wait_until(self, query: Callable[[Connection], Awaitable[bool]]) -> None:
        while True:
            if await self._read(query):
                return
            await asyncio.sleep(_ROUND_S)

    async def _read(self, query: Callable[[Connection], Awaitable[ResultT]]) -> ResultT:
        async def once() -> ResultT:
            async with self._database.acquire() as connection:
                return await query(connection)

        return await self._again(once)

    async def _write(self, change: Callable[[Connection], Awaitable[ResultT]]) -> ResultT:
        async def once() -> ResultT:
            async with self._database.acquire(writing=True) as connection, transaction(connection):
                return await change(connection)

        return await self._again(once)

    async def _again(self, work: Callable[[], Awaitable[ResultT]], most_fetches: int | None = None) -> ResultT:
        """Return the result of ``work``, tried until it succeeds or fails for good, or the process stops.

        Other services are asked ``most_fetches`` times; then MediumFetchError is raised.
        """
        backoff, tries = Backoff(self._retry), 0
        while True:
            try:
                return await work()
            except Exception as error:
                if not is_transient(error):
                    raise
                tries += isinstance(error, FetchLaterError) or most_fetches is None
                if tries == most_fetches:
                    raise MediumFetchError(f"{error}; it was tried {tries} times") from error
                if tries == 1:
                    logger.warning("a medium waits: %s", error_text(error), extra={"code": error_code(error)})
                await asyncio.sleep(backoff.next_delay_s())

    @asynccontextmanager
    async def _attended(self, run: Run) -> AsyncIterator[None]:
        """Renew the lease, and give events to frames that have an end, during the block.

        Raises LeaseLostError, and ends the block, when the lease is lost.
        """
        worker = asyncio.current_task()
        assert worker is not None
        lost: LeaseLostError | None = None

        async def attend() -> None:
            nonlocal lost
            renew_at = time.monotonic() + self._lease_s / 3
            try:
                while True:
                    if not await self._write(lambda connection: records.say_ended(connection, run.id, self._owner)):
                        await asyncio.sleep(_ROUND_S)
                    if time.monotonic() >= renew_at:
                        renew_at = time.monotonic() + self._lease_s / 3
                        await self._write(
                            lambda connection: records.renew_lease(connection, run.id, self._owner, self._lease_s)
                        )
            except LeaseLostError as error:
                lost = error
                worker.cancel()

        attending = asyncio.create_task(attend(), name=f"media-lease-{run.id}")
        try:
            yield
        except asyncio.CancelledError:
            if lost is None:
                raise
            worker.uncancel()
            raise lost from None
        finally:
            attending.cancel()
            await asyncio.gather(attending, return_exceptions=True)


async def _add(connection: Connection, run: UUID, owner: UUID, frame: MediaFrame) -> None:
    await records.add_frame(connection, run, owner, frame)
