"""Serves GET /api/v1/jobs/{job_id}/status."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends
from starlette.responses import Response

from console.http.callers import Caller, caller_of
from console.http.connection import request_connection
from console.http.json_response import json_response
from console.jobs.estimate import Estimates
from console.jobs.status import find_job, job_body
from console.parts import ConsoleParts


def status_router(parts: ConsoleParts, estimates: Estimates) -> APIRouter:
    """Return the route that says what has become of a job."""
    routes = APIRouter(tags=["jobs"])

    @routes.get("/api/v1/jobs/{job_id}/status", summary="What has become of a job")
    async def status(job_id: str, caller: Annotated[Caller, Depends(caller_of)]) -> Response:
        """Return the job with its progress. `completed` means that all results are there."""
        async with request_connection(parts) as connection:
            job = await find_job(connection, caller.client_id, job_id)
        return json_response({"status": "success", "data": job_body(job, estimates)})

    return routes
