"""Lists the routes about jobs."""

from __future__ import annotations

from fastapi import APIRouter

from console.jobs.ending_routes import ending_router
from console.jobs.estimate import Estimates
from console.jobs.predict import predict_router
from console.jobs.status_routes import status_router
from console.parts import ConsoleParts


def job_routers(parts: ConsoleParts) -> list[APIRouter]:
    """Return the routes about jobs."""
    estimates = Estimates()
    return [make(parts, estimates) for make in (predict_router, status_router, ending_router)]
