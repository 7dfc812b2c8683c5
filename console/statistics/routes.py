"""Serves the statistics of live frames, by pages."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from starlette.responses import Response

from console.http.callers import Caller, caller_of
from console.http.connection import request_connection
from console.http.errors import InvalidConfigError
from console.http.json_response import json_response
from console.jobs.job_route import JobRoute
from console.parts import ConsoleParts
from console.statistics.bodies import StatisticsBody
from infra.storable import StorableText, StorableTime, require_written_time
from sinks.statistics.listing import WindowFilters, find_place, list_windows

_Text = Annotated[StorableText, Field(min_length=1, max_length=255)]
_Time = Annotated[StorableTime, BeforeValidator(require_written_time)]


class StatisticsQuery(BaseModel):
    """Says which windows are listed."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    device_id: _Text | None = None
    label: _Text | None = None
    """Only windows in which it was found"""
    model_name: _Text | None = None
    model_version: _Text | None = None
    minute_from: _Time | None = None
    """Only windows that begin at this time or later"""
    minute_to: _Time | None = None
    """Only windows that begin before this time"""
    limit: Annotated[int, Field(ge=1, le=1_000)] = 100
    before: UUID | None = None
    """Only windows after this one in the list: ``next_before`` of the page before"""


def statistics_router(parts: ConsoleParts) -> APIRouter:
    """Return the route of the statistics."""
    routes = APIRouter(route_class=JobRoute, tags=["monitoring"])

    @routes.get(
        "/api/v1/statistics", response_model=StatisticsBody, summary="What was counted in each minute of each device"
    )
    async def statistics(
        query: Annotated[StatisticsQuery, Query()], caller: Annotated[Caller, Depends(caller_of)]
    ) -> Response:
        """Return windows of live frames, the newest first; frames of jobs are their clients' alone and not listed."""
        del caller  # Every client may see what the live stream shows to all.
        filters = WindowFilters(
            query.device_id,
            query.label,
            query.model_name,
            query.model_version,
            "live",
            query.minute_from,
            query.minute_to,
        )
        async with request_connection(parts) as connection:
            after = None if query.before is None else await find_place(connection, query.before)
            if query.before is not None and after is None:
                raise InvalidConfigError.of("before", f"Must be the id of a window; there is no {query.before}")
            windows = await list_windows(connection, filters, limit=query.limit, after=after)
        next_before = windows[-1]["window_id"] if len(windows) == query.limit else None
        return json_response({"status": "success", "data": {"windows": windows, "next_before": next_before}})

    return routes
