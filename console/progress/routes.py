"""Serves the progress of a job as server-sent events, which end with the job."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from console.http.callers import Caller, caller_of
from console.http.direct_route import DirectRoute
from console.http.document import Responses, errors
from console.jobs.faults import config_error
from console.jobs.job_reader import JobReader
from console.jobs.status import JobRow
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
_HEADER = "Last-Event-ID"
_LONGEST_ID = 255
_LastId = Annotated[str, Field(max_length=_LONGEST_ID)]


class _Seen(BaseModel):
    """Says what the client has seen."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    last_event_id: _LastId | None = None
    header: Annotated[_LastId | None, Field(alias=_HEADER)] = None


_ID = {"anyOf": [{"type": "string", "maxLength": _LONGEST_ID}, {"type": "null"}]}
_PARAMETERS: Sequence[Mapping[str, Any]] = [
    {
        "name": "last_event_id",
        "in": "query",
        "required": False,
        "schema": {**_ID, "title": "Last Event Id"},
        "description": "As the header `Last-Event-ID`, for clients that cannot send it",
    },
    {
        "name": "last-event-id",
        "in": "header",
        "required": False,
        "schema": {**_ID, "title": "Last-Event-Id"},
        "description": "The id of the last event that the client has seen",
    },
]
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
    routes, reader = APIRouter(route_class=DirectRoute, tags=["jobs"]), JobReader(parts)

    @routes.get(
        "/api/v1/jobs/{job_id}/events",
        response_class=StreamingResponse,
        responses=_RESPONSES,
        summary="The progress of a job, as it changes",
        openapi_extra={"parameters": _PARAMETERS},
    )
    async def events(job_id: str, request: Request, caller: Annotated[Caller, Depends(caller_of)]) -> Response:
        """Stream server-sent events: `progress` at once and at each change, and `end`, the last one.

        The data of each is that of the job's status. Another event than `Last-Event-ID` is sent at once.
        """
        seen = _seen(request)
        job = await reader.find(caller.client_id, job_id)
        if job.finished_at is not None and seen == event_id(job):
            return Response(status_code=204)
        return _Stream(watch, job, caller, seen, parts)

    return routes


def _seen(request: Request) -> str | None:
    """Return the id of the last event that the client has seen. Raises InvalidConfigError."""
    given: dict[str, str | None] = {**request.query_params, _HEADER: request.headers.get(_HEADER)}
    try:
        seen = _Seen.model_validate(given)
    except ValidationError as error:
        raise config_error([{**fault, "loc": ("query", *fault["loc"])} for fault in error.errors()]) from error
    return seen.header or seen.last_event_id


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
