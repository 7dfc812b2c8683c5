"""Lists the routes of all rooms of the console."""

from __future__ import annotations

from fastapi import APIRouter

from console.jobs.routes import job_routers
from console.parts import ConsoleParts
from console.results.picture_routes import pictures_router
from console.results.routes import results_router
from console.uploads.routes import uploads_router
from console.webhooks.routes import webhooks_router


def console_routers(parts: ConsoleParts) -> list[APIRouter]:
    """Return the routes of every room."""
    return [
        uploads_router(parts),
        *job_routers(parts),
        results_router(parts),
        pictures_router(parts),
        webhooks_router(parts),
    ]
