"""Serves POST /api/v1/frames: checks token, parameters and content, stores the frame, then publishes its event."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from urllib.parse import quote
from uuid import UUID

import orjson
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from infra.broker.event_records import event_record
from infra.broker.partitioning import partition_for
from infra.errors import BrokerUnavailableError, SettingsError, StoreUnavailableError
from infra.telemetry.logs import bind
from ingest.gateway.errors import (
    ForbiddenError,
    InvalidCaptureTimeError,
    UnauthorizedError,
    UnsupportedMediaTypeError,
)
from ingest.gateway.event_source import SOURCE
from ingest.gateway.gateway_parts import GatewayParts
from ingest.gateway.request.body import DeviceTurns, declared_length, read_body
from ingest.gateway.request.fields import FrameFields, pairs_of, parse_fields, sanitise_filename
from ingest.gateway.request.multipart import OVERHEAD_BYTES, parse_form
from ingest.gateway.request.slots import UploadSlots
from ingest.images.check import ImageInfo, ImageLimits, inspect_image
from ingest.images.exif import Capture, is_quick, read_capture
from ingest.metrics import image_stored
from ingest.settings import GatewaySettings
from schemas.events import FrameCaptured, ImageRef
from schemas.geometry import CameraGeometry
from schemas.ids import frame_id
from schemas.timestamps import format_utc
from schemas.topics import FRAMES_LIVE

logger = logging.getLogger(__name__)

# Examining and hashing this much takes the event loop less than a millisecond; more goes to a thread.
_INLINE_BYTES = 512 * 1024
_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="standgale"'}


@dataclass(frozen=True, slots=True)
class _Upload:
    """Holds a received frame: its bytes, and the fields of the request."""

    image: bytes
    fields: FrameFields


@dataclass(frozen=True, slots=True)
class _Examined:
    """Holds what the content of an image says, and its SHA-256 (hex)."""

    info: ImageInfo
    capture: Capture
    sha256: str


def require_memory(settings: GatewaySettings) -> int:
    """Return the most bytes that one form may have. Raises SettingsError when it does not fit the allowed memory."""
    max_form_bytes = settings.max_image_bytes + settings.max_metadata_bytes + OVERHEAD_BYTES
    if settings.max_in_flight_bytes < 2 * max_form_bytes:
        raise SettingsError(
            f"gateway.max_in_flight_bytes is {settings.max_in_flight_bytes}, less than one upload may need "
            f"({2 * max_form_bytes}); raise it or lower gateway.max_image_bytes"
        )
    return max_form_bytes


class FramesEndpoint:
    """Is the endpoint as a plain ASGI app, so that the token is checked before the body is read."""

    def __init__(self, parts: GatewayParts) -> None:
        """Raise SettingsError when one upload of the allowed size does not fit the allowed memory."""
        settings = parts.settings
        self._parts = parts
        self._limits = ImageLimits(
            max_image_bytes=settings.max_image_bytes,
            min_side_px=settings.min_side_px,
            max_side_px=settings.max_side_px,
            max_pixels=settings.max_pixels,
        )
        self._max_form_bytes = require_memory(settings)
        self._slots = UploadSlots(settings.max_concurrent_uploads, settings.max_in_flight_bytes)
        self._turns = DeviceTurns()
        self._skew = timedelta(seconds=settings.max_clock_skew_s)
        ahead_s = parts.publisher.clock_ahead_s()
        if ahead_s is not None:
            parts.clock.set_difference(ahead_s)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one upload; the error middleware turns errors into responses."""
        headers: dict[bytes, bytes] = dict(scope["headers"])
        token_device = self._authenticate(headers)
        with bind(device_id=token_device):
            pairs = pairs_of(scope["query_string"], scope["headers"])
            early = parse_fields(pairs, self._parts.settings.max_metadata_bytes)
            _check_device(early, token_device)
            content_type = _content_type(headers)
            is_form = content_type.lower().startswith("multipart/form-data")
            limit = self._max_form_bytes if is_form else self._limits.max_image_bytes
            # A form's image is in memory twice while the form is parsed.
            size_bytes = declared_length(headers, limit) * (2 if is_form else 1)
            with self._slots.reserve(size_bytes, token_device) as slot:
                async with slot.reading():
                    timeout_s = self._parts.settings.body_timeout_s
                    body = await read_body(receive, limit, timeout_s, self._turns, token_device)
                upload = self._open_form(body, content_type, pairs) if is_form else _Upload(body, early)
                _check_device(upload.fields, token_device)
                event, warnings = await self._accept(token_device, upload)
        await self._accepted_response(event, warnings)(scope, receive, send)

    def _authenticate(self, headers: dict[bytes, bytes]) -> str:
        """Return the device of the request's token. Raises UnauthorizedError before the body is read."""
        token = headers.get(b"x-api-token", b"").decode("latin-1").strip()
        if not token:
            scheme, _, credentials = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
            token = credentials.strip() if scheme.lower() == "bearer" else ""
        if not token:
            raise UnauthorizedError(
                "no device token",
                details="Send it as X-API-Token, or as Authorization: Bearer.",
                headers=_CHALLENGE,
            )
        device = self._parts.verifier.verify(token)
        if device is None:
            raise UnauthorizedError(
                "the device token is not valid",
                details="It is unknown, revoked, or replaced by a newer one; ask for a new one.",
                headers=_CHALLENGE,
            )
        return device.device_id

    def _open_form(self, body: bytes, content_type: str, pairs: list[tuple[str, str]]) -> _Upload:
        max_metadata_bytes = self._parts.settings.max_metadata_bytes
        form = parse_form(body, content_type, max_metadata_bytes)
        if form.filename and not any(name == "original_filename" for name, _ in (*pairs, *form.fields)):
            name = sanitise_filename(form.filename)
            form.fields.extend([("original_filename", name)] if name else [])
        return _Upload(form.image, parse_fields((*pairs, *form.fields), max_metadata_bytes))

    def _examine(self, image: bytes) -> _Examined:
        """Check the content, then read and hash it: what is no picture costs no more than its first bytes."""
        return _read(image, inspect_image(image, self._limits))

    async def _accept(self, device_id: str, upload: _Upload) -> tuple[FrameCaptured, list[str]]:
        """Check the content, store it, and publish its event; at the return, both are durable.

        Return the event, and warnings about metadata of the image that the request does not replace.
        """
        image, fields = upload.image, upload.fields
        if len(image) > _INLINE_BYTES:
            examined = await asyncio.to_thread(self._examine, image)
        else:
            info = inspect_image(image, self._limits)
            examined = _read(image, info) if is_quick(info) else await asyncio.to_thread(_read, image, info)
        info, capture = examined.info, examined.capture
        received_at = self._parts.clock.now()
        captured_at = self._capture_time(fields, capture)
        identity = frame_id(device_id, captured_at, examined.sha256)
        with self._parts.readiness.store.watch():
            uri = await self._store(image, examined.sha256, info.media_type)
        event = FrameCaptured(
            frame_id=identity,
            device_id=device_id,
            captured_at=captured_at,
            received_at=received_at,
            image=ImageRef(
                uri=uri,
                sha256=examined.sha256,
                size_bytes=info.size_bytes,
                media_type=info.media_type,
                width=info.width,
                height=info.height,
            ),
            camera=_camera(fields, capture),
            metadata=fields.metadata,
            original_filename=fields.original_filename,
        )
        with self._parts.readiness.broker.watch(partition_for(device_id, self._parts.frame_partitions)):
            await self._publish(event, identity)
        image_stored(device_id)
        return event, _warnings(fields, capture)

    async def _store(self, image: bytes, digest: str, media_type: str) -> str:
        timeout_s = self._parts.settings.store_timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                return await self._parts.store.put(image, sha256=digest, media_type=media_type)
        except TimeoutError as error:
            raise StoreUnavailableError(
                f"the frame store did not store the frame within {timeout_s:g} s (gateway.store_timeout_s)"
            ) from error

    def _capture_time(self, fields: FrameFields, capture: Capture) -> datetime:
        """Return the capture time of request or image; never the clock's, or a retry would be a different frame."""
        moment = fields.captured_at or capture.captured_at
        if moment is None:
            raise InvalidCaptureTimeError(
                "captured_at is missing, and the image's EXIF has no capture time",
                details=" ".join(
                    (
                        "It is part of the frame's identity, so a retry must say the same; RFC 3339 with a zone.",
                        *(f"{warning.text}." for warning in capture.warnings if "captured_at" in warning.fields),
                    )
                ),
                field="captured_at",
            )
        now = self._parts.clock.latest()
        if moment > now + self._skew:
            if not self._parts.clock.compared:
                # A refusal would lose the frame, although perhaps only this machine's clock is wrong.
                raise BrokerUnavailableError("this machine's clock has not been compared with the broker's yet")
            source = "captured_at" if fields.captured_at else "the capture time in the image's EXIF"
            raise InvalidCaptureTimeError(
                f"{source} is {format_utc(moment)}, which is in the future (now {format_utc(now)})",
                details=f"At most {self._skew.total_seconds():g} s ahead are accepted (gateway.max_clock_skew_s); set "
                "the clock, or give captured_at with its zone.",
                field="captured_at",
            )
        return moment

    async def _publish(self, event: FrameCaptured, identity: UUID) -> None:
        timeout_s = self._parts.settings.publish_timeout_s
        record = event_record(
            FRAMES_LIVE,
            event,
            id=identity,
            source=SOURCE,
            subject=str(identity),
            time=event.received_at,
            key=event.device_id,
        )
        try:
            async with asyncio.timeout(timeout_s):
                await self._parts.publisher.publish([record])
            self._parts.clock.set_difference(self._parts.publisher.clock_ahead_s())
        except TimeoutError as error:
            raise BrokerUnavailableError(
                f"the broker did not acknowledge within {timeout_s:g} s (gateway.publish_timeout_s)"
            ) from error

    def _accepted_response(self, event: FrameCaptured, warnings: list[str]) -> Response:
        image = event.image
        links = {}
        if self._parts.stream_url is not None:
            links["detections"] = f"{self._parts.stream_url}?device={quote(event.device_id)}"
        body = {
            "frame_id": str(event.frame_id),
            "status": "accepted",
            "device_id": event.device_id,
            "captured_at": format_utc(event.captured_at),
            "received_at": format_utc(event.received_at),
            "image": {
                "sha256": image.sha256,
                "size_bytes": image.size_bytes,
                "media_type": image.media_type,
                "width": image.width,
                "height": image.height,
            },
            "warnings": warnings,
            "links": links,
        }
        return Response(orjson.dumps(body), 202, media_type="application/json")


def _content_type(headers: dict[bytes, bytes]) -> str:
    """Return the Content-Type if it is one for images. Raises UnsupportedMediaTypeError otherwise."""
    text = headers.get(b"content-type", b"application/octet-stream").decode("latin-1")
    kind = text.partition(";")[0].strip().lower()
    if kind.startswith("image/") or kind in ("application/octet-stream", "multipart/form-data"):
        return text
    raise UnsupportedMediaTypeError(
        f"Content-Type {kind[:100]!r} is not for images",
        details="Send the image itself as image/* or application/octet-stream, or a multipart form with a part image.",
        field="Content-Type",
    )


def _check_device(fields: FrameFields, token_device: str) -> None:
    if fields.device_id is not None and fields.device_id != token_device:
        raise ForbiddenError(
            f"the token belongs to a different device than {fields.device_id[:255]!r}",
            details="Leave device_id out, or send the token of that device.",
            field="device_id",
        )


def _read(image: bytes, info: ImageInfo) -> _Examined:
    return _Examined(info, read_capture(image, info), sha256(image).hexdigest())


def _warnings(fields: FrameFields, capture: Capture) -> list[str]:
    """Return what is unknown or assumed, without what the request says itself."""
    given = {*fields.camera, *(["captured_at"] if fields.captured_at else [])}
    return [warning.text for warning in capture.warnings if not warning.fields or warning.fields - given]


def _camera(fields: FrameFields, capture: Capture) -> CameraGeometry | None:
    """Return the image's camera fields, replaced by those of the request; both were checked before."""
    if not fields.camera:
        return capture.camera
    return (capture.camera or CameraGeometry()).model_copy(update=dict(fields.camera))
