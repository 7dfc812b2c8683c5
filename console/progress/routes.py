"""Serves the progress of a job as server-sent events, which end with the job."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from console.http.callers import Caller, caller_of
from console.http.connection import request_connection
from console.http.document import Responses, errors
from console.jobs.job_route import JobRoute
from console.jobs.status import JobRow, find_job
from console.parts import ConsoleParts
from console.progress.events import HEARTBEAT, event_id
from console.progress.watch import STREAM, JobWatch, Watcher
from sinks.metrics import SSE_EVENTS

_LONGEST_S = 3_600.0
"""Then the client connects again."""
_RETRY = b"retry: 2000\n\n"
_HEADERS = {
    "Cache-Control": "no-store",
    # A proxy that buffers would delay events and send several at once.
    "X-Accel-Buffering": "no",
}
_LastId = Annotated[str, Field(max_length=255)]


class EventsQuery(BaseModel):
    """Says what the client has seen."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    last_event_id: _LastId | None = None
    """As the header `Last-Event-ID`, for clients that cannot send it"""


_EVENT = {
    "type": "object",
    "required": ["event", "id", "data"],
    "properties": {
        "event": {"type": "string", "enum": ["progress", "end"]},
        "id": {"type": "string"},
        "data": {
            "type": "string",
            "contentMediaType": "application/json",
            "contentSchema": {"$ref": "#/components/schemas/JobData"},
        },
    },
}
_RESPONSES: Responses = {
    200: {"description": "Server-sent events", "content": {"text/event-stream": {"schema": _EVENT}}},
    204: {"description": "The client has seen the end of the job, and need not connect again"},
    **errors("TOO_MANY_WATCHERS"),
}


def progress_router(parts: ConsoleParts, watch: JobWatch) -> APIRouter:
    """Return the route of the progress of a job."""
    routes = APIRouter(route_class=JobRoute, tags=["jobs"])

    @routes.get(
        "/api/v1/jobs/{job_id}/events",
        response_class=StreamingResponse,
        responses=_RESPONSES,
        summary="The progress of a job, as it changes",
    )
    async def events(
        job_id: str,
        query: Annotated[EventsQuery, Query()],
        caller: Annotated[Caller, Depends(caller_of)],
        last_event_id: Annotated[_LastId | None, Header()] = None,
    ) -> Response:
        """Stream server-sent events: `progress` at once and at each change, and `end`, the last one.

        The data of each is that of the job's status. Another event than `Last-Event-ID` is sent at once.
        """
        async with request_connection(parts) as connection:
            job = await find_job(connection, caller.client_id, job_id)
        seen = last_event_id or query.last_event_id
        if job.finished_at is not None and seen == event_id(job):
            return Response(status_code=204)
        return _Stream(watch, job, caller, seen, parts)

    return routes


class _Stream(Response):
    """Is the response; its client counts as a watcher until it ends."""

    def __init__(self, watch: JobWatch, job: JobRow, caller: Caller, seen: str | None, parts: ConsoleParts) -> None:
        super().__init__()
        self._watch = watch
        self._heartbeat_s = parts.settings.heartbeat_s
        self._keys = parts.keys
        self._job = job
        self._caller = caller
        self._seen = seen

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Stream until the job, the client, its key or the process ends. Raises TooManyWatchersError before that."""
        with self._watch.watching(self._job, self._caller.client_id) as watcher:
            response = StreamingResponse(self._parts(watcher), media_type="text/event-stream", headers=_HEADERS)
            await response(scope, receive, send)

    async def _parts(self, watcher: Watcher) -> AsyncIterator[bytes]:
        until, seen = time.monotonic() + _LONGEST_S, self._seen
        yield _RETRY
        while self._caller.is_allowed(self._keys):
            now = event_id(watcher.row)
            if now != seen:
                seen = now
                SSE_EVENTS.labels(STREAM).inc()
                yield watcher.event
            elif not self._watch.closing:
                yield HEARTBEAT
            if watcher.row.finished_at is not None or self._watch.closing or time.monotonic() > until:
                return
            await watcher.wait(self._heartbeat_s)
