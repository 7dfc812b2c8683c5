"""Serves the pictures of jobs: where they are, the drawn ones, and all as data URLs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from console.http.callers import Caller, caller_of
from console.http.document import Responses, errors
from console.http.errors import InvalidConfigError
from console.parts import ConsoleParts
from console.results.bodies import PictureAddresses, VisualizationBody, Visualizations
from console.results.errors import ResultsNotReadyError, VisualizationDisabledError, file_expired
from console.results.inline_pictures import InlinePicturesResponse
from console.results.pictures import Draw, DrawOptions, PictureDrawer
from console.results.records import Found, ResultFile, ResultJob, ResultRecords
from infra.errors import ImageMissingError

_Caller = Annotated[Caller, Depends(caller_of)]
_JobQuery = Annotated[str | None, Query(description="whose boxes; without it those of the last completed job")]
_WITHOUT_PICTURES = errors("RESULTS_NOT_READY", "VISUALIZATION_DISABLED", "FILE_EXPIRED", "STORAGE_UNAVAILABLE")
_JPEG: Responses = {
    200: {
        "description": "The picture",
        "content": {"image/jpeg": {"schema": {"type": "string", "format": "binary"}}},
    },
    **_WITHOUT_PICTURES,
}
_PICTURES: Responses = {200: {"model": VisualizationBody, "description": "The pictures"}, **_WITHOUT_PICTURES}
_HEADERS = {"Cache-Control": "private, max-age=3600", "X-Content-Type-Options": "nosniff"}
_MOST_INLINE = 10
_MOST_INLINE_BYTES = 20_000_000


def pictures_router(parts: ConsoleParts) -> APIRouter:
    """Return the routes of pictures."""
    router = APIRouter(tags=["results"])
    records, drawer = ResultRecords(parts), PictureDrawer(parts.store, parts.settings)

    @router.get("/api/v1/jobs/{job_id}/visualization", summary="The pictures of a job", responses=_PICTURES)
    async def visualization(
        job_id: str,
        caller: _Caller,
        file_id: Annotated[str | None, Query(description="only this file")] = None,
        format: Annotated[str, Query(json_schema_extra={"enum": ["url", "base64"]})] = "url",  # noqa: A002 (the parameter's name)
    ) -> Response:
        """Return the addresses of all pictures, or the pictures themselves as data URLs, of at most ten files."""
        if format not in ("url", "base64"):
            raise InvalidConfigError.of("format", "Must be url or base64")
        job = await records.job(caller.client_id, job_id)
        options = _options(job)
        files = await records.files(job, file_id)
        if format == "url":
            entries = [_addresses(job, each) for each in files]
            body = VisualizationBody(data=Visualizations(job_id=job.job_id, visualizations=entries))
            return Response(body.model_dump_json(), media_type="application/json")
        _require_inline(files)
        alone = file_id is not None
        return InlinePicturesResponse(parts.store, drawer, records, job, files, options, alone=alone)

    async def drawn(caller: Caller, file_id: str, job_id: str | None, *, small: bool) -> Response:
        client = caller.client_id
        job = await (records.latest_job(client, file_id) if job_id is None else records.job(client, job_id))
        options = _options(job)
        [file] = await records.files(job, file_id)
        if file.failed:
            raise ResultsNotReadyError(
                f"{file.file.filename} has no result: {file.error_message}", details=file.error_code, field="file_id"
            )
        found = await records.found(file)
        return DrawnResponse(drawer.thumbnail if small else drawer.annotated, file, found, options)

    @router.get(
        "/api/v1/files/{file_id}/annotated",
        summary="A picture with its boxes",
        response_class=Response,
        responses=_JPEG,
    )
    async def annotated(file_id: str, caller: _Caller, job_id: _JobQuery = None) -> Response:
        """Return the picture with what a job found in it, as JPEG."""
        return await drawn(caller, file_id, job_id, small=False)

    @router.get(
        "/api/v1/files/{file_id}/thumbnail",
        summary="A small picture with its boxes",
        response_class=Response,
        responses=_JPEG,
    )
    async def thumbnail(file_id: str, caller: _Caller, job_id: _JobQuery = None) -> Response:
        """Return the picture with its boxes, at most 320 pixels long, as JPEG."""
        return await drawn(caller, file_id, job_id, small=True)

    return router


class DrawnResponse(Response):
    """Draws a picture and sends it, and keeps its place among the pictures in memory until it is sent.

    Raises FileExpiredError, OverloadedError and store errors, all before anything is sent.
    """

    def __init__(self, draw: Draw, file: ResultFile, found: Sequence[Found], options: DrawOptions) -> None:
        super().__init__()
        self._draw, self._file, self._found, self._options = draw, file, found, options

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        try:
            async with self._draw(self._file.file.image, self._found, self._options) as picture:
                await Response(picture, media_type="image/jpeg", headers=_HEADERS)(scope, receive, send)
        except ImageMissingError as error:
            raise file_expired(self._file.file.filename) from error


def _options(job: ResultJob) -> DrawOptions:
    """Return what is drawn for a job. Raises VisualizationDisabledError for one that wanted no pictures."""
    wanted = job.visualization
    if wanted.get("enabled") is False:
        raise VisualizationDisabledError(
            f"job {job.job_id} was asked for without pictures (config.visualization.enabled)",
            details="Its results are at /results; ask for a job with pictures for them.",
            field="job_id",
        )
    return DrawOptions(wanted.get("show_labels") is not False, wanted.get("confidence_display") is not False)


def _addresses(job: ResultJob, file: ResultFile) -> PictureAddresses:
    path = f"/api/v1/files/{file.file.file_id}"
    of_job = f"?job_id={job.job_id}"
    return PictureAddresses(
        file_id=file.file.file_id,
        filename=file.file.filename,
        original_url=f"{path}/original",
        annotated_url=None if file.failed else f"{path}/annotated{of_job}",
        thumbnail_url=None if file.failed else f"{path}/thumbnail{of_job}",
        detection_count=file.count,
    )


def _require_inline(files: Sequence[ResultFile]) -> None:
    """Raise InvalidConfigError when the pictures are too many, or too large, for one body."""
    if len(files) > _MOST_INLINE:
        raise InvalidConfigError.of(
            "file_id", f"Must name one file: {len(files)} are more than {_MOST_INLINE} in base64; or use format=url"
        )
    size_bytes = sum(each.file.image.size_bytes for each in files)
    if size_bytes > _MOST_INLINE_BYTES and len(files) > 1:
        raise InvalidConfigError.of(
            "file_id",
            f"Must name one file: {size_bytes} bytes are more than {_MOST_INLINE_BYTES} in base64; or use format=url",
        )
