"""Checks that the frame store can store, read and remove an object."""

from __future__ import annotations

from collections.abc import Sequence

from infra.storage.frames.folder import UNFINISHED
from infra.storage.frames.open import open_frame_store
from standgale.doctor.examine import in_thread
from standgale.doctor.port import DoesNotExistError, Finding, ok
from standgale.settings import Settings


class StoreCheck:
    """Stores, reads and removes a small object, as services do with frames."""

    subject = "frame store"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    async def look(self) -> Sequence[Finding]:
        """See :class:`.port.Check`."""
        settings, folder = self._settings, self._settings.frames_folder.absolute()
        # Opening it would create it.
        if settings.frames.kind == "folder" and not await in_thread((folder / UNFINISHED).is_dir):
            raise DoesNotExistError(
                f"{folder} is no frame store (yet): no gateway has run, or the disk is not mounted there"
            )
        where = f"s3://{settings.frames.bucket}/{settings.frames.prefix}" if settings.frames.kind == "s3" else folder
        store = await in_thread(lambda: open_frame_store(settings.frames, settings.data_dir))
        try:
            await store.check()
        finally:
            await store.close()
        return [ok(f"an object was stored in {where}, read and removed")]
