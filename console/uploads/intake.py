"""Receives an upload: a form with many pictures, each checked by its content and stored while the next one arrives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from uuid import uuid4

from starlette.requests import Request

from console.ids import new_id
from console.metrics import UPLOADED_FILES
from console.settings import ConsoleSettings
from console.uploads.errors import TooManyUploadsError
from console.uploads.form import PictureForms, PictureParts
from console.uploads.records import UploadedFile, UploadRecords
from infra.errors import StoreUnavailableError
from infra.http_api.errors.api_errors import OverloadedError
from infra.http_api.limits.slots import UploadSlots
from infra.http_api.request.form_stream import StreamedPart
from infra.storage.frames.port import FrameStore
from ingest.images.check import ImageError, ImageInfo, inspect_image
from ingest.images.exif import Capture, read_capture
from schemas.events import ImageRef
from schemas.timestamps import utc_now

_STORE_TIMEOUT_S = 60.0
# Enough to share the waits for the disk; with more, all other requests wait behind the files of many uploads.
_FILES_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class NewUpload:
    """Is an upload that is complete."""

    upload_id: str
    expires_at: datetime
    files: Sequence[UploadedFile]


class UploadIntake:
    """Receives uploads. Of one that is refused nothing is to be seen; its stored bytes are removed later."""

    def __init__(
        self, settings: ConsoleSettings, records: UploadRecords, store: FrameStore, slots: UploadSlots
    ) -> None:
        self._settings = settings
        self._records = records
        self._store = store
        self._forms = PictureForms(settings, slots)
        self._places = asyncio.Semaphore(_FILES_AT_ONCE)

    async def receive(self, request: Request, client_id: str) -> NewUpload:
        """Return the upload that ``request`` has when all of it is stored and written.

        Raises FilesRefusedError with each file that is not accepted, TooManyFilesError, TooManyUploadsError, the other
        errors of :meth:`PictureForms.receive`, and the errors of store and database.
        """
        return await self._forms.receive(
            request, client_id, lambda parts: self._read(parts, client_id), lambda: self._require_room(client_id)
        )

    async def _require_room(self, client_id: str) -> None:
        unused, most = await self._records.count_unused(client_id), self._settings.max_open_uploads
        if unused >= most:
            raise TooManyUploadsError(
                f"this client has {unused} uploads that no job has used; at most {most} are kept "
                "(console.max_open_uploads)",
                details="Use them, or delete some: DELETE /api/v1/uploads/{upload_id}. Those that were cut off, or "
                "refused because of a later file, count for two hours.",
            )

    async def _read(self, parts: PictureParts, client_id: str) -> NewUpload:
        upload, upload_id = uuid4(), new_id("upl")
        files: list[UploadedFile] = []
        async for name, streamed in parts.each():
            async with self._place():
                found = await self._accepted(parts, name, streamed)
                if found is None:
                    continue
                if not files:
                    # Before anything is stored; of an upload that is refused earlier nothing is to be removed.
                    await self._records.begin(upload, upload_id, client_id, timedelta(days=self._settings.upload_days))
                file = await self._keep(name, streamed.part.data, *found)
                await self._records.add(upload, len(files), file)
                files.append(file)
        expires_at = await self._records.complete(upload)
        UPLOADED_FILES.inc(len(files))
        return NewUpload(upload_id, expires_at, files)

    @asynccontextmanager
    async def _place(self) -> AsyncIterator[None]:
        """Wait for the block's turn. Raises OverloadedError when the files before take too long."""
        try:
            async with asyncio.timeout(_STORE_TIMEOUT_S):
                await self._places.acquire()
        except TimeoutError as error:
            raise OverloadedError(f"the files of other uploads were not kept within {_STORE_TIMEOUT_S:g} s") from error
        try:
            yield
        finally:
            self._places.release()

    async def _accepted(
        self, parts: PictureParts, name: str, streamed: StreamedPart
    ) -> tuple[ImageInfo, Capture, str] | None:
        """Return what a file is; None when it, or one before it, is refused, as the faults of ``parts`` say."""
        try:
            parts.require_size(streamed)
            found = await asyncio.to_thread(self._examine, streamed.part.data)
        except ImageError as error:
            parts.add_fault(name, error)
            return None
        # Nothing of an upload with a fault is kept any more; the files that follow are only looked at.
        return None if parts.faults else found

    async def _keep(self, name: str, data: bytes, info: ImageInfo, capture: Capture, digest: str) -> UploadedFile:
        uri = await self._put(data, digest, info.media_type)
        image = ImageRef(
            uri=uri,
            sha256=digest,
            size_bytes=info.size_bytes,
            media_type=info.media_type,
            width=info.width,
            height=info.height,
        )
        return UploadedFile(uuid4(), new_id("img"), name, image, _moment(capture), capture.camera)

    def _examine(self, data: bytes) -> tuple[ImageInfo, Capture, str]:
        info = inspect_image(data, self._forms.limits)
        return info, read_capture(data, info), sha256(data).hexdigest()

    async def _put(self, data: bytes, digest: str, media_type: str) -> str:
        try:
            async with asyncio.timeout(_STORE_TIMEOUT_S):
                return await self._store.put(data, sha256=digest, media_type=media_type)
        except TimeoutError as error:
            raise StoreUnavailableError(f"the store did not keep a file within {_STORE_TIMEOUT_S:g} s") from error


def _moment(capture: Capture) -> datetime:
    """Return when a picture was taken; the present for one that does not say, or says a time to come."""
    now = utc_now()
    return min(capture.captured_at or now, now).astimezone(UTC)
