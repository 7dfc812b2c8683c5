"""Takes images that are too large for memory: uploaded originals, and stored images of their size."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TypeVar

from infra.errors import StoreUnavailableError
from infra.failure.error_texts import error_text
from infra.storage.originals.errors import WrongContentError
from ingest.acceptance.errors import DigestMismatchError
from ingest.acceptance.parts import AcceptanceParts
from ingest.images.check import ImageInfo, ImageLimits
from ingest.images.exif import Capture
from ingest.images.mapped import examine_file
from schemas.errors import StandgaleError

P = TypeVar("P", Path, Path | None)

logger = logging.getLogger(__name__)

# Each uses a core for a second or two, and reads its whole file. More of them would take the cores and threads that
# the frames of other devices need.
_AT_ONCE = 2


class Originals:
    """Examines and stores files, two at a time."""

    def __init__(self, parts: AcceptanceParts) -> None:
        settings = parts.settings
        self._parts = parts
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._limits = ImageLimits(
            max_image_bytes=settings.max_original_bytes,
            min_side_px=settings.min_side_px,
            max_side_px=settings.max_original_side_px,
            max_pixels=settings.max_original_pixels,
            setting_names=("max_original_bytes", "max_original_side_px", "max_original_pixels"),
        )

    @asynccontextmanager
    async def received(self, device_id: str, sha256: str) -> AsyncIterator[Path | None]:
        """Give the file that the device has uploaded, or None. Raises DigestMismatchError, StoreUnavailableError."""
        if self._parts.originals is None:
            yield None
            return
        try:
            async with self.opened(self._parts.originals.received(device_id, sha256)) as path:
                yield path
        except WrongContentError as error:
            raise DigestMismatchError(
                str(error), details="Ask for a new address and upload it again.", field="sha256"
            ) from error

    @asynccontextmanager
    async def opened(self, file: AbstractAsyncContextManager[P]) -> AsyncIterator[P]:
        """Give what ``file`` gives; to open it is work for a turn, because the whole file is hashed or downloaded."""
        async with AsyncExitStack() as stack:
            async with self._turns, self._limited("read the original"):
                path = await stack.enter_async_context(file)
            yield path

    async def examine(self, path: Path) -> tuple[ImageInfo, Capture]:
        """Return what the image in the file says. Raises ImageError, StoreUnavailableError."""
        async with self._turns:
            try:
                return await asyncio.to_thread(examine_file, path, self._limits)
            except OSError as error:
                raise StoreUnavailableError(f"cannot read the original {path}: {error.strerror or error}") from error

    async def store(self, path: Path, sha256: str, media_type: str) -> str:
        """Store the file, whose digest was checked, and return its address. Raises StoreUnavailableError."""
        with self._parts.readiness.store.watch():
            async with self._turns, self._limited("store the original"):
                return await self._parts.store.put_file(path, sha256=sha256, media_type=media_type)

    async def discard(self, device_id: str, sha256: str) -> None:
        """Remove the upload of an original that is stored and announced; what fails here is swept later."""
        assert self._parts.originals is not None
        try:
            await self._parts.originals.discard(device_id, sha256)
        except StandgaleError as error:
            logger.warning("an uploaded original stays until it is swept: %s", error_text(error))

    @asynccontextmanager
    async def _limited(self, what: str) -> AsyncIterator[None]:
        timeout_s = self._parts.settings.original_timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                yield
        except TimeoutError as error:
            raise StoreUnavailableError(
                f"the frame store did not {what} within {timeout_s:g} s (gateway.original_timeout_s)"
            ) from error
