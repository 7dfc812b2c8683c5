"""Receives pictures for an inference job to come, and removes those that no job has used."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from starlette.requests import Request

from console.http.connection import request_connection
from console.inference_jobs import records
from console.inference_jobs.bodies import UploadedImages
from console.parts import ConsoleParts
from console.uploads.errors import TooManyUploadsError
from console.uploads.form import PictureForms, PictureParts
from infra.storage.s3_address import S3Address
from ingest.images.check import ImageError, inspect_image

if TYPE_CHECKING:
    from infra.storage.s3_objects import S3Objects

_ENDINGS = {"image/jpeg": ".jpg", "image/png": ".png", "image/tiff": ".tif"}
_LONGEST_STEM = 150
# So long the pictures of an upload that was not completed stay, beside the time that an upload may take.
_CUT_OFF_KEPT = timedelta(minutes=10)


class ImagesIntake:
    """Receives forms with pictures; each is checked by its content, and stored while the next one arrives."""

    def __init__(self, parts: ConsoleParts, objects: S3Objects) -> None:
        self._parts = parts
        self._settings = parts.settings
        self._bucket = parts.objects.settings.bucket
        self._objects = objects
        self._forms = PictureForms(parts.settings, parts.slots)

    async def receive(self, request: Request, client_id: str) -> UploadedImages:
        """Return where the pictures of ``request`` are, all of them stored.

        Raises FilesRefusedError, TooManyFilesError, TooManyUploadsError, the other errors of
        :meth:`PictureForms.receive`, and the errors of store and database.
        """
        return await self._forms.receive(
            request, client_id, lambda parts: self._read(parts, client_id), lambda: self._require_room(client_id)
        )

    async def _require_room(self, client_id: str) -> None:
        async with request_connection(self._parts) as connection:
            unused, most = await records.count_uploads(connection, client_id), self._settings.max_open_uploads
        if unused >= most:
            raise TooManyUploadsError(
                f"this client has {unused} uploads that no inference job has used; at most {most} are kept "
                "(console.max_open_uploads)",
                details="Use them; they are removed after some days, and those that were cut off, or refused because "
                "of a later file, within the hour.",
            )

    async def _read(self, parts: PictureParts, client_id: str) -> UploadedImages:
        number, folder = 0, S3Address(self._bucket, "")
        stored: list[str] = []
        async for name, streamed in parts.each():
            data = streamed.part.data
            try:
                parts.require_size(streamed)
                info = await asyncio.to_thread(inspect_image, data, self._forms.limits)
            except ImageError as error:
                parts.add_fault(name, error)
                continue
            if parts.faults:
                continue
            if not stored:
                # Before anything is stored; of an upload that is refused earlier nothing is to be removed.
                number = await self._reserve(client_id)
                folder = S3Address(self._bucket, f"{records.FOLDER}/{number}/")
            address = folder.beside(_key(name, info.media_type, stored))
            await self._objects.put(address, data, info.media_type)
            stored.append(str(address))
        async with request_connection(self._parts, writing=True) as connection:
            expires_at = await records.keep_upload(connection, number, timedelta(days=self._settings.upload_days))
        return UploadedImages(inference_job_id=number, folder=str(folder), image_paths=stored, expires_at=expires_at)

    async def _reserve(self, client_id: str) -> int:
        """Return the id of an upload; what is stored of it expires soon, until it is complete."""
        keep = timedelta(seconds=self._settings.upload_timeout_s) + _CUT_OFF_KEPT
        async with request_connection(self._parts, writing=True) as connection:
            return await records.reserve_upload(connection, client_id, keep)


def _key(name: str, media_type: str, stored: Sequence[str]) -> str:
    """Return a name for a picture that none of ``stored`` has, and that shows its format."""
    count = len(stored) + 1
    path = PurePosixPath(name.replace("/", "_"))
    stem, ending = path.stem.strip(". ")[:_LONGEST_STEM] or f"file-{count}", path.suffix.lower()
    if ending not in (".jpg", ".jpeg", ".png", ".tif", ".tiff"):
        ending = _ENDINGS[media_type]
    taken = {each.rpartition("/")[2] for each in stored}
    return f"{stem}{ending}" if f"{stem}{ending}" not in taken else f"{stem}-{count}{ending}"
