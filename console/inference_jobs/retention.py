"""Removes pictures that were uploaded for inference jobs and that no job has used."""

from __future__ import annotations

import asyncio

from console.inference_jobs import records
from console.objects import JobObjects
from infra.database.pool import Database
from infra.database.transaction import transaction
from infra.failure.rounds import Rounds, run_rounds
from infra.failure.settings import RetrySettings
from infra.process.health import HealthPart
from infra.storage.s3_address import S3Address

_EVERY_S = 60.0
_AT_ONCE = 10


class InferenceImagesRetention:
    """Is the component that removes; several consoles may run it, and each upload is with one of them at a time.

    Killed between the removal and the end of its transaction, it removes the same pictures once more.
    """

    name = "inference-images-retention"

    def __init__(
        self, database: Database, objects: JobObjects, retry: RetrySettings, *, every_s: float = _EVERY_S
    ) -> None:
        self._database = database
        self._objects = objects
        self._retry = retry
        self._rounds = Rounds(
            "removing uploaded pictures", "pictures that expired are still there", every_s, ready_in_spite=True
        )

    async def run(self, stop: asyncio.Event, health: HealthPart) -> None:
        """Remove until ``stop`` is set. An error is noted and tried again; uploads are taken all the same."""
        await run_rounds(self._rounds, self.remove_some, stop, health, self._retry)

    async def remove_some(self) -> int:
        """Remove the pictures of some expired uploads; return of how many."""
        async with self._database.acquire(writing=True) as connection, transaction(connection):
            expired = await records.take_expired(connection, _AT_ONCE)
            for number in expired:
                objects = self._objects.open()
                folder = S3Address(self._objects.settings.bucket, f"{records.FOLDER}/{number}/")
                await objects.remove([each.address async for each in objects.listed(folder)])
            await records.strike_out(connection, expired)
        return len(expired)
