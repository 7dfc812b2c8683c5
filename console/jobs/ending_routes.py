"""Serves POST /api/v1/jobs/{job_id}/cancel and /retry."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends
from starlette.responses import Response

from console.http.callers import Caller, caller_of
from console.http.connection import request_connection
from console.http.document import errors
from console.http.json_response import json_response
from console.jobs.bodies import AcceptedBody, JobBody
from console.jobs.ending import cancel_job, retry_job
from console.jobs.estimate import Estimates
from console.jobs.job_route import JobRoute
from console.jobs.predict import accepted
from console.jobs.status import find_job, job_body
from console.parts import ConsoleParts
from infra.database.transaction import transaction
from schemas.timestamps import format_utc
from sinks.metrics import JOBS
from sinks.postgres.jobs import note_ended


def ending_router(parts: ConsoleParts, estimates: Estimates) -> APIRouter:
    """Return the routes that cancel jobs and do failed files again."""
    routes = APIRouter(route_class=JobRoute, tags=["jobs"])

    @routes.post(
        "/api/v1/jobs/{job_id}/cancel",
        response_model=JobBody,
        summary="Cancel a job",
        responses=errors("JOB_ENDED"),
    )
    async def cancel(job_id: str, caller: Annotated[Caller, Depends(caller_of)]) -> Response:
        """Cancel a job that has not ended. Files that are with a detector may still get a result."""
        async with request_connection(parts, writing=True) as connection:
            async with transaction(connection):
                ended = await cancel_job(connection, caller.client_id, job_id)
            job = await find_job(connection, caller.client_id, job_id)
        note_ended([] if ended is None else [ended])
        return json_response({"status": "success", "data": job_body(job, estimates)})

    @routes.post(
        "/api/v1/jobs/{job_id}/retry",
        status_code=202,
        response_model=AcceptedBody,
        summary="Do failed files again",
        responses=errors("NOTHING_TO_RETRY", "UPLOAD_NOT_FOUND", "TOO_MANY_JOBS"),
    )
    async def retry(job_id: str, caller: Annotated[Caller, Depends(caller_of)]) -> Response:
        """Make a job of the files of an ended job that have no result, with the same options."""
        async with request_connection(parts, writing=True) as connection:
            load = await estimates.refresh(connection)
            async with transaction(connection):
                most_open = parts.settings.max_open_jobs
                job, is_new = await retry_job(connection, caller.client_id, job_id, most_open=most_open)
        if is_new:
            JOBS.labels("queued").inc()
        return accepted(job, format_utc(job.created_at + load.until_done(job.file_count)))

    return routes
