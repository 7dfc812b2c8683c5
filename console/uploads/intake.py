"""Receives an upload: a form with many pictures, each checked by its content and stored while the next one arrives."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from uuid import UUID, uuid4

from starlette.requests import Request

from console.ids import new_id
from console.metrics import UPLOADED_FILES
from console.settings import ConsoleSettings
from console.uploads.errors import FileFault, FilesRefusedError, TooManyUploadsError
from console.uploads.records import UploadedFile, UploadRecords
from infra.errors import StoreUnavailableError
from infra.storage.frames.port import FrameStore
from ingest.acceptance.errors import ApiError, ValidationFailedError
from ingest.acceptance.fields import sanitise_filename
from ingest.acceptance.slots import UploadSlots
from ingest.gateway.errors import UploadTimeoutError
from ingest.gateway.request.body import BodyLimit, BodyPieces, DeviceTurns, declared_length
from ingest.gateway.request.form_stream import FormStream, StreamedPart
from ingest.gateway.request.multipart import OVERHEAD_BYTES, FormPart, boundary_of
from ingest.images.check import ImageError, ImageInfo, ImageLimits, image_too_large, inspect_image
from ingest.images.exif import Capture, read_capture
from schemas.events import ImageRef
from schemas.timestamps import utc_now

FILE_PARTS = ("files", "file", "files[]")
FORMATS: Mapping[str, str] = {"image/jpeg": "JPEG", "image/png": "PNG", "image/tiff": "TIFF"}
"""What an upload may have, by media type, with the word for it."""
_SETTING = "console.max_files and console.max_file_bytes"
_HINT = 'Send a form with a part "files" for each picture, as "curl -F files=@a.jpg -F files=@b.png" does.'
_STORE_TIMEOUT_S = 60.0
# So many faults are listed; a client corrects these first.
_MOST_FAULTS = 100


class TooManyFilesError(ApiError):
    """The upload has more files than one may have."""

    code = "TOO_MANY_FILES"


@dataclass(frozen=True, slots=True)
class NewUpload:
    """Is an upload that is complete."""

    upload_id: str
    expires_at: datetime
    files: Sequence[UploadedFile]


@dataclass(slots=True)
class _Reading:
    """Collects the files of one upload, and what is wrong with some of them."""

    upload: UUID
    files: list[UploadedFile] = field(default_factory=list)
    faults: list[FileFault] = field(default_factory=list)
    parts: int = 0

    def add_fault(self, filename: str, error: ImageError) -> None:
        if len(self.faults) < _MOST_FAULTS:
            self.faults.append(FileFault(filename, error.code, str(error)))


class UploadIntake:
    """Receives uploads. Of one that is refused nothing is to be seen; its stored bytes are removed later."""

    def __init__(
        self, settings: ConsoleSettings, records: UploadRecords, store: FrameStore, slots: UploadSlots
    ) -> None:
        self._settings = settings
        self._records = records
        self._store = store
        self._slots = slots
        self._turns = DeviceTurns()
        most_bytes = settings.max_files * (settings.max_file_bytes + 1_024) + OVERHEAD_BYTES
        self._limit = BodyLimit(most_bytes, _SETTING, "files", "Send fewer or smaller files in one upload.")
        self._limits = ImageLimits(
            max_image_bytes=settings.max_file_bytes,
            min_side_px=settings.min_side_px,
            max_side_px=settings.max_side_px,
            max_pixels=settings.max_side_px**2,
            setting_names=("console.max_file_bytes", "console.max_side_px", "console.max_side_px"),
            formats=tuple(FORMATS.values()),
        )

    async def receive(self, request: Request, client_id: str) -> NewUpload:
        """Return the upload that ``request`` has when all of it is stored and written.

        Raises FilesRefusedError with each file that is not accepted, TooManyFilesError, TooManyUploadsError,
        UploadTimeoutError, ValidationFailedError for what is no form, OverloadedError, and the errors of store and
        database.
        """
        settings = self._settings
        boundary = boundary_of(_form_type(request))
        declared = declared_length(dict(request.scope["headers"]), self._limit)
        await self._require_room(client_id)
        # A part that arrives, and one that is stored.
        reserved = min(declared, 2 * settings.max_file_bytes + OVERHEAD_BYTES)
        with (
            self._slots.reserve(min(reserved, settings.max_in_flight_bytes // 2), client_id) as slot,
            slot.reading(),
        ):
            pieces = BodyPieces(request.receive, self._limit, self._turns, client_id)
            stream = FormStream(pieces.next_piece, boundary, settings.max_files + 32)
            try:
                async with asyncio.timeout(settings.upload_timeout_s):
                    return await self._read(stream, client_id)
            except TimeoutError as error:
                raise UploadTimeoutError(
                    f"the upload was not received and stored within {settings.upload_timeout_s:g} s "
                    "(console.upload_timeout_s); nothing of it was kept",
                    details="Send fewer files at once, or over a faster connection.",
                ) from error

    async def _require_room(self, client_id: str) -> None:
        unused, most = await self._records.count_unused(client_id), self._settings.max_open_uploads
        if unused >= most:
            raise TooManyUploadsError(
                f"this client has {unused} uploads that no job has used; at most {most} are kept "
                "(console.max_open_uploads)",
                details="Use them, or delete some: DELETE /api/v1/uploads/{upload_id}.",
            )

    async def _read(self, stream: FormStream, client_id: str) -> NewUpload:
        upload_id, keep = new_id("upl"), timedelta(days=self._settings.upload_days)
        reading = _Reading(uuid4())
        await self._records.begin(reading.upload, upload_id, client_id, keep)
        async for streamed in stream.parts(self._most_bytes):
            if streamed.part.name in FILE_PARTS:
                await self._take(reading, streamed)
            else:
                _refuse_part(streamed.part)
        if reading.faults:
            raise FilesRefusedError(reading.faults)
        if not reading.files:
            raise ValidationFailedError("the form has no file", details=_HINT, field="files")
        expires_at = await self._records.complete(reading.upload)
        UPLOADED_FILES.inc(len(reading.files))
        return NewUpload(upload_id, expires_at, reading.files)

    def _most_bytes(self, part: FormPart) -> int:
        return self._settings.max_file_bytes if part.name in FILE_PARTS else OVERHEAD_BYTES

    async def _take(self, reading: _Reading, streamed: StreamedPart) -> None:
        settings, part = self._settings, streamed.part
        reading.parts += 1
        if reading.parts > settings.max_files:
            raise TooManyFilesError(
                f"the upload has more than {settings.max_files} files; at most {settings.max_files} are accepted "
                "(console.max_files)",
                details="Send the files in several uploads. Nothing of this one was kept.",
                field="files",
            )
        name = sanitise_filename(part.filename or "") or f"file-{reading.parts}"
        try:
            if streamed.too_large:
                raise image_too_large(streamed.size_bytes, settings.max_file_bytes, "console.max_file_bytes")
            info, capture, digest = await asyncio.to_thread(self._examine, part.data)
        except ImageError as error:
            reading.add_fault(name, error)
            return
        if reading.faults:
            # Nothing of this upload is kept any more; the files that follow are only looked at.
            return
        uri = await self._put(part.data, digest, info.media_type)
        image = ImageRef(
            uri=uri,
            sha256=digest,
            size_bytes=info.size_bytes,
            media_type=info.media_type,
            width=info.width,
            height=info.height,
        )
        file = UploadedFile(uuid4(), new_id("img"), name, image, _moment(capture), capture.camera)
        await self._records.add(reading.upload, len(reading.files), file)
        reading.files.append(file)

    def _examine(self, data: bytes) -> tuple[ImageInfo, Capture, str]:
        info = inspect_image(data, self._limits)
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


def _form_type(request: Request) -> str:
    text = request.headers.get("content-type", "")
    kind = text.partition(";")[0].strip().lower()
    if kind != "multipart/form-data":
        raise ValidationFailedError(
            f"Content-Type {kind[:100]!r} is not for an upload; it must be multipart/form-data",
            details=_HINT,
            field="Content-Type",
        )
    return text


def _refuse_part(part: FormPart) -> None:
    raise ValidationFailedError(
        f"the form has a part {part.name[:60]!r}; each picture is a part called files",
        details=_HINT,
        field=part.name[:60] or "name",
    )
