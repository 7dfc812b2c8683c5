"""Serves what has become of jobs: of one with its files, and of all of a client, by pages."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from starlette.responses import Response

from console.http.callers import Caller, caller_of
from console.http.connection import request_connection
from console.http.direct_route import DirectRoute
from console.http.json_response import json_response
from console.jobs.bodies import FilesBody, JobBody, JobsBody
from console.jobs.estimate import Estimates
from console.jobs.job_reader import JobReader
from console.jobs.job_route import JobRoute
from console.jobs.listing import Filters, files_page, jobs_page
from console.jobs.status import asked_of, faults_of, find_job, job_body, may_have_faults
from console.parts import ConsoleParts
from infra.storable import StorableText, StorableTime, require_written_time
from schemas.job_events import JobStatus

_Limit = Annotated[int, Field(ge=1, le=100)]


_Time = Annotated[StorableTime, BeforeValidator(require_written_time)]


class _Query(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class JobsQuery(_Query):
    """Says which jobs are listed."""

    status: list[JobStatus] = Field(default_factory=list)
    """May be given several times; left out: all"""
    upload_id: Annotated[StorableText, Field(max_length=255)] | None = None
    """Only jobs of this upload"""
    created_from: _Time | None = None
    """Only jobs that were made at this time or later"""
    created_to: _Time | None = None
    """Only jobs that were made before this time"""
    limit: _Limit = 20
    before: Annotated[StorableText, Field(max_length=255)] | None = None
    """Only jobs that are older than this one: ``next_before`` of the page before"""


class FilesQuery(_Query):
    """Says which files of a job are listed."""

    limit: _Limit = 100
    after: Annotated[int, Field(ge=-1, le=10_000_000)] = -1
    """``next_after`` of the page before"""


def status_router(parts: ConsoleParts, estimates: Estimates) -> APIRouter:
    """Return the routes that say what has become of jobs."""
    routes, reader = APIRouter(route_class=JobRoute, tags=["jobs"]), JobReader(parts)

    async def status(job_id: str, caller: Annotated[Caller, Depends(caller_of)]) -> Response:
        """Return the job with its progress. `completed` means that all results are there."""
        job = await reader.find(caller.client_id, job_id)
        body = job_body(job, estimates)
        if not may_have_faults(job):
            return _success(body)
        async with request_connection(parts) as connection:
            return _success(body | await faults_of(connection, job))

    routes.add_api_route(
        "/api/v1/jobs/{job_id}/status",
        status,
        response_model=JobBody,
        summary="What has become of a job",
        route_class_override=DirectRoute,
    )

    @routes.get("/api/v1/jobs/{job_id}", response_model=JobBody, summary="A job with its options")
    async def get_job(job_id: str, caller: Annotated[Caller, Depends(caller_of)]) -> Response:
        """Return the job as its status does, with the options that were asked for."""
        async with request_connection(parts) as connection:
            job = await find_job(connection, caller.client_id, job_id)
            faults = await faults_of(connection, job)
            config = await asked_of(connection, job)
        return _success(job_body(job, estimates) | {"config": config} | faults)

    @routes.get("/api/v1/jobs/{job_id}/files", response_model=FilesBody, summary="The files of a job")
    async def get_files(
        job_id: str, query: Annotated[FilesQuery, Query()], caller: Annotated[Caller, Depends(caller_of)]
    ) -> Response:
        """Return the files in the order of the upload, each with its result's size or its error."""
        async with request_connection(parts) as connection:
            job = await find_job(connection, caller.client_id, job_id)
            files = await files_page(connection, job.id, limit=query.limit, after=query.after)
        return _success({"job_id": job.job_id, **files})

    @routes.get("/api/v1/jobs", response_model=JobsBody, summary="Your jobs")
    async def list_jobs(
        query: Annotated[JobsQuery, Query()], caller: Annotated[Caller, Depends(caller_of)]
    ) -> Response:
        """Return the jobs of the client, the newest first, by pages."""
        filters = Filters(tuple(query.status), query.upload_id, query.created_from, query.created_to)
        async with request_connection(parts) as connection:
            jobs = await jobs_page(connection, caller.client_id, filters, limit=query.limit, before=query.before)
        next_before = jobs[-1].job_id if len(jobs) == query.limit else None
        return _success({"jobs": [job_body(job, estimates) for job in jobs], "next_before": next_before})

    return routes


def _success(data: dict[str, Any]) -> Response:
    return json_response({"status": "success", "data": data})
