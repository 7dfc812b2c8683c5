"""Serves POST /api/v1/frames: accepts one frame, and responds as soon as it is durable."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote

import orjson
from pydantic import JsonValue
from starlette.types import Receive, Scope, Send

from infra.telemetry.logs import bind
from ingest.acceptance.acceptance import Acceptance
from ingest.acceptance.device_token import token_of
from ingest.gateway.request.uploads import Uploads
from ingest.stream.recent_frames import RecentFrames
from schemas.events import FrameCaptured, ImageRef
from schemas.timestamps import format_utc
from schemas.topics import FRAMES_LIVE


class FramesEndpoint:
    """Is the endpoint as a plain ASGI app, so that the token is checked before the body is read."""

    def __init__(
        self, acceptance: Acceptance, uploads: Uploads, stream_url: str | None, recent: RecentFrames | None
    ) -> None:
        """``recent`` finds frames that were published before; without it they are published again."""
        self._acceptance = acceptance
        self._uploads = uploads
        self._stream_url = stream_url
        self._recent = recent

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one upload; the error middleware turns errors into responses."""
        device_id = self._acceptance.authenticate(token_of(dict(scope["headers"])))
        with bind(device_id=device_id):
            async with self._uploads.receive(scope, receive, device_id, admit=self._acceptance.require_room) as upload:
                frame = await self._acceptance.prepare(device_id, upload.image, upload.fields)
                if not (upload.fields.repeated and await self._is_published(frame.event)):
                    await self._acceptance.publish([frame.event], upload.fields.topic or FRAMES_LIVE)
                await self._acceptance.discard_original(frame)
        body = accepted_body(frame.event, frame.warnings, self._stream_url)
        await send_json(send, 202, orjson.dumps(body))

    async def _is_published(self, event: FrameCaptured) -> bool:
        return self._recent is not None and await self._recent.find(event.device_id, str(event.frame_id))


async def send_json(send: Send, status: int, body: bytes) -> None:
    """Send a whole response, as the framework's does, which makes more objects for it."""
    headers = [(b"content-length", str(len(body)).encode()), (b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def accepted_body(event: FrameCaptured, warnings: Sequence[str], stream_url: str | None) -> dict[str, JsonValue]:
    """Return the body of a response to a frame that was accepted."""
    return {
        "frame_id": str(event.frame_id),
        "status": "accepted",
        "device_id": event.device_id,
        "captured_at": format_utc(event.captured_at),
        "received_at": format_utc(event.received_at),
        "image": image_body(event.image),
        "warnings": list(warnings),
        "links": links_of(event.device_id, stream_url),
    }


def image_body(image: ImageRef) -> dict[str, JsonValue]:
    """Return the image as the gateway recognised it by content."""
    return {
        "sha256": image.sha256,
        "size_bytes": image.size_bytes,
        "media_type": image.media_type,
        "width": image.width,
        "height": image.height,
    }


def links_of(device_id: str, stream_url: str | None) -> dict[str, JsonValue]:
    """Return where the detections of ``device_id`` can be followed."""
    return {} if stream_url is None else {"detections": f"{stream_url}?device={quote(device_id)}"}
