"""Removes the bytes of uploads that have expired, and of those that were never completed."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from console.settings import ConsoleSettings
from console.uploads.records import removable_files, strike_out, take_expired
from infra.database.pool import Database
from infra.database.transaction import transaction
from infra.failure.rounds import Rounds, run_rounds
from infra.failure.settings import RetrySettings
from infra.process.health import HealthPart
from infra.storage.frames.port import REFRESH_AFTER_S, FrameStore
from schemas.timestamps import utc_now

_EVERY_S = 30.0
_AT_ONCE = 5
# The store removes no bytes that are younger than the second time, so what is deleted at once waits, too.
_MIN_AGE = timedelta(hours=2)
# A picture that a device, or another client, has put again since then stays.
_UNTOUCHED_FOR = timedelta(seconds=REFRESH_AFTER_S + 600.0)


class UploadRetention:
    """Is the component that removes; several consoles may run it, and one of them at a time removes.

    It removes the bytes first and strikes the upload out then: killed in between, it removes them once more, which does
    no harm. Uploads that a job uses wait for its end.
    """

    name = "upload-retention"

    def __init__(
        self,
        database: Database,
        store: FrameStore,
        settings: ConsoleSettings,
        retry: RetrySettings,
        *,
        every_s: float = _EVERY_S,
    ) -> None:
        self._longest = timedelta(seconds=settings.upload_timeout_s)
        self._database = database
        self._store = store
        self._retry = retry
        self._rounds = Rounds("removing uploads", "expired uploads are still there", every_s, ready_in_spite=True)

    async def run(self, stop: asyncio.Event, health: HealthPart) -> None:
        """Remove until ``stop`` is set. An error is noted and tried again; uploads are taken all the same."""
        await run_rounds(self._rounds, self.remove_some, stop, health, self._retry)

    async def remove_some(self) -> int:
        """Remove the bytes of some uploads; return how many uploads. Raises the errors of database and store."""
        async with self._database.acquire(writing=True) as connection, transaction(connection):
            uploads = await take_expired(connection, _MIN_AGE, self._longest, _AT_ONCE)
            for upload in uploads:
                for uri in await removable_files(connection, upload):
                    await self._store.delete_older(uri, utc_now() - _UNTOUCHED_FOR)
                await strike_out(connection, upload)
        return len(uploads)
