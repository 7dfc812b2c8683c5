"""Serves POST /api/v1/inference/predict: makes a job, and answers before any of its work is done."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends
from starlette.responses import Response

from console.http.callers import Caller, caller_of
from console.http.connection import request_connection
from console.http.document import errors
from console.http.json_response import json_response
from console.jobs.bodies import AcceptedBody
from console.jobs.config import KeptConfig, PredictRequest
from console.jobs.creation import NewJob, find_files, find_webhook, insert_job
from console.jobs.estimate import Estimates
from console.jobs.job_route import JobRoute
from console.jobs.models import require_model
from console.jobs.rules import rules_of
from console.parts import ConsoleParts
from infra.database.transaction import transaction
from infra.texts import counted
from schemas.timestamps import format_utc
from sinks.metrics import JOBS


def predict_router(parts: ConsoleParts, estimates: Estimates) -> APIRouter:
    """Return the route that makes jobs."""
    routes = APIRouter(route_class=JobRoute, tags=["jobs"])

    @routes.post(
        "/api/v1/inference/predict",
        status_code=202,
        response_model=AcceptedBody,
        summary="Ask for a job",
        responses=errors("UPLOAD_NOT_FOUND", "TOO_MANY_JOBS"),
    )
    async def predict(asked: PredictRequest, caller: Annotated[Caller, Depends(caller_of)]) -> Response:
        """Make a job of uploaded files. It is kept before the response, and done later; `status_url` follows it."""
        await require_model(asked.config, parts.models)
        config = KeptConfig(asked=asked.config, rules=await rules_of(asked.config, parts.rules))
        async with request_connection(parts, writing=True) as connection:
            load = await estimates.refresh(connection)
            async with transaction(connection):
                webhook = await find_webhook(connection, caller.client_id, asked.webhook_id)
                config = config.model_copy(update={"webhook": webhook})
                upload, files = await find_files(connection, caller.client_id, asked.upload_id, asked.file_ids)
                job = await insert_job(
                    connection, caller.client_id, upload, files, config, most_open=parts.settings.max_open_jobs
                )
        JOBS.labels("queued").inc()
        return accepted(job, format_utc(job.created_at + load.until_done(job.file_count)))

    return routes


def accepted(job: NewJob, estimated_completion: str) -> Response:
    """Return the response to a request for a job that was made."""
    data = {
        "job_id": job.job_id,
        "status": job.status,
        "created_at": format_utc(job.created_at),
        "estimated_completion": estimated_completion,
        "file_count": job.file_count,
        "status_url": f"/api/v1/jobs/{job.job_id}/status",
    }
    message = f"Inference job created with {counted(job.file_count, 'file')}"
    return json_response({"status": "accepted", "message": message, "data": data}, 202)
