"""Serves the dashboard: the jobs of the client, and how much work of all clients waits."""

from __future__ import annotations

from typing import Annotated, Any, get_args

from fastapi import APIRouter, Depends
from starlette.responses import Response

from console.http.callers import Caller, caller_of
from console.http.connection import request_connection
from console.http.json_response import json_response
from console.jobs.estimate import Estimates
from console.jobs.job_route import JobRoute
from console.jobs.status import SELECT, job_body, job_row
from console.monitoring.bodies import DashboardBody
from console.monitoring.workload import WorkloadReader
from console.parts import ConsoleParts
from infra.database.pool import Connection
from schemas.job_events import JobStatus
from schemas.timestamps import format_utc

_COUNTS = "SELECT status, count(*) AS jobs FROM jobs WHERE client_id = $1 GROUP BY status"
_CURRENT = f"""
{SELECT} WHERE j.client_id = $1 AND j.status = 'processing' AND j.finished_at IS NULL
ORDER BY j.started_at, j.id LIMIT 1
"""


def monitoring_router(parts: ConsoleParts) -> APIRouter:
    """Return the route of the dashboard."""
    routes = APIRouter(route_class=JobRoute, tags=["monitoring"])
    workloads, estimates = WorkloadReader(), Estimates()

    @routes.get(
        "/api/v1/monitoring/dashboard", response_model=DashboardBody, summary="What is done now, and what waits"
    )
    async def dashboard(caller: Annotated[Caller, Depends(caller_of)]) -> Response:
        """Return the client's jobs by status, and how much work of all clients waits and how fast it is done."""
        async with request_connection(parts) as connection:
            workload = await workloads.read(connection)
            await estimates.refresh(connection)
            jobs = await _counts(connection, caller.client_id)
            current: Any = await connection.fetchrow(_CURRENT, caller.client_id)
        workers = await parts.detectors.count()
        data = {
            "current_job": None if current is None else job_body(job_row(current), estimates),
            "jobs": jobs,
            "queue_length": workload.queue_length,
            "waiting_files": workload.waiting_files,
            "active_workers": workers,
            "average_inference_seconds": workload.average_inference_seconds,
            "completed_per_minute": workload.completed_per_minute,
            "queue_history": [{"time": format_utc(at), "queue_length": jobs} for at, jobs in workload.history],
        }
        return json_response({"status": "success", "data": data})

    return routes


async def _counts(connection: Connection, client_id: str) -> dict[str, int]:
    found = {row["status"]: row["jobs"] for row in await connection.fetch(_COUNTS, client_id)}
    return {status: found.get(status, 0) for status in get_args(JobStatus)}
