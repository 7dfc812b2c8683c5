"""Opens what retention needs for one command, and reads what an estimate needs."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from infra.broker.port import Admin
from infra.database.pool import Database
from infra.storage.frames.open import open_frame_store
from infra.storage.frames.port import FrameStore
from sinks.lakefs.open import open_archive
from sinks.lakefs.removal import ArchivedFrames
from sinks.retention.run import Retention
from standgale.opening import open_command_broker, open_database
from standgale.settings import Settings


@dataclass(frozen=True, slots=True)
class RetentionParts:
    """Holds what is open during the command."""

    store: FrameStore
    database: Database
    admin: Admin
    retention: Retention


@asynccontextmanager
async def open_retention(
    settings: Settings, *, wait_s: float = 0.0, tell: Callable[[str], None] = lambda text: None
) -> AsyncIterator[RetentionParts]:
    """Open store, database and broker for the block; nothing is made that is not there. See Retention for the rest."""
    async with open_command_broker(settings, make=False, as_it_is=True) as broker, open_database(settings) as database:
        admin = await broker.admin()
        store = open_frame_store(settings.frames, settings.data_dir)
        try:
            archive = ArchivedFrames(lambda: open_archive(settings.lakefs, settings.data_dir, store))
            retention = Retention(store, database, admin, settings.retention, archive, wait_s=wait_s, tell=tell)
            yield RetentionParts(store, database, admin, retention)
        finally:
            await store.close()
            await admin.close()


def free_bytes(settings: Settings) -> int | None:
    """Return how many bytes of frames the disk of the frame store has room for; None for a bucket."""
    if settings.frames.kind != "folder":
        return None
    free = shutil.disk_usage(settings.frames_folder).free - settings.frames.min_free_bytes
    return max(0, free)
