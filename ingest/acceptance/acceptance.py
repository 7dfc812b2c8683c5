"""Accepts one image of a device: checks content and capture time, stores it, then publishes its event."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path

from infra.broker.event_records import event_record
from infra.broker.partitioning import partition_for
from infra.broker.port import OutRecord
from infra.errors import BrokerUnavailableError, StoreUnavailableError
from infra.http_api.errors.api_errors import UnauthorizedError
from infra.time_limits import time_limit
from ingest.acceptance.errors import DigestMismatchError, ForbiddenError, InvalidCaptureTimeError
from ingest.acceptance.fields import FrameFields
from ingest.acceptance.known_images import KnownImages, not_stored_error
from ingest.acceptance.originals import Originals
from ingest.acceptance.parts import AcceptanceParts
from ingest.event_source import SOURCE
from ingest.images.check import ImageError, ImageInfo, ImageLimits, inspect_image
from ingest.images.exif import Capture, is_quick, read_capture
from ingest.metrics import FRAMES_BY_DIGEST, image_stored
from ingest.settings import GatewaySettings
from schemas.events import FrameCaptured, ImageRef
from schemas.geometry import CameraGeometry
from schemas.ids import frame_id
from schemas.timestamps import format_utc
from schemas.topics import FRAME_TOPICS, FRAMES_LIVE

# Examining and hashing this much takes the event loop less than a millisecond; more goes to a thread.
_INLINE_BYTES = 512 * 1024
_CHALLENGE: Mapping[str, str] = {"WWW-Authenticate": 'Bearer realm="standgale"'}


@dataclass(frozen=True, slots=True)
class ExaminedImage:
    """Holds what the content of an image says, its SHA-256 (hex), and when it was received."""

    info: ImageInfo
    capture: Capture
    sha256: str
    received_at: datetime


@dataclass(frozen=True, slots=True)
class PreparedFrame:
    """Holds the event of a stored image, and warnings about metadata of the image that the request does not replace."""

    event: FrameCaptured
    warnings: list[str]
    uploaded: bool = False
    """Whether the image was uploaded before, as an original"""


def image_limits(settings: GatewaySettings) -> ImageLimits:
    """Return the limits that ``settings`` set for images."""
    return ImageLimits(
        max_image_bytes=settings.max_image_bytes,
        min_side_px=settings.min_side_px,
        max_side_px=settings.max_side_px,
        max_pixels=settings.max_pixels,
    )


def require_device(fields: FrameFields, token_device: str) -> None:
    """Raise ForbiddenError when ``fields`` name another device than the token's."""
    if fields.device_id is not None and fields.device_id != token_device:
        raise ForbiddenError(
            f"the token belongs to a different device than {fields.device_id[:255]!r}",
            details="Leave device_id out, or send the token of that device.",
            field="device_id",
        )


def require_digest(fields: FrameFields, examined: ExaminedImage) -> None:
    """Raise DigestMismatchError when ``fields`` name another SHA-256 than that of the image."""
    if fields.sha256 is not None and fields.sha256 != examined.sha256:
        raise DigestMismatchError(
            f"the image that arrived has sha256 {examined.sha256}, the request says {fields.sha256}",
            details="It was changed on the way, or the digest is that of another file; nothing was stored. Send it "
            "again with its own digest, or without one.",
            field="sha256",
        )


class Acceptance:
    """Takes the steps of an acceptance; :meth:`prepare` and :meth:`publish` are all of them for one image.

    A frame counts as accepted when :meth:`publish` has returned: it is durable in the frame store and in the broker.
    """

    def __init__(self, parts: AcceptanceParts) -> None:
        self._parts = parts
        self._limits = image_limits(parts.settings)
        self.known = KnownImages(parts)
        self._originals = Originals(parts)
        self._skew = timedelta(seconds=parts.settings.max_clock_skew_s)
        ahead_s = parts.publisher.clock_ahead_s()
        if ahead_s is not None:
            parts.clock.set_difference(ahead_s)

    def authenticate(self, token: str) -> str:
        """Return the device that ``token`` ("": none was sent) belongs to. Raises UnauthorizedError."""
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
                details="It is unknown, revoked or expired; ask the operator of this gateway for a new one.",
                headers=_CHALLENGE,
            )
        return device.holder_id

    def require_room(self, device_id: str, topic: str = FRAMES_LIVE) -> None:
        """Raise an ApiError when frames of the device for ``topic`` are refused, because the detectors are behind."""
        if self._parts.lag is not None:
            self._parts.lag.require(topic, partition_for(device_id, self._parts.frame_partitions))

    async def prepare(self, device_id: str, image: bytes, fields: FrameFields) -> PreparedFrame:
        """Check and store ``image``, and return its event, which is not published yet.

        Where ``image`` is empty and ``fields`` name one by digest that is stored already, it is that one; to store it
        again renews its time, so that retention keeps it. Raises ImageError, InvalidCaptureTimeError,
        DigestMismatchError, ImageNotStoredError, or StoreUnavailableError.
        """
        if not image and fields.sha256 is not None:
            return await self._prepare_by_digest(device_id, fields.sha256, fields)
        return await self._prepare(device_id, image, fields)

    async def discard_original(self, frame: PreparedFrame) -> None:
        """Remove the upload of a frame that was published; for other frames it does nothing."""
        if frame.uploaded:
            await self._originals.discard(frame.event.device_id, frame.event.image.sha256)

    async def _prepare(self, device_id: str, image: bytes, fields: FrameFields) -> PreparedFrame:
        examined = await self.examine(image)
        require_digest(fields, examined)
        captured_at = self.capture_time(fields, examined.capture)
        uri = await self.store(image, examined)
        return self.frame(device_id, fields, examined, captured_at, uri)

    async def _prepare_by_digest(self, device_id: str, digest: str, fields: FrameFields) -> PreparedFrame:
        """Return the event of a frame whose image is stored already, or was uploaded before."""
        if fields.proof is not None and self._parts.settings.digests_enabled:
            known = await self.known.look_up(digest)
            if known is not None:
                return await self._prepare_known(device_id, known, fields, fields.proof)
        async with self._originals.received(device_id, digest) as path:
            if path is not None:
                try:
                    return await self._prepare_file(device_id, path, digest, fields, uploaded=True)
                except ImageError:
                    # It is refused at every announcement; another original may have its place.
                    await self._originals.discard(device_id, digest)
                    raise
        self.known.require_proof_given(fields)
        raise not_stored_error(digest)

    async def _prepare_known(self, device_id: str, image: ImageRef, fields: FrameFields, proof: str) -> PreparedFrame:
        if image.size_bytes <= self._parts.settings.max_image_bytes:
            frame = await self._prepare(device_id, await self.known.read(image, proof), fields)
        else:
            async with self._originals.opened(self.known.local(image, proof)) as path:
                frame = await self._prepare_file(device_id, path, image.sha256, fields)
        FRAMES_BY_DIGEST.inc()
        return frame

    async def _prepare_file(
        self, device_id: str, path: Path, digest: str, fields: FrameFields, *, uploaded: bool = False
    ) -> PreparedFrame:
        """Return the event of the image in the file, whose digest was checked."""
        info, capture = await self._originals.examine(path)
        captured_at = self.capture_time(fields, capture)
        uri = await self._originals.store(path, digest, info.media_type)
        examined = ExaminedImage(info, capture, digest, self._parts.clock.now())
        return replace(self.frame(device_id, fields, examined, captured_at, uri), uploaded=uploaded)

    async def examine(self, image: bytes) -> ExaminedImage:
        """Check the content, then read and hash it: what is no picture costs no more than its first bytes."""
        if len(image) > _INLINE_BYTES:
            info, capture, digest = await asyncio.to_thread(self._inspect_and_read, image)
        else:
            info = inspect_image(image, self._limits)
            capture, digest = _read(image, info) if is_quick(info) else await asyncio.to_thread(_read, image, info)
        return ExaminedImage(info, capture, digest, self._parts.clock.now())

    def capture_time(self, fields: FrameFields, capture: Capture, *, image_first: bool = False) -> datetime:
        """Return the capture time of request or image; with ``image_first`` that of the image where both have one.

        It is never the clock's, or a retry would be a different frame. Raises InvalidCaptureTimeError.
        """
        found = (capture.captured_at, fields.captured_at) if image_first else (fields.captured_at, capture.captured_at)
        moment = found[0] or found[1]
        if moment is None:
            raise InvalidCaptureTimeError(
                f"{fields.time_name} is missing, and the image's EXIF has no capture time",
                details=" ".join(
                    (
                        "It is part of the frame's identity, so a retry must say the same; RFC 3339 with a zone.",
                        *(f"{warning.text}." for warning in capture.warnings if "captured_at" in warning.fields),
                    )
                ),
                field=fields.time_name,
            )
        now = self._parts.clock.latest()
        if moment > now + self._skew:
            if not self._parts.clock.compared:
                # A refusal would lose the frame, although perhaps only this machine's clock is wrong.
                raise BrokerUnavailableError("this machine's clock has not been compared with the broker's yet")
            source = fields.time_name if moment == fields.captured_at else "the capture time in the image's EXIF"
            raise InvalidCaptureTimeError(
                f"{source} is {format_utc(moment)}, which is in the future (now {format_utc(now)})",
                details=f"At most {self._skew.total_seconds():g} s ahead are accepted (gateway.max_clock_skew_s); set "
                f"the clock, or give {fields.time_name} with its zone.",
                field=fields.time_name,
            )
        return moment

    async def store(self, image: bytes, examined: ExaminedImage) -> str:
        """Store ``image`` durably and return its address. Raises StoreUnavailableError."""
        timeout_s = self._parts.settings.store_timeout_s
        with self._parts.readiness.store.watch():
            try:
                with time_limit(timeout_s):
                    return await self._parts.store.put(
                        image, sha256=examined.sha256, media_type=examined.info.media_type
                    )
            except TimeoutError as error:
                raise StoreUnavailableError(
                    f"the frame store did not store the frame within {timeout_s:g} s (gateway.store_timeout_s)"
                ) from error

    def frame(
        self, device_id: str, fields: FrameFields, examined: ExaminedImage, captured_at: datetime, uri: str
    ) -> PreparedFrame:
        """Return the event of a stored image."""
        info = examined.info
        event = FrameCaptured(
            frame_id=frame_id(device_id, captured_at, examined.sha256),
            device_id=device_id,
            captured_at=captured_at,
            received_at=examined.received_at,
            image=ImageRef(
                uri=uri,
                sha256=examined.sha256,
                size_bytes=info.size_bytes,
                media_type=info.media_type,
                width=info.width,
                height=info.height,
            ),
            camera=_camera(fields, examined.capture),
            metadata=fields.metadata,
            original_filename=fields.original_filename,
            flight_id=fields.flight,
            video=fields.video,
        )
        return PreparedFrame(event, _warnings(fields, examined.capture, captured_at))

    async def publish(self, frames: Sequence[FrameCaptured], topic: str = FRAMES_LIVE) -> None:
        """Publish the events of one device's ``frames``; when this returns, all are durable.

        Raises BrokerUnavailableError, RefusedError or TopicMismatchError; then some may be published nevertheless,
        which does no harm when they are sent again.
        """
        if not frames:
            return
        device_id = frames[0].device_id
        timeout_s = self._parts.settings.publish_timeout_s
        records = [_record(event, topic) for event in frames]
        partitions = self._parts.frame_partitions
        place = FRAME_TOPICS.index(topic) * partitions + partition_for(device_id, partitions)
        with self._parts.readiness.broker.watch(place):
            try:
                with time_limit(timeout_s):
                    await self._parts.publisher.publish(records)
                self._parts.clock.set_difference(self._parts.publisher.clock_ahead_s())
            except TimeoutError as error:
                raise BrokerUnavailableError(
                    f"the broker did not acknowledge within {timeout_s:g} s (gateway.publish_timeout_s)"
                ) from error
        for _ in frames:
            image_stored(device_id)

    def _inspect_and_read(self, image: bytes) -> tuple[ImageInfo, Capture, str]:
        info = inspect_image(image, self._limits)
        return info, *_read(image, info)


def _read(image: bytes, info: ImageInfo) -> tuple[Capture, str]:
    return read_capture(image, info), sha256(image).hexdigest()


def _record(event: FrameCaptured, topic: str) -> OutRecord:
    return event_record(
        topic,
        event,
        id=event.frame_id,
        source=SOURCE,
        subject=str(event.frame_id),
        time=event.received_at,
        key=event.device_id,
    )


def _warnings(fields: FrameFields, capture: Capture, captured_at: datetime) -> list[str]:
    """Return what is unknown or assumed, without what the request says itself."""
    given = {*fields.camera, *(["captured_at"] if fields.captured_at == captured_at else [])}
    return [warning.text for warning in capture.warnings if not warning.fields or warning.fields - given]


def _camera(fields: FrameFields, capture: Capture) -> CameraGeometry | None:
    """Return the image's camera fields, replaced by those of the request; both were checked before."""
    if not fields.camera:
        return capture.camera
    return (capture.camera or CameraGeometry()).model_copy(update=dict(fields.camera))
