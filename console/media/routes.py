"""Serves the detection of media: a picture at once, and media whose events are streamed."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any
from uuid import uuid4

from fastapi import APIRouter, Depends, Header, Path
from sse_starlette import EventSourceResponse
from starlette.requests import Request
from starlette.responses import Response

from console.http.callers import Caller, caller_of
from console.http.connection import request_connection
from console.http.document import Responses, errors
from console.jobs.job_route import JobRoute
from console.jobs.models import ModelFields, require_model
from console.media import records
from console.media.bodies import MediaDetection, MediaEvent, MediaStarted
from console.media.config import MediaConfig, MediaRequest, read_request
from console.media.direct import DirectDetection
from console.media.frames import KeptMedia, require_video
from console.media.open_streams import MediaStreams
from console.media.receiving import MediaReceiver, config_in_query, content_type, has_body, is_bytes
from console.media.records import PURPOSE, Medium, Secrets
from console.media.streams import MediaEvents, MediaStream
from console.media.tokens import refresh_time
from console.parts import ConsoleParts
from infra.auth.bearer import bearer_token
from infra.database.transaction import transaction
from infra.encryption.box import SecretBox
from infra.http_api.errors.api_errors import UnsupportedMediaTypeError, ValidationFailedError
from ingest.settings import VideoSettings
from schemas.event_base import ModelRef

_Caller = Annotated[Caller, Depends(caller_of)]
_MediaId = Annotated[str, Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9._~-]{0,127}$")]
_LastId = Annotated[str | None, Header(max_length=255)]
_MOST_TOKEN = 8_192
_FIELDS = ModelFields("model", "options.prompt")
_BINARY: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}
_MEDIUM = {
    "requestBody": {
        "content": {
            "application/json": {"schema": MediaRequest.model_json_schema(ref_template="#/components/schemas/{model}")},
            "image/*": _BINARY,
            "video/*": _BINARY,
            "application/octet-stream": _BINARY,
        }
    }
}
_PICTURE = {
    "requestBody": {
        "required": True,
        "content": {
            "image/*": _BINARY,
            "application/octet-stream": _BINARY,
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {"file": {"type": "string", "format": "binary"}, "config": {"type": "string"}},
                }
            },
        },
    }
}
_REFUSED = errors(
    *("VALIDATION_ERROR", "INVALID_CONFIG", "INVALID_FORMAT", "INVALID_DIMENSIONS", "FILE_TOO_LARGE"),
    *("CORRUPTED_FILE", "TOO_COSTLY", "UPLOAD_TIMEOUT", "UNSUPPORTED_MEDIA_TYPE", "STORAGE_UNAVAILABLE"),
)
_PICTURE_ERRORS: Responses = {
    **_REFUSED,
    422: {
        "description": "No detector can process the picture; the code is that of a job's file",
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorBody"}}},
    },
    **errors("DETECTION_TIMEOUT"),
}
_MEDIUM_ERRORS = {**_REFUSED, **errors("MEDIA_RUNNING", "TOO_MANY_MEDIA", "NOT_INSTALLED")}
_EVENT: dict[str, Any] = {
    "type": "object",
    "required": ["data"],
    "properties": {
        "id": {"type": "string"},
        "event": {"type": "string"},
        "data": {
            "type": "string",
            "contentMediaType": "application/json",
            "contentSchema": MediaEvent.model_json_schema(),
        },
    },
}
_STREAM: Responses = {200: {"description": "Server-sent events", "content": {"text/event-stream": {"schema": _EVENT}}}}


def media_router(parts: ConsoleParts, streams: MediaStreams) -> APIRouter:
    """Return the routes of media; ``streams`` is a component that must run, too."""
    router = APIRouter(route_class=JobRoute, tags=["media"])
    # Videos are read by a component; here pictures are.
    kept = KeptMedia(parts.store, parts.settings, VideoSettings())
    settings = streams.settings
    receiver, direct = MediaReceiver(parts, settings), DirectDetection(parts, settings, kept)

    @router.post("/detect", summary="Detect one picture", openapi_extra=_PICTURE, responses=_PICTURE_ERRORS)
    async def detect(request: Request, caller: _Caller) -> list[MediaDetection]:
        """Return what is found in the picture. `config` (JSON) has the options, in the query or as a part."""
        with direct.place():
            frame, config = await _receive_picture(parts, receiver, direct, request, caller.client_id)
            return await direct.detect(frame, config, caller.client_id)

    @router.post(
        "/detect/{media_id}",
        summary="Detect a picture or a video",
        status_code=202,
        openapi_extra=_MEDIUM,
        responses=_MEDIUM_ERRORS,
    )
    async def start(media_id: _MediaId, request: Request, caller: _Caller) -> MediaStarted:
        """Begin to detect a medium: the body, what is at the address `source`, or what Annotations has of that id.

        Watch `/detect/{media_id}/stream` for its events. `Authorization` is the caller's token for Annotations, and
        `X-Refresh-Token` refreshes it; both are forgotten when the medium has ended and what was found is posted.
        """
        kind, client_id = content_type(request), caller.client_id
        secrets = caller_secrets(request, parts.box, annotate=settings.sends_annotations)
        if has_body(request) and is_bytes(kind):
            config = config_in_query(request)
            if kind.startswith("video/"):
                # Before it is received; what the type does not say is found out from the bytes.
                require_video()
            await _require_model(parts, config)
            async with receiver.to_file(request, client_id) as path:
                medium: Medium | None = await kept.keep(path)
        elif kind == "application/json" or not has_body(request):
            medium = None
            body = await request.body()
            asked = read_request(body) if body else read_request(request.query_params.get("config", ""))
            config = asked.config
            await _require_model(parts, config)
            if asked.source is not None:
                encrypted = parts.box.encrypt(asked.source, PURPOSE)
                secrets = replace(secrets, source=encrypted)
        else:
            raise UnsupportedMediaTypeError(
                f"the Content-Type is {kind[:100]!r}; this path takes application/json, image/*, video/* and "
                "application/octet-stream",
                details="Send the bytes of the medium, JSON with its source, or no body.",
                field="Content-Type",
            )
        async with request_connection(parts, writing=True) as connection, transaction(connection):
            await records.add_run(
                connection, uuid4(), client_id, media_id, config, secrets, medium, settings.max_waiting
            )
        return MediaStarted(mediaId=media_id)

    @router.get(
        "/detect/stream",
        response_class=EventSourceResponse,
        responses=_STREAM,
        summary="The events of all media of the client",
    )
    async def stream_all(caller: _Caller) -> Response:
        """Stream the events of all media of the client from now on."""
        streams.require_room()
        return MediaStream(streams, MediaEvents(parts, streams, caller).of_all())

    @router.get(
        "/detect/{media_id}/stream",
        response_class=EventSourceResponse,
        responses=_STREAM,
        summary="The events of a medium",
    )
    async def stream_one(media_id: _MediaId, caller: _Caller, last_event_id: _LastId = None) -> Response:
        """Stream the events of the newest run of a medium: all of them, or those behind `Last-Event-ID`."""
        streams.require_room()
        events = MediaEvents(parts, streams, caller)
        run = await events.newest_run(media_id)
        return MediaStream(streams, events.of_run(run, last_event_id))

    return router


async def _receive_picture(
    parts: ConsoleParts, receiver: MediaReceiver, direct: DirectDetection, request: Request, client_id: str
) -> tuple[records.MediaFrame, MediaConfig]:
    async with receiver.picture(request, client_id) as (picture, config):
        await _require_model(parts, config)
        return await direct.keep(picture), config


async def _require_model(parts: ConsoleParts, config: MediaConfig) -> None:
    asked = None if config.model is None else ModelRef(name=config.model.name, version=config.model.version)
    await require_model(asked, config.options.prompt, parts.models, _FIELDS)


def caller_secrets(request: Request, box: SecretBox, *, annotate: bool = False) -> Secrets:
    """Return the caller's tokens for Annotations, encrypted; ``annotate``: what is found is posted with them.

    Without `X-API-Key` the bearer token is the API key, which goes nowhere.
    """
    has_key = any(request.headers.get(name) for name in ("x-api-key", "x-api-token"))
    token = bearer_token(request.headers.get("authorization", ""))
    refresh = request.headers.get("x-refresh-token", "").strip()
    if not has_key or not token:
        return Secrets()
    for name, text in (("Authorization", token), ("X-Refresh-Token", refresh)):
        if len(text) > _MOST_TOKEN or not text.isascii() or not text.isprintable():
            raise ValidationFailedError(f"{name} is no token of at most {_MOST_TOKEN} characters", field=name)
    return Secrets(
        None,
        box.encrypt(token, PURPOSE),
        box.encrypt(refresh, PURPOSE) if refresh else None,
        refresh_time(token) if refresh else None,
        annotate,
    )
