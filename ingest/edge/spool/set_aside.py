"""Takes refused and damaged frames out of the queue into folders for a person to look at."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from infra.telemetry.sampled_log import SampledLog
from ingest.edge.port import SpoolUnavailableError
from ingest.edge.spool import refused
from ingest.edge.spool.frame_file import DamagedFrameError, SpooledFrame, number_and_key
from ingest.edge.spool.refused import Refusal

logger = logging.getLogger(__name__)
_sampled = SampledLog(logger)


class SetAside:
    """Holds the two folders of a spool, and their size."""

    def __init__(self, spool: Path) -> None:
        """Raise OSError when a folder cannot be read."""
        self._refused = spool / refused.FOLDER
        self._damaged = spool / refused.DAMAGED_FOLDER
        self.size_bytes = sum(refused.size_of(each)[1] for each in (self._refused, self._damaged))
        """The bytes of all files in them."""
        self._damaged_files = _files_by_key(self._damaged)

    async def add_refused(self, frame: SpooledFrame, refusal: Refusal) -> None:
        """Write a frame that the gateway refuses as a picture, with the reason. Raises SpoolUnavailableError."""
        try:
            picture = await asyncio.to_thread(refused.write_refused, self._refused, frame, refusal)
        except OSError as error:
            raise SpoolUnavailableError(
                f"a refused frame cannot be set aside in {self._refused}: {error.strerror}"
            ) from error
        self.size_bytes += frame.header.size_bytes
        _sampled.log(
            logging.ERROR,
            f"refused frames ({refusal.code})",
            "the gateway refuses a frame (%s: %s); it is kept in %s",
            refusal.code,
            refusal.reason,
            picture,
        )

    async def move_damaged(self, path: Path, key: str, reason: DamagedFrameError) -> None:
        """Move the file of a damaged frame here. Raises SpoolUnavailableError."""
        target = self._damaged / path.name
        try:
            self._damaged.mkdir(exist_ok=True)
            await asyncio.to_thread(path.replace, target)
        except FileNotFoundError:
            logger.error("%s; it is not sent", reason)
            return
        except OSError as error:
            raise SpoolUnavailableError(f"{path} cannot be moved to {self._damaged}: {error.strerror}") from error
        self._damaged_files[key] = target
        self.size_bytes += target.stat().st_size
        logger.error("%s; it is not sent, and is kept in %s", reason, self._damaged)

    async def forget_damaged(self, key: str) -> None:
        """Delete the damaged file of a frame that its source has brought again."""
        path = self._damaged_files.pop(key, None)
        if path is None:
            return
        try:
            size_bytes = path.stat().st_size
            await asyncio.to_thread(path.unlink)
        except OSError as error:
            logger.warning("%s cannot be deleted: %s", path, error.strerror)
            return
        self.size_bytes -= size_bytes
        logger.info("%s is deleted, because the frame was brought again and is whole", path)


def _files_by_key(folder: Path) -> dict[str, Path]:
    files = {path: number_and_key(path.name) for path in (folder.iterdir() if folder.is_dir() else ())}
    return {parts[1]: path for path, parts in files.items() if parts is not None}
