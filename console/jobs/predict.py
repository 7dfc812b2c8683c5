"""Serves POST /api/v1/inference/predict: makes a job, and answers before any of its work is done."""

from __future__ import annotations

from hashlib import sha256
from typing import Annotated

from fastapi import APIRouter, Depends, Header
from starlette.responses import Response

from console.http.callers import Caller, caller_of
from console.http.connection import request_connection
from console.http.document import errors
from console.http.json_response import json_response
from console.jobs.bodies import AcceptedBody
from console.jobs.config import KeptConfig, PredictRequest
from console.jobs.creation import (
    NewJob,
    RequestKey,
    SameRequestError,
    find_files,
    find_requested,
    find_webhook,
    insert_job,
)
from console.jobs.estimate import Estimates
from console.jobs.job_route import JobRoute
from console.jobs.models import ModelFields, require_model
from console.jobs.options import model_of
from console.jobs.rules import rules_of
from console.parts import ConsoleParts
from infra.database.transaction import transaction
from infra.texts import counted
from schemas.timestamps import format_utc
from sinks.metrics import JOBS

_FIELDS = ModelFields("config.model", "config.prompt")
_Key = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        pattern=r"^[\x21-\x7e]+$",
        description="Of your choice, for example a UUID: the same request with the same key makes one job",
    ),
]


def predict_router(parts: ConsoleParts, estimates: Estimates) -> APIRouter:
    """Return the route that makes jobs."""
    routes = APIRouter(route_class=JobRoute, tags=["jobs"])

    @routes.post(
        "/api/v1/inference/predict",
        status_code=202,
        response_model=AcceptedBody,
        summary="Ask for a job",
        responses=errors("UPLOAD_NOT_FOUND", "TOO_MANY_JOBS", "IDEMPOTENCY_KEY_REUSED"),
    )
    async def predict(
        asked: PredictRequest, caller: Annotated[Caller, Depends(caller_of)], idempotency_key: _Key = None
    ) -> Response:
        """Make a job of uploaded files. It is kept before the response, and done later; `status_url` follows it.

        The same request with the same `Idempotency-Key` makes one job, however often it is sent.
        """
        request = None if idempotency_key is None else RequestKey(idempotency_key, _digest(asked))
        if request is not None:
            async with request_connection(parts) as connection:
                made = await find_requested(connection, caller.client_id, request)
            if made is not None:
                return _accepted_again(made, estimates)
        await require_model(model_of(asked.config), asked.config.prompt, parts.models, _FIELDS)
        config = KeptConfig(asked=asked.config, rules=await rules_of(asked.config, parts.rules))
        async with request_connection(parts, writing=True) as connection:
            load = await estimates.refresh(connection)
            try:
                async with transaction(connection):
                    webhook = await find_webhook(connection, caller.client_id, asked.webhook_id)
                    config = config.model_copy(update={"webhook": webhook})
                    upload, files = await find_files(connection, caller.client_id, asked.upload_id, asked.file_ids)
                    most_open = parts.settings.max_open_jobs
                    job = await insert_job(
                        connection, caller.client_id, upload, files, config, most_open=most_open, request=request
                    )
            except SameRequestError:
                assert request is not None
                made = await find_requested(connection, caller.client_id, request)
                if made is None:
                    raise
                return _accepted_again(made, estimates)
        JOBS.labels("queued").inc()
        return accepted(job, format_utc(job.created_at + load.until_done(job.file_count)))

    return routes


def _digest(asked: PredictRequest) -> str:
    return sha256(asked.model_dump_json().encode()).hexdigest()


def _accepted_again(job: NewJob, estimates: Estimates) -> Response:
    return accepted(job, format_utc(job.created_at + estimates.load.until_done(job.file_count)))


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
