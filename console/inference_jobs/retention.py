"""Removes pictures that were uploaded for inference jobs and that no job has used."""

from __future__ import annotations

import asyncio
import logging

from console.inference_jobs import records
from console.objects import JobObjects
from infra.database.pool import Database
from infra.database.transaction import transaction
from infra.failure.error_texts import error_code, error_text
from infra.failure.retry import StoppedError, run_until_stop
from infra.process.health import HealthPart
from infra.storage.s3_address import S3Address
from schemas.errors import StandgaleError

logger = logging.getLogger(__name__)

_EVERY_S = 60.0
_AT_ONCE = 10


class InferenceImagesRetention:
    """Is the component that removes; several consoles may run it, and each upload is with one of them at a time.

    Killed between the removal and the end of its transaction, it removes the same pictures once more.
    """

    name = "inference-images-retention"

    def __init__(self, database: Database, objects: JobObjects, *, every_s: float = _EVERY_S) -> None:
        self._database = database
        self._objects = objects
        self._every_s = every_s

    async def run(self, stop: asyncio.Event, health: HealthPart) -> None:
        """Remove until ``stop`` is set. An error is logged and tried again; uploads are taken all the same."""
        health.set_ready()
        failing = False
        while not stop.is_set():
            health.beat()
            removed = 0
            try:
                removed = await run_until_stop(self.remove_some(), stop, "removing uploaded pictures", timeout_s=5.0)
                failing = False
                health.set_note("uploaded pictures", None)
            except StoppedError:
                return
            except (StandgaleError, OSError) as error:
                health.set_note("uploaded pictures", f"{error_code(error)}: those that expired cannot be removed")
                if not failing:
                    logger.warning("uploaded pictures cannot be removed: %s", error_text(error))
                failing = True
            if not removed:
                await health.pause(self._every_s, stop)

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
