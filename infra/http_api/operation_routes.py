"""Serves health and metrics beside the endpoints of an API."""

from __future__ import annotations

from importlib.metadata import version
from typing import Literal

from fastapi import FastAPI
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel
from starlette.responses import Response

from infra.process.health import Health
from infra.telemetry.metrics_page import MetricsPage


class HealthResponse(BaseModel):
    """Describes the state of a service."""

    status: Literal["healthy", "unhealthy"]
    version: str
    parts: dict[str, str]


def add_operations(app: FastAPI, health: Health) -> None:
    """Add the endpoints of health and metrics to ``app``."""
    release = version("standgale")
    page = MetricsPage()

    @app.get(
        "/api/v1/health",
        tags=["operations"],
        summary="Whether the service works now",
        response_model=HealthResponse,
        responses={503: {"model": HealthResponse, "description": "A part is unavailable"}},
    )
    async def health_state() -> JSONResponse:
        report = health.report()
        body = HealthResponse(
            status="healthy" if report.ready else "unhealthy",
            version=release,
            # Reasons name hosts and folders; they are shown on the health port, which is not public.
            parts={name: "ready" if part.ready else "not ready" for name, part in report.parts.items()},
        )
        return JSONResponse(body.model_dump(), 200 if report.ready else 503)

    @app.get("/api/v1/metrics", tags=["operations"], summary="Prometheus metrics", response_class=Response)
    async def metrics() -> Response:
        return Response(page.render(), media_type=CONTENT_TYPE_LATEST)
