"""Receives pictures for an inference job to come, and removes those that no job has used."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from pathlib import PurePosixPath

from starlette.requests import Request

from console.http.connection import request_connection
from console.inference_jobs import records
from console.inference_jobs.bodies import UploadedImages
from console.parts import ConsoleParts
from console.uploads.errors import FileFault, FilesRefusedError, TooManyUploadsError
from console.uploads.intake import FILE_PARTS, FORMATS, TooManyFilesError
from infra.storage.s3_address import S3Address
from infra.storage.s3_objects import S3Objects
from ingest.acceptance.errors import ValidationFailedError
from ingest.acceptance.fields import sanitise_filename
from ingest.gateway.errors import UploadTimeoutError
from ingest.gateway.request.body import BodyLimit, BodyPieces, DeviceTurns, declared_length
from ingest.gateway.request.form_stream import FormStream, StreamedPart
from ingest.gateway.request.multipart import OVERHEAD_BYTES, boundary_of
from ingest.images.check import ImageError, ImageLimits, image_too_large, inspect_image

_SETTING = "console.max_files and console.max_file_bytes"
_HINT = 'Send a form with a part "files" for each picture, as "curl -F files=@a.jpg -F files=@b.png" does.'
_ENDINGS = {"image/jpeg": ".jpg", "image/png": ".png", "image/tiff": ".tif"}
_LONGEST_STEM = 150


class ImagesIntake:
    """Receives forms with pictures; each is checked by its content, and stored while the next one arrives."""

    def __init__(self, parts: ConsoleParts, objects: S3Objects) -> None:
        settings = parts.settings
        self._parts = parts
        self._settings = settings
        self._bucket = parts.objects.settings.bucket
        self._objects = objects
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

    async def receive(self, request: Request, client_id: str) -> UploadedImages:
        """Return where the pictures of ``request`` are, all of them stored.

        Raises FilesRefusedError, TooManyFilesError, TooManyUploadsError, UploadTimeoutError, ValidationFailedError for
        what is no form, OverloadedError, and the errors of store and database.
        """
        settings = self._settings
        boundary = boundary_of(request.headers.get("content-type", ""))
        declared = declared_length(dict(request.scope["headers"]), self._limit)
        # A part that arrives, and one that is stored.
        reserved = min(declared, 2 * settings.max_file_bytes + OVERHEAD_BYTES, settings.max_in_flight_bytes // 2)
        with self._parts.slots.reserve(reserved, client_id) as slot, slot.reading():
            pieces = BodyPieces(request.receive, self._limit, self._turns, client_id)
            stream = FormStream(pieces.next_piece, boundary, settings.max_files + 32)
            try:
                async with asyncio.timeout(settings.upload_timeout_s):
                    return await self._read(stream, client_id)
            except TimeoutError as error:
                raise UploadTimeoutError(
                    f"the upload was not received and stored within {settings.upload_timeout_s:g} s "
                    "(console.upload_timeout_s)",
                    details="Send fewer files at once, or over a faster connection.",
                ) from error

    async def _read(self, stream: FormStream, client_id: str) -> UploadedImages:
        keep = timedelta(days=self._settings.upload_days)
        async with request_connection(self._parts, writing=True) as connection, connection.transaction():
            unused, most = await records.count_uploads(connection, client_id), self._settings.max_open_uploads
            if unused >= most:
                raise TooManyUploadsError(
                    f"this client has {unused} uploads that no inference job has used; at most {most} are kept "
                    "(console.max_open_uploads)",
                    details="Use them; they are removed after some days.",
                )
            number, expires_at = await records.reserve_upload(connection, client_id, keep)
        folder = S3Address(self._bucket, f"{records.FOLDER}/{number}/")
        stored: list[str] = []
        faults: list[FileFault] = []
        count = 0
        async for streamed in stream.parts(lambda part: self._most_bytes(part.name)):
            if streamed.part.name not in FILE_PARTS:
                raise ValidationFailedError(
                    f"the form has a part {streamed.part.name[:60]!r}; each picture is a part called files",
                    details=_HINT,
                    field=streamed.part.name[:60] or "name",
                )
            count += 1
            if count > self._settings.max_files:
                raise TooManyFilesError(
                    f"the upload has more than {self._settings.max_files} files (console.max_files)",
                    details="Send the files in several uploads.",
                    field="files",
                )
            name = sanitise_filename(streamed.part.filename or "") or f"file-{count}"
            try:
                media_type = await self._checked(streamed)
            except ImageError as error:
                faults.append(FileFault(name, error.code, str(error)))
                continue
            if not faults:
                address = folder.beside(_key(name, media_type, count, stored))
                await self._objects.put(address, streamed.part.data, media_type)
                stored.append(str(address))
        if faults:
            raise FilesRefusedError(faults)
        if not stored:
            raise ValidationFailedError("the form has no file", details=_HINT, field="files")
        return UploadedImages(inference_job_id=number, folder=str(folder), image_paths=stored, expires_at=expires_at)

    def _most_bytes(self, name: str) -> int:
        return self._settings.max_file_bytes if name in FILE_PARTS else OVERHEAD_BYTES

    async def _checked(self, streamed: StreamedPart) -> str:
        """Return the media type of a picture. Raises ImageError."""
        most = self._settings.max_file_bytes
        if streamed.too_large:
            raise image_too_large(streamed.size_bytes, most, "console.max_file_bytes")
        return (await asyncio.to_thread(inspect_image, streamed.part.data, self._limits)).media_type


def _key(name: str, media_type: str, count: int, stored: Sequence[str]) -> str:
    """Return a name for a picture that none of ``stored`` has, and that shows its format."""
    path = PurePosixPath(name.replace("/", "_"))
    stem, ending = path.stem.strip(". ")[:_LONGEST_STEM] or f"file-{count}", path.suffix.lower()
    if ending not in (".jpg", ".jpeg", ".png", ".tif", ".tiff"):
        ending = _ENDINGS[media_type]
    taken = {each.rpartition("/")[2] for each in stored}
    return f"{stem}{ending}" if f"{stem}{ending}" not in taken else f"{stem}-{count}{ending}"
