"""Removes the bytes of uploads that have expired, and of those that were never completed."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta

from console.uploads.records import removable_files, strike_out, take_expired
from infra.database.pool import Database
from infra.failure.backoff import Backoff
from infra.failure.error_texts import error_code, error_text
from infra.failure.retry import StoppedError, run_until_stop
from infra.failure.settings import RetrySettings
from infra.process.health import HealthPart
from infra.storage.frames.port import REFRESH_AFTER_S, FrameStore
from schemas.errors import StandgaleError
from schemas.timestamps import utc_now

logger = logging.getLogger(__name__)

_EVERY_S = 30.0
_AT_ONCE = 5
# The store removes no bytes that are younger than the second time, so what is deleted at once waits, too.
_MIN_AGE = timedelta(hours=2)
# A picture that a device, or another client, has put again since then stays.
_UNTOUCHED_FOR = timedelta(seconds=REFRESH_AFTER_S + 600.0)


class UploadRetention:
    """Is the component that removes; several consoles may run it, and each upload is with one of them at a time.

    It removes the bytes first and strikes the upload out then: killed in between, it removes them once more, which does
    no harm. Uploads that a job uses wait for its end.
    """

    name = "upload-retention"

    def __init__(
        self, database: Database, store: FrameStore, retry: RetrySettings, *, every_s: float = _EVERY_S
    ) -> None:
        self._database = database
        self._store = store
        self._every_s = every_s
        self._backoff = Backoff(retry)

    async def run(self, stop: asyncio.Event, health: HealthPart) -> None:
        """Remove until ``stop`` is set. An error is logged and tried again; uploads are taken all the same."""
        health.set_ready()
        failing = False
        while not stop.is_set():
            health.beat()
            try:
                removed = await run_until_stop(self.remove_some(), stop, "removing uploads", timeout_s=5.0)
            except StoppedError:
                return
            except (StandgaleError, OSError) as error:
                health.set_note("uploads", f"{error_code(error)}: expired uploads cannot be removed")
                if not failing:
                    text = error_text(error)
                    logger.warning("expired uploads cannot be removed: %s", text, extra={"code": error_code(error)})
                failing = True
                await self._backoff.wait(stop)
                continue
            failing = False
            self._backoff.reset()
            health.set_note("uploads", None)
            if not removed:
                await health.pause(self._every_s, stop)

    async def remove_some(self) -> int:
        """Remove the bytes of some uploads; return how many uploads. Raises the errors of database and store."""
        async with self._database.acquire(writing=True) as connection, connection.transaction():
            uploads = await take_expired(connection, _MIN_AGE, _AT_ONCE)
            for upload in uploads:
                for uri in await removable_files(connection, upload):
                    await self._store.delete_older(uri, utc_now() - _UNTOUCHED_FOR)
                await strike_out(connection, upload)
        return len(uploads)
