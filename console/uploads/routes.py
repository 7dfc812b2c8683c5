"""Serves uploads and their files."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Depends
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.types import Receive, Scope, Send

from console.http.callers import Caller, caller_of
from console.http.document import Responses, errors
from console.parts import ConsoleParts
from console.uploads.errors import FileExpiredError, UploadInUseError, file_not_found, upload_not_found
from console.uploads.form import FILES_FORM, FORMATS
from console.uploads.intake import UploadIntake
from console.uploads.records import UploadedFile, UploadRecords
from infra.errors import ImageMissingError
from infra.storage.frames.port import FrameStore
from infra.texts import counted

UPLOAD_PATH = "/api/v1/inference/upload"
_PICTURE_HEADERS = {
    "Cache-Control": "private, max-age=3600",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'",
}
_BYTES = {media_type: {"schema": {"type": "string", "format": "binary"}} for media_type in FORMATS}
_PICTURES: Responses = {
    200: {"description": "The bytes", "content": _BYTES},
    206: {"description": "The range that the header Range asks for", "content": _BYTES},
    304: {"description": "The picture has the ETag of If-None-Match"},
    416: {"description": "The picture has no such range"},
    **errors("FILE_EXPIRED", "STORAGE_UNAVAILABLE"),
}
_REFUSED = errors(
    *("INVALID_FORMAT", "FILE_TOO_LARGE", "INVALID_DIMENSIONS", "CORRUPTED_FILE", "TOO_COSTLY", "TOO_MANY_FILES"),
    *("VALIDATION_ERROR", "UPLOAD_TIMEOUT", "TOO_MANY_UPLOADS", "STORAGE_UNAVAILABLE", "STORAGE_FULL"),
)


class FileBody(BaseModel):
    """One picture of an upload."""

    filename: str
    file_id: str = Field(examples=["img_x1y2z3a4b5c6d7e8"])
    size_bytes: int
    format: Literal["JPEG", "PNG", "TIFF"]
    dimensions: tuple[int, int] = Field(description="width and height in stored pixels", examples=[[1920, 1080]])


class UploadData(BaseModel):
    """An upload and its files, in the order sent."""

    upload_id: str = Field(examples=["upl_a1b2c3d4e5f6g7h8"])
    uploaded_files: list[FileBody]
    expires_at: datetime = Field(description="when its files are removed")


class UploadBody(BaseModel):
    """The response to an upload."""

    status: Literal["success"] = "success"
    message: str
    data: UploadData


def uploads_router(parts: ConsoleParts) -> APIRouter:
    """Return the routes of uploads and of the original bytes of files."""
    router = APIRouter(tags=["uploads"])
    records = UploadRecords(parts)
    intake = UploadIntake(parts.settings, records, parts.store, parts.slots)

    @router.post(UPLOAD_PATH, summary="Upload pictures", openapi_extra=FILES_FORM, responses=_REFUSED)
    async def upload(request: Request, caller: Annotated[Caller, Depends(caller_of)]) -> UploadBody:
        """Keep the pictures of a form for some days. Where one is not accepted, nothing of the upload is kept."""
        new = await intake.receive(request, caller.client_id)
        message = f"{counted(len(new.files), 'image')} uploaded successfully"
        return UploadBody(message=message, data=_data(new.upload_id, new.files, new.expires_at))

    @router.get("/api/v1/uploads/{upload_id}", summary="An upload and its files")
    async def get_upload(upload_id: str, caller: Annotated[Caller, Depends(caller_of)]) -> UploadBody:
        """Return an upload of the client that has not expired."""
        found = await records.find(caller.client_id, upload_id)
        if found is None:
            raise upload_not_found(upload_id)
        row, files = found
        return UploadBody(message=counted(len(files), "image"), data=_data(row.upload_id, files, row.expires_at))

    @router.delete(
        "/api/v1/uploads/{upload_id}",
        summary="Remove the files of an upload",
        status_code=204,
        responses=errors("UPLOAD_IN_USE"),
    )
    async def delete_upload(upload_id: str, caller: Annotated[Caller, Depends(caller_of)]) -> Response:
        """Let an upload end now; its bytes are removed soon. Results of its jobs stay."""
        try:
            job = await records.expire(caller.client_id, upload_id)
        except LookupError as error:
            raise upload_not_found(upload_id) from error
        if job is not None:
            raise UploadInUseError(
                f"job {job} uses the upload and has not ended",
                details="Wait for its end, or cancel it.",
                field="upload_id",
            )
        return Response(status_code=204)

    @router.get(
        "/api/v1/files/{file_id}/original",
        summary="A picture as it was uploaded",
        response_class=Response,
        responses=_PICTURES,
    )
    async def original(file_id: str, caller: Annotated[Caller, Depends(caller_of)]) -> Response:
        """Return the bytes of a file, as they were sent."""
        return OriginalResponse(parts.store, await owned_file(records, caller, file_id))

    return router


async def owned_file(records: UploadRecords, caller: Caller, file_id: str) -> UploadedFile:
    """Return a file of the caller whose bytes are there. Raises FileNotFoundInUploadError and FileExpiredError."""
    found = await records.find_file(caller.client_id, file_id)
    if found is None:
        raise file_not_found(file_id)
    file, expired = found
    if expired:
        raise _expired(file)
    return file


class OriginalResponse(Response):
    """Sends the bytes of a file, or a range of them, from the store. Raises FileExpiredError when they are gone."""

    def __init__(self, store: FrameStore, file: UploadedFile) -> None:
        super().__init__()
        self._store = store
        self._file = file

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        image = self._file.image
        try:
            async with self._store.local(image) as path:
                headers = {"ETag": f'"{image.sha256}"', **_PICTURE_HEADERS}
                await FileResponse(path, headers=headers, media_type=image.media_type)(scope, receive, send)
        except ImageMissingError as error:
            raise _expired(self._file) from error


def _expired(file: UploadedFile) -> FileExpiredError:
    return FileExpiredError(
        f"the bytes of {file.filename} were removed with their upload",
        details="Uploads are kept for some days (console.upload_days); upload the picture again.",
        field="file_id",
    )


def _data(upload_id: str, files: Sequence[UploadedFile], expires_at: datetime) -> UploadData:
    return UploadData(
        upload_id=upload_id,
        uploaded_files=[
            FileBody(
                filename=file.filename,
                file_id=file.file_id,
                size_bytes=file.image.size_bytes,
                format=FORMATS[file.image.media_type],
                dimensions=(file.image.width, file.image.height),
            )
            for file in files
        ],
        expires_at=expires_at,
    )
