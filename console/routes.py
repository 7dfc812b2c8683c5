"""Lists the routes of all rooms of the console."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import APIRouter

from console.detections.routes import detections_router
from console.inference_jobs.routes import CALLBACK_PATH, inference_jobs_router
from console.jobs.routes import job_routers
from console.media.open_streams import MediaStreams
from console.media.routes import media_router
from console.monitoring.routes import monitoring_router
from console.parts import ConsoleParts
from console.progress.routes import progress_router
from console.progress.watch import JobWatch
from console.results.picture_routes import pictures_router
from console.results.routes import results_router
from console.statistics.routes import statistics_router
from console.uploads.routes import uploads_router
from console.webhooks.routes import webhooks_router

PUBLIC_ROUTES: Sequence[str] = (CALLBACK_PATH,)
"""Routes with a secret of their own instead of an API key; they read their bodies themselves, once it is checked"""


def console_routers(parts: ConsoleParts, watch: JobWatch, media: MediaStreams) -> list[APIRouter]:
    """Return the routes of every room; ``watch`` and ``media`` are components that must run, too."""
    return [
        uploads_router(parts),
        *job_routers(parts),
        progress_router(parts, watch),
        monitoring_router(parts),
        statistics_router(parts),
        results_router(parts),
        detections_router(parts),
        pictures_router(parts),
        webhooks_router(parts),
        media_router(parts, media),
        inference_jobs_router(parts),
    ]
