"""Makes the frame event of one item: checks the picture as an upload is checked, and stores it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

import orjson

from infra.errors import RecordError
from infra.http_api.errors.api_errors import ApiError
from ingest.acceptance.acceptance import Acceptance, ExaminedImage
from ingest.acceptance.fields import FrameFields, parse_fields
from ingest.files.capture import time_in_path
from ingest.images.check import ImageError
from ingest.replay.checkpoint import Refusal
from ingest.replay.errors import RefusedItemError
from ingest.replay.pace import Rate
from ingest.replay.port import Content, Item, Picture
from schemas.events import FrameCaptured
from schemas.ids import frame_id
from schemas.timestamps import format_utc


@dataclass(frozen=True, slots=True)
class Ready:
    """Is a frame whose picture is stored, and whose event is not published yet."""

    position: str
    event: FrameCaptured
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Known:
    """Is a frame that needs nothing: this replay has published it before."""

    position: str
    size_bytes: int


Outcome = Ready | Known | Refusal


class FrameMaker:
    """Makes events of items; with ``dry`` nothing is stored."""

    def __init__(
        self,
        acceptance: Acceptance,
        device: str | None,
        max_metadata_bytes: int,
        is_sent: Callable[[UUID], bool],
        *,
        bytes_rate: Rate,
        dry: bool,
    ) -> None:
        """``device``: whose the pictures are; None only for a source of events."""
        self._acceptance = acceptance
        self._device = device
        self._max_metadata_bytes = max_metadata_bytes
        self._is_sent = is_sent
        self._bytes_rate = bytes_rate
        self._dry = dry

    async def make(
        self, item: Item, content: Content, store: Callable[[bytes, ExaminedImage], Awaitable[str]]
    ) -> Outcome:
        """Return what becomes of ``item``; ``store`` keeps a picture, and tries again until it can."""
        try:
            if isinstance(content, FrameCaptured):
                return self._of_event(item, content)
            return await self._of_picture(item, content, store)
        except (ImageError, ApiError, RecordError) as error:
            return refusal(item, error.code, _whole_text(error))

    def _of_event(self, item: Item, event: FrameCaptured) -> Outcome:
        size = event.image.size_bytes
        return Known(item.position, size) if self._is_sent(event.frame_id) else Ready(item.position, event, size)

    async def _of_picture(
        self, item: Item, picture: Picture, store: Callable[[bytes, ExaminedImage], Awaitable[str]]
    ) -> Outcome:
        assert self._device is not None
        size = len(picture.image)
        await self._bytes_rate.take(size)
        examined = await self._acceptance.examine(picture.image)
        fields = self._fields(picture, item.name, examined.capture.captured_at)
        captured_at = self._acceptance.capture_time(fields, examined.capture)
        if self._is_sent(frame_id(self._device, captured_at, examined.sha256)):
            return Known(item.position, size)
        uri = "dry:run" if self._dry else await store(picture.image, examined)
        event = self._acceptance.frame(self._device, fields, examined, captured_at, uri).event
        return Ready(item.position, event, size)

    def _fields(self, picture: Picture, name: str, in_exif: datetime | None) -> FrameFields:
        """Return the fields of the frame; they are checked as those of an upload are.

        The capture time is that of the side file, else of EXIF, else in the path, else the time of the file.
        """
        side = picture.side
        moment = picture.captured_at or side.captured_at or in_exif or time_in_path(name) or picture.written_at
        camera = dict(side.camera) or (picture.camera.model_dump(exclude_none=True) if picture.camera else {})
        pairs = [(field, repr(float(value))) for field, value in camera.items()]
        if moment is not None:
            pairs.append(("captured_at", format_utc(moment)))
        if side.metadata:
            pairs.append(("metadata", orjson.dumps(side.metadata).decode()))
        shown = side.name or picture.name
        if shown:
            pairs.append(("original_filename", shown))
        return replace(parse_fields(pairs, self._max_metadata_bytes), video=picture.video)


def refusal(item: Item, code: str, reason: str) -> Refusal:
    """Return the refusal of ``item``."""
    return Refusal(item.position, item.name, code, reason)


async def load(item: Item) -> Content | Refusal:
    """Read ``item``. Raises SourceUnavailableError and SourceError."""
    try:
        return await item.load()
    except RefusedItemError as error:
        return refusal(item, error.reason, str(error))


def _whole_text(error: Exception) -> str:
    details = getattr(error, "details", None)
    return f"{error}. {details}" if details else str(error)
