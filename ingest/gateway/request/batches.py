"""Receives a form of many images: each is checked and stored while the next one arrives, in bounded memory."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from starlette.types import Receive, Scope

from infra.failure.error_texts import is_transient
from infra.http_api.errors.api_errors import (
    ApiError,
    UnsupportedMediaTypeError,
    UploadTimeoutError,
    ValidationFailedError,
)
from infra.http_api.request.body import BodyLimit, BodyPieces, declared_length
from infra.http_api.request.file_names import sanitise_filename
from infra.http_api.request.form_stream import FormStream, StreamedPart
from infra.http_api.request.multipart import OVERHEAD_BYTES, FormPart, boundary_of
from infra.http_api.versions import note_fields
from ingest.acceptance.acceptance import Acceptance, ExaminedImage, require_device
from ingest.acceptance.fields import (
    KNOWN_FIELDS,
    TIME_NAMES,
    FrameFields,
    parse_fields,
    parse_moment,
)
from ingest.gateway.request.image_parts import ImagePart, require_field, text_of
from ingest.gateway.request.pairs import pairs_of
from ingest.gateway.request.uploads import Uploads
from ingest.images.check import CorruptedFileError, image_too_large
from ingest.settings import GatewaySettings
from schemas.errors import StandgaleError
from schemas.topics import FRAMES_BACKFILL

logger = logging.getLogger(__name__)

# Some clients add brackets to the name of a field that is there several times.
_IMAGE_NAMES = ("images", "images[]")
_IMAGES = ImagePart(
    _IMAGE_NAMES[0],
    'Send each image as a part called images, as "curl -F images=@a.jpg -F images=@b.jpg" does; the other parts are '
    f"fields: {', '.join((*KNOWN_FIELDS, *TIME_NAMES))}.",
)
_MAX_FIELDS = 32
# While so many images are being stored, the body is not read on.
_STORED_AT_ONCE = 16
_IMAGES_IN_MEMORY = 8


class TooManyFilesError(ApiError):
    """A batch has more images than it may have; nothing of it was accepted."""

    code = "TOO_MANY_FILES"


@dataclass(slots=True)
class BatchImage:
    """Is one image of a batch: either it is stored at ``uri``, or ``error`` says why not."""

    index: int
    """Its place among the images, from 0"""
    filename: str | None
    """As sent, without characters that could mislead"""
    examined: ExaminedImage | None = None
    uri: str | None = None
    error: Exception | None = None

    @property
    def name(self) -> str:
        """What to call it."""
        return self.filename or f"images[{self.index}]"


@dataclass(slots=True)
class Batch:
    """Holds the images of a batch in the order sent, the fields that are for all, and the capture times given."""

    images: list[BatchImage]
    fields: FrameFields
    times: list[datetime]
    """None, one for all, or one per image"""

    def fields_of(self, image: BatchImage) -> FrameFields:
        """Return the fields of one image."""
        moment = self.times[image.index if len(self.times) > 1 else 0] if self.times else None
        name = image.filename or self.fields.original_filename
        return replace(self.fields, captured_at=moment, original_filename=name)


class Batches:
    """Receives batches. Images are stored as they arrive, but published by nobody before the last field is known."""

    def __init__(self, acceptance: Acceptance, uploads: Uploads, settings: GatewaySettings) -> None:
        self._acceptance = acceptance
        self._uploads = uploads
        self._settings = settings
        self._limit = BodyLimit(
            settings.max_batch_images * settings.max_image_bytes + _MAX_FIELDS * OVERHEAD_BYTES,
            "gateway.max_batch_images × gateway.max_image_bytes",
            _IMAGES.name,
            "Send the images in several batches. Nothing of this one was accepted.",
        )
        most = min(_IMAGES_IN_MEMORY * settings.max_image_bytes, settings.max_in_flight_bytes // 4)
        self._most_bytes = max(most, 2 * settings.max_image_bytes)

    async def receive(self, scope: Scope, receive: Receive, device_id: str, deadline: float) -> Batch:
        """Return the batch when all of it was received, until ``deadline`` (the event loop's clock), and is stored.

        Raises an ApiError about the request as a whole; then nothing of it is accepted.
        """
        headers: dict[bytes, bytes] = dict(scope["headers"])
        pairs = pairs_of(scope["query_string"], scope["headers"])
        note_fields(scope, pairs)
        early = self._shared_fields(pairs, device_id)
        self._acceptance.require_room(device_id, early.topic or FRAMES_BACKFILL)
        boundary = boundary_of(_form_type(headers))
        declared_bytes = declared_length(headers, self._limit)
        # Each byte is in memory once: in the part that arrives, or in an image that is being stored.
        reserved_bytes = min(declared_bytes, self._most_bytes)
        stored_bytes = reserved_bytes if declared_bytes <= self._most_bytes else reserved_bytes // 2
        with self._uploads.slots.reserve(reserved_bytes, device_id) as slot:
            pieces = BodyPieces(receive, self._limit, self._uploads.turns, device_id)
            stream = FormStream(pieces.next_piece, boundary, self._settings.max_batch_images + _MAX_FIELDS + 1)
            reading = _Reading(self._acceptance, self._settings, _Room(stored_bytes))
            try:
                with slot.reading():
                    await self._read(reading, stream, deadline)
                await reading.wait_until_stored()
            finally:
                await reading.cancel()
        note_fields(scope, reading.fields)
        return self._batch([*pairs, *reading.fields], reading.images, device_id)

    async def _read(self, reading: _Reading, stream: FormStream, deadline: float) -> None:
        try:
            async with asyncio.timeout_at(deadline):
                await reading.read(stream)
        except TimeoutError as error:
            raise UploadTimeoutError(
                f"the batch was not received within {self._settings.batch_timeout_s:g} s (gateway.batch_timeout_s); "
                "nothing of it was accepted",
                details="Send fewer images at once, or over a faster connection.",
            ) from error

    def _shared_fields(self, pairs: Sequence[tuple[str, str]], device_id: str) -> FrameFields:
        """Return the checked fields that are for all images: all but the capture times, of which there are several."""
        shared = [(name, text) for name, text in pairs if not _is_time(name)]
        fields = parse_fields(shared, self._settings.max_metadata_bytes)
        require_device(fields, device_id)
        return fields

    def _batch(self, pairs: list[tuple[str, str]], images: list[BatchImage], device_id: str) -> Batch:
        fields = self._shared_fields(pairs, device_id)
        if not images:
            raise ValidationFailedError("the form has no part called images", details=_IMAGES.hint, field=_IMAGES.name)
        times = [(name, text) for name, text in pairs if _is_time(name)]
        if len(times) not in (0, 1, len(images)):
            raise ValidationFailedError(
                f"{times[0][0]} was given {len(times)} times for {len(images)} images; give it once, or once per image",
                field=times[0][0],
            )
        return Batch(images, fields, [parse_moment(text, name) for name, text in times])


class _Room:
    """Holds back the reading of a body while too much of it waits to be stored."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._bytes = self._count = 0
        self._freed = asyncio.Event()

    async def take(self, size_bytes: int) -> None:
        """Wait until there is room; one image alone always has it."""
        while self._count and (self._count >= _STORED_AT_ONCE or self._bytes + size_bytes > self._most_bytes):
            self._freed.clear()
            await self._freed.wait()
        self._bytes += size_bytes
        self._count += 1

    def give(self, size_bytes: int) -> None:
        """Give back what was taken."""
        self._bytes -= size_bytes
        self._count -= 1
        self._freed.set()


class _Reading:
    """Reads the parts of one batch, and stores its images beside that."""

    def __init__(self, acceptance: Acceptance, settings: GatewaySettings, room: _Room) -> None:
        self.images: list[BatchImage] = []
        self.fields: list[tuple[str, str]] = []
        self._acceptance = acceptance
        self._settings = settings
        self._max_field_bytes = max(settings.max_metadata_bytes, OVERHEAD_BYTES)
        self._room = room
        self._tasks: set[asyncio.Task[None]] = set()

    async def read(self, stream: FormStream) -> None:
        """Read all parts; raises an ApiError for a form that is wrong as a whole."""
        async for streamed in stream.parts(self._most_bytes):
            if streamed.part.name in _IMAGE_NAMES:
                await self._take_image(streamed)
            else:
                self._take_field(streamed)

    async def wait_until_stored(self) -> None:
        """Wait until each image is stored, or has failed."""
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def cancel(self) -> None:
        """End what is still being stored."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _most_bytes(self, part: FormPart) -> int:
        return self._settings.max_image_bytes if part.name in _IMAGE_NAMES else self._max_field_bytes

    async def _take_image(self, streamed: StreamedPart) -> None:
        most = self._settings.max_batch_images
        if len(self.images) == most:
            raise TooManyFilesError(
                f"the batch has more than {most} images; at most {most} are accepted (gateway.max_batch_images)",
                details="Send the images in several batches. Nothing of this one was accepted.",
                field=_IMAGES.name,
            )
        part = streamed.part
        image = BatchImage(len(self.images), sanitise_filename(part.filename) if part.filename else None)
        self.images.append(image)
        if streamed.too_large:
            image.error = image_too_large(
                streamed.size_bytes, self._settings.max_image_bytes, "gateway.max_image_bytes"
            )
        elif not part.data:
            image.error = CorruptedFileError("the image is empty; it must have the bytes of the picture")
        else:
            await self._room.take(len(part.data))
            task = asyncio.create_task(self._store(image, part.data), name="batch-image")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _store(self, image: BatchImage, data: bytes) -> None:
        try:
            image.examined = await self._acceptance.examine(data)
            image.uri = await self._acceptance.store(data, image.examined)
        except Exception as error:
            image.error = error
            if not isinstance(error, StandgaleError) and not is_transient(error):
                logger.exception("an image of a batch failed unexpectedly")
        finally:
            self._room.give(len(data))

    def _take_field(self, streamed: StreamedPart) -> None:
        part = streamed.part
        require_field(part, streamed.size_bytes, self._max_field_bytes, _IMAGES)
        self.fields.append((part.name, text_of(part, _IMAGES)))


def _is_time(name: str) -> bool:
    return TIME_NAMES.get(name, name) == "captured_at"


def _form_type(headers: Mapping[bytes, bytes]) -> str:
    """Return the Content-Type if it is that of a form. Raises UnsupportedMediaTypeError otherwise."""
    text = headers.get(b"content-type", b"").decode("latin-1")
    kind = text.partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        return text
    raise UnsupportedMediaTypeError(
        f"Content-Type {kind[:100]!r} is not for a batch of images; it must be multipart/form-data",
        details=_IMAGES.hint,
        field="Content-Type",
    )
