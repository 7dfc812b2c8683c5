"""Receives forms with many pictures: one after the other, each checked before it is kept, within all limits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from starlette.requests import Request

from console.settings import ConsoleSettings
from console.uploads.errors import FileFault, FilesRefusedError, TooManyFilesError
from infra.http_api.errors.api_errors import UploadTimeoutError, ValidationFailedError
from infra.http_api.limits.slots import UploadSlots
from infra.http_api.limits.turns import Turns
from infra.http_api.request.body import BodyLimit, BodyPieces, declared_length
from infra.http_api.request.file_names import sanitise_filename
from infra.http_api.request.form_stream import FormStream, StreamedPart
from infra.http_api.request.multipart import OVERHEAD_BYTES, FormPart, boundary_of
from ingest.images.check import ImageError, ImageLimits, image_too_large

FILE_PARTS = ("files", "file", "files[]")
FORMATS: Mapping[str, str] = {"image/jpeg": "JPEG", "image/png": "PNG", "image/tiff": "TIFF"}
"""What an upload may have, by media type, with the word for it."""
FILES_FORM: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["files"],
                    "properties": {
                        "files": {"type": "array", "minItems": 1, "items": {"type": "string", "format": "binary"}}
                    },
                }
            }
        },
    }
}
"""The form in the OpenAPI document."""
_SETTING = "console.max_files and console.max_file_bytes"
_HINT = 'Send a form with a part "files" for each picture, as "curl -F files=@a.jpg -F files=@b.png" does.'
# So many faults are listed; a client corrects these first.
_MOST_FAULTS = 100

_Result = TypeVar("_Result")


@dataclass(slots=True)
class PictureParts:
    """Gives the pictures of one form in order, and collects what is wrong with some of them."""

    parts: AsyncIterator[StreamedPart]
    settings: ConsoleSettings
    faults: list[FileFault] = field(default_factory=list)

    async def each(self) -> AsyncIterator[tuple[str, StreamedPart]]:
        """Yield the name and the part of each picture; what is no picture refuses the form.

        At the end it raises FilesRefusedError if there were faults. Raises ValidationFailedError, TooManyFilesError.
        """
        count, most = 0, self.settings.max_files
        async for streamed in self.parts:
            if streamed.part.name not in FILE_PARTS:
                raise _other_part(streamed.part)
            count += 1
            if count > most:
                raise TooManyFilesError(
                    f"the upload has more than {most} files; at most {most} are accepted (console.max_files)",
                    details="Send the files in several uploads. Nothing of this one was kept.",
                    field="files",
                )
            yield sanitise_filename(streamed.part.filename or "") or f"file-{count}", streamed
        if self.faults:
            raise FilesRefusedError(self.faults)
        if not count:
            raise ValidationFailedError("the form has no file", details=_HINT, field="files")

    def require_size(self, streamed: StreamedPart) -> None:
        """Raise ImageError for a picture that is too large; its content was left out."""
        most = self.settings.max_file_bytes
        if streamed.too_large:
            raise image_too_large(streamed.size_bytes, most, "console.max_file_bytes")

    def add_fault(self, filename: str, error: ImageError) -> None:
        """Keep that a picture is not accepted."""
        if len(self.faults) < _MOST_FAULTS:
            self.faults.append(FileFault(filename, error.code, str(error)))


class PictureForms:
    """Receives forms; a part that arrives, and one that is stored, are in memory."""

    def __init__(self, settings: ConsoleSettings, slots: UploadSlots) -> None:
        self._settings = settings
        self._slots = slots
        self._turns = Turns()
        most_bytes = settings.max_files * (settings.max_file_bytes + 1_024) + OVERHEAD_BYTES
        self._limit = BodyLimit(most_bytes, _SETTING, "files", "Send fewer or smaller files in one upload.")
        self.limits = ImageLimits(
            max_image_bytes=settings.max_file_bytes,
            min_side_px=settings.min_side_px,
            max_side_px=settings.max_side_px,
            max_pixels=settings.max_side_px**2,
            setting_names=("console.max_file_bytes", "console.max_side_px", "console.max_side_px"),
            formats=tuple(FORMATS.values()),
        )
        """What a picture may be"""

    async def receive(
        self,
        request: Request,
        client_id: str,
        read: Callable[[PictureParts], Awaitable[_Result]],
        admit: Callable[[], Awaitable[None]] | None = None,
    ) -> _Result:
        """Return what ``read`` makes of the pictures of ``request``; ``admit`` is called before anything is read.

        Raises ValidationFailedError for what is no form, UploadTimeoutError, OverloadedError, and the errors of
        ``read`` and ``admit``.
        """
        settings = self._settings
        boundary = boundary_of(_form_type(request))
        declared = declared_length(dict(request.scope["headers"]), self._limit)
        if admit is not None:
            await admit()
        reserved = min(declared, 2 * settings.max_file_bytes + OVERHEAD_BYTES, settings.max_in_flight_bytes // 2)
        with self._slots.reserve(reserved, client_id) as slot, slot.reading():
            pieces = BodyPieces(request.receive, self._limit, self._turns, client_id, slot)
            stream = FormStream(pieces.next_piece, boundary, settings.max_files + 32)
            try:
                async with asyncio.timeout(settings.upload_timeout_s):
                    return await read(PictureParts(stream.parts(self._most_bytes), settings))
            except TimeoutError as error:
                raise UploadTimeoutError(
                    f"the upload was not received and stored within {settings.upload_timeout_s:g} s "
                    "(console.upload_timeout_s); nothing of it was kept",
                    details="Send fewer files at once, or over a faster connection.",
                ) from error

    def _most_bytes(self, part: FormPart) -> int:
        return self._settings.max_file_bytes if part.name in FILE_PARTS else OVERHEAD_BYTES


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


def _other_part(part: FormPart) -> ValidationFailedError:
    return ValidationFailedError(
        f"the form has a part {part.name[:60]!r}; each picture is a part called files",
        details=_HINT,
        field=part.name[:60] or "name",
    )
