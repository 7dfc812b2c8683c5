"""Serves inference jobs: pictures for them, the jobs, their results, and the call-back of their processes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query
from starlette.requests import Request
from starlette.responses import Response

from console.http.bodies import JsonLimit, body_time_limit
from console.http.callers import Caller, caller_of
from console.http.connection import request_connection
from console.http.document import errors
from console.inference_jobs import records
from console.inference_jobs.bodies import (
    InferenceJobBody,
    NewInferenceJob,
    ResultRow,
    TakenBody,
    UploadedImages,
)
from console.inference_jobs.errors import ForeignPathError, job_not_found
from console.inference_jobs.images import ImagesIntake
from console.inference_settings import InferenceJobsSettings
from console.jobs.job_route import JobRoute
from console.parts import ConsoleParts
from console.uploads.form import FILES_FORM
from infra.auth.bearer import bearer_token
from infra.database.transaction import transaction
from infra.http_api.errors.api_errors import UnauthorizedError
from infra.http_api.limits.turns import Turns
from infra.http_api.request.body import declared_length, read_body
from infra.storage.s3_address import S3Address

PATH = "/api/v1/test_inference/inference"
CALLBACK_PATH = f"{PATH}/{{inference_job_id}}/results"
"""The route that has a secret of its own"""
_LARGEST_ID = 2**31 - 1
_MOST_ROWS = 1_000
_Caller = Annotated[Caller, Depends(caller_of)]
_JobId = Annotated[str, Path(description="the number of the job", examples=["456"])]
_POSTED = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["status"],
                    "properties": {
                        "status": {"type": "string", "enum": ["completed", "failed"]},
                        "total_images": {"type": "integer"},
                        "total_inference_time_ms": {"type": "number"},
                        "results": {"type": "array", "items": {"type": "object"}},
                        "error_message": {"type": "string"},
                    },
                }
            }
        },
    }
}


_ASK_ERRORS = errors("TOO_MANY_JOBS", "PATH_REFUSED", "NOT_INSTALLED")
_UPLOAD_ERRORS = errors(
    *("INVALID_FORMAT", "CORRUPTED_FILE", "FILE_TOO_LARGE", "TOO_MANY_FILES", "VALIDATION_ERROR", "TOO_MANY_UPLOADS"),
    *("UPLOAD_TIMEOUT", "STORAGE_UNAVAILABLE", "NOT_INSTALLED"),
)
# It is called with a secret of its own, so the document does not add what all routes with a key have.
_POSTED_ERRORS = errors(
    *("UNAUTHORIZED", "INFERENCE_JOB_NOT_FOUND", "INFERENCE_JOB_ENDED", "INVALID_CONFIG", "BODY_TOO_LARGE"),
    *("UPLOAD_TIMEOUT", "OVERLOADED", "DATABASE_UNAVAILABLE", "RATE_LIMIT_EXCEEDED"),
)


class _PlainTextRoute(JobRoute):
    """Is a route that takes JSON as text/plain, too: a browser's fetch calls it so when it is given text."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_plain(request: Request) -> Response:
            if request.headers.get("content-type", "").partition(";")[0].strip().lower() == "text/plain":
                others = [(name, value) for name, value in request.scope["headers"] if name != b"content-type"]
                request.scope["headers"] = [*others, (b"content-type", b"application/json")]
                request = Request(request.scope, request.receive)
            return await handle(request)

        return handle_plain


def inference_jobs_router(parts: ConsoleParts) -> APIRouter:
    """Return the routes of inference jobs."""
    router = APIRouter(route_class=_PlainTextRoute, tags=["inference jobs"])
    settings = parts.objects.settings
    intakes: list[ImagesIntake] = []
    limit, turns = JsonLimit(settings.max_results_bytes, "inference_jobs.max_results_bytes"), Turns()

    @router.post(
        f"{PATH}/images",
        summary="Upload pictures for an inference job",
        status_code=201,
        openapi_extra=FILES_FORM,
        responses=_UPLOAD_ERRORS,
    )
    async def upload(request: Request, caller: _Caller) -> UploadedImages:
        """Store the pictures in the bucket; a job that names them gets the id of their folder."""
        if not intakes:
            intakes.append(ImagesIntake(parts, parts.objects.open()))
        return await intakes[0].receive(request, caller.client_id)

    @router.post(
        f"{PATH}/jobs",
        summary="Ask for an inference job",
        status_code=201,
        responses=_ASK_ERRORS,
    )
    async def add(asked: NewInferenceJob, caller: _Caller) -> InferenceJobBody:
        """Keep a job; a process does it, and its results are there when its status is completed."""
        if settings.run == "process":
            # Its process is on this machine, or on one that is installed like it.
            parts.objects.require_installed()
        _require_buckets(asked, settings)
        most = parts.settings.max_open_jobs
        async with request_connection(parts, writing=True) as connection, transaction(connection):
            return await records.add_job(connection, parts.box, caller.client_id, asked, settings.bucket, most)

    @router.get(f"{PATH}/jobs/{{inference_job_id}}", summary="An inference job")
    async def get(inference_job_id: _JobId, caller: _Caller) -> InferenceJobBody:
        """Return status, counts and times."""
        async with request_connection(parts) as connection:
            return await records.find_job(connection, caller.client_id, _number(inference_job_id))

    @router.get(f"{PATH}/jobs/{{inference_job_id}}/results", summary="What an inference job has found")
    async def results(
        inference_job_id: _JobId,
        caller: _Caller,
        after: Annotated[int, Query(ge=0, le=_LARGEST_ID, description="the id of the last row of the page before")] = 0,
        page_size: Annotated[int, Query(ge=1, le=_MOST_ROWS)] = _MOST_ROWS,
    ) -> list[ResultRow]:
        """Return one row for each picture, in the order of the job; none until it is completed."""
        async with request_connection(parts) as connection:
            return list(
                await records.find_results(connection, caller.client_id, _number(inference_job_id), after, page_size)
            )

    @router.post(
        CALLBACK_PATH, summary="Post the results of an inference job", openapi_extra=_POSTED, responses=_POSTED_ERRORS
    )
    async def take(inference_job_id: _JobId, request: Request) -> TakenBody:
        """Take what the process of a job posts, with the token that it got. The same once more changes nothing."""
        token, job_id = _token_of(request), _number(inference_job_id)
        async with request_connection(parts, writing=True) as connection, transaction(connection):
            await records.check_token(connection, parts.box, job_id, token)
        who = f"inference-job-{job_id}"
        declared = declared_length(dict(request.scope["headers"]), limit)
        with parts.slots.reserve(min(declared, parts.settings.max_in_flight_bytes // 2), who) as slot:
            with slot.reading():
                body = await read_body(request.receive, limit, body_time_limit(parts.settings), turns, who)
            parsed = await asyncio.to_thread(records.parse_results, body, job_id)
            async with request_connection(parts, writing=True) as connection, transaction(connection):
                status = await records.check_token(connection, parts.box, job_id, token)
                return await records.take_results(connection, job_id, status, parsed)

    return router


def _number(text: str) -> int:
    """Return the number of a job in a path. Raises InferenceJobNotFoundError for what can be none."""
    if not text.isascii() or not text.isdecimal() or len(text) > len(str(_LARGEST_ID)) or int(text) > _LARGEST_ID:
        raise job_not_found(text)
    return int(text)


def _require_buckets(asked: NewInferenceJob, settings: InferenceJobsSettings) -> None:
    named = {"input_data.image_paths": asked.input_data.image_paths}
    if asked.checkpoint_path.startswith("s3://"):
        named["checkpoint_path"] = [asked.checkpoint_path]
    for field, paths in named.items():
        for path in paths:
            if S3Address.parse(path).bucket not in (settings.bucket, *settings.buckets):
                raise ForeignPathError(
                    f"{path}: its bucket is not one that jobs may read",
                    details=f"Use one of {', '.join(settings.buckets)}; the operator sets inference_jobs.buckets.",
                    field=field,
                )


def _token_of(request: Request) -> str:
    headers = request.headers
    token = bearer_token(headers.get("authorization", "")) or headers.get("x-callback-token", "").strip()
    if not token:
        raise UnauthorizedError(
            "no token of an inference job",
            details="Send what the process of the job has in CALLBACK_TOKEN, as Authorization: Bearer.",
            headers={"WWW-Authenticate": 'Bearer realm="standgale"'},
        )
    return token
