"""Puts frames that the gateway refused back into the spool."""

from __future__ import annotations

import asyncio
from pathlib import Path

from infra.errors import SettingsError
from infra.storage.durable_files import locked_folder
from ingest.edge.port import Taken
from ingest.edge.settings import EdgeSettings
from ingest.edge.spool import refused
from ingest.edge.spool.spool import Spool
from ingest.edge.status import read_state


async def retry_refused(settings: EdgeSettings, folder: Path) -> int:
    """Put all refused frames of the spool ``folder`` back, the oldest first; return how many.

    Raises SettingsError while a client has the spool, and when the spool has no room for all of them.
    """
    if not folder.is_dir():
        raise SettingsError(f"{settings.named('spool')} is {folder}, which does not exist; give the client's spool")
    try:
        with locked_folder(folder, exclusive=True, wait=False):
            return await _put_back(settings, folder)
    except BlockingIOError as error:
        raise SettingsError(
            f"an edge client runs on the spool {folder}; stop it, put the frames back, and start it again"
        ) from error


async def _put_back(settings: EdgeSettings, folder: Path) -> int:
    kept = settings.model_copy(update={"when_full": "stop", "flight": None})
    spool = Spool(folder, kept, read_state(folder).counts)
    count = 0
    try:
        for picture, reason, frame in refused.refused_frames(folder / refused.FOLDER):
            if await spool.add(frame) is Taken.FULL:
                raise SettingsError(
                    f"the spool {folder} is full after {count} frames; send them first, or raise edge.max_bytes"
                )
            await asyncio.to_thread(_remove, picture, reason)
            count += 1
    finally:
        spool.close()
    return count


def _remove(picture: Path, reason: Path) -> None:
    reason.unlink(missing_ok=True)
    picture.unlink(missing_ok=True)
