"""Receives the one image of a request, in the memory that all endpoints of the gateway share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from starlette.types import Receive, Scope

from infra.errors import SettingsError
from infra.http_api.errors.api_errors import UnsupportedMediaTypeError
from infra.http_api.limits.slots import Slot, UploadSlots
from infra.http_api.limits.turns import Turns
from infra.http_api.request.body import BodyPieces, BodyTimeLimit, declared_length, read_body
from infra.http_api.request.file_names import sanitise_filename
from infra.http_api.request.multipart import OVERHEAD_BYTES
from infra.http_api.versions import note_fields
from infra.time_limits import time_limit
from ingest.acceptance.acceptance import require_device
from ingest.acceptance.fields import NO_OTHER_NAMES, FrameFields, parse_fields
from ingest.gateway.request.image_limit import ImageLimit
from ingest.gateway.request.one_image import read_form
from ingest.gateway.request.pairs import pairs_of
from ingest.settings import GatewaySettings
from schemas.topics import FRAMES_LIVE

_SLOT_SETTINGS = "gateway.max_concurrent_uploads and gateway.max_in_flight_bytes"


def _admit_all(device_id: str, topic: str) -> None:
    """Refuse nothing."""


@dataclass(frozen=True, slots=True)
class Upload:
    """Holds a received image: its bytes, and the fields of the request."""

    image: bytes
    fields: FrameFields


def require_memory(settings: GatewaySettings) -> int:
    """Return the most bytes that one form may have. Raises SettingsError when it does not fit the allowed memory."""
    max_form_bytes = settings.max_image_bytes + settings.max_metadata_bytes + OVERHEAD_BYTES
    # A batch has one image in memory while the next one arrives.
    needed = max(max_form_bytes, 2 * settings.max_image_bytes)
    if settings.max_in_flight_bytes < needed:
        raise SettingsError(
            f"gateway.max_in_flight_bytes is {settings.max_in_flight_bytes}, less than one upload may need "
            f"({needed}); raise it or lower gateway.max_image_bytes"
        )
    return max_form_bytes


def body_time_limit(settings: GatewaySettings) -> BodyTimeLimit:
    """Return within which time a body is received."""
    return BodyTimeLimit(settings.body_timeout_s, "gateway.body_timeout_s")


class Uploads:
    """Receives images of requests, with or without a form around them."""

    def __init__(self, settings: GatewaySettings) -> None:
        """Raise SettingsError when one upload of the allowed size does not fit the allowed memory."""
        self._settings = settings
        self._max_form_bytes = require_memory(settings)
        self._time = body_time_limit(settings)
        self.slots = UploadSlots(settings.max_concurrent_uploads, settings.max_in_flight_bytes, _SLOT_SETTINGS)
        self.turns = Turns()

    def receive(
        self,
        scope: Scope,
        receive: Receive,
        device_id: str,
        also: Mapping[str, str] = NO_OTHER_NAMES,
        admit: Callable[[str, str], None] = _admit_all,
    ) -> Receiving:
        """Return a context manager with the image of a request of ``device_id``; until its end memory is reserved.

        ``also``: other names of fields. ``admit`` is called with device and topic, and raises an ApiError when such
        frames are refused now; a form may name another topic than the query. Raises an ApiError or FileTooLargeError,
        before the body is read if possible.
        """
        return Receiving(self, scope, receive, device_id, also, admit)

    async def read(self, receiving: Receiving) -> Upload:
        """Receive the image; the caller gives the slot back."""
        scope, receive, device_id, also, admit = receiving.request
        headers: dict[bytes, bytes] = dict(scope["headers"])
        settings = self._settings
        pairs = pairs_of(scope["query_string"], scope["headers"])
        note_fields(scope, pairs)
        early = parse_fields(pairs, settings.max_metadata_bytes, also)
        require_device(early, device_id)
        admit(device_id, early.topic or FRAMES_LIVE)
        content_type = _content_type(headers)
        is_form = content_type.lower().startswith("multipart/form-data")
        image_bytes = settings.max_image_bytes
        limit = ImageLimit.of_form(self._max_form_bytes, image_bytes) if is_form else ImageLimit.of_image(image_bytes)
        size_bytes = declared_length(headers, limit)
        if size_bytes == 0 and early.sha256 is not None:
            # The stored image will be in memory instead.
            size_bytes = settings.max_image_bytes
        receiving.slot = slot = self.slots.take(size_bytes, device_id)
        with slot.reading():
            if not is_form:
                return Upload(await read_body(receive, limit, self._time, self.turns, device_id), early)
            pieces = BodyPieces(receive, limit, self.turns, device_id)
            upload = await self._read_form(scope, pieces, content_type, pairs, also)
        if upload.fields.topic != early.topic:
            admit(device_id, upload.fields.topic or FRAMES_LIVE)
        require_device(upload.fields, device_id)
        return upload

    async def _read_form(
        self, scope: Scope, pieces: BodyPieces, content_type: str, pairs: list[tuple[str, str]], also: Mapping[str, str]
    ) -> Upload:
        settings = self._settings
        max_metadata_bytes = settings.max_metadata_bytes
        try:
            with time_limit(self._time.seconds):
                form = await read_form(
                    pieces.next_piece,
                    content_type,
                    max_image_bytes=settings.max_image_bytes,
                    max_metadata_bytes=max_metadata_bytes,
                    also=also,
                )
        except TimeoutError as error:
            raise self._time.exceeded(pieces.received) from error
        note_fields(scope, form.fields)
        if form.filename and not any(name == "original_filename" for name, _ in (*pairs, *form.fields)):
            name = sanitise_filename(form.filename)
            form.fields.extend([("original_filename", name)] if name else [])
        if not form.image:
            # An image that is stored is named in the query or a header, so that its memory is reserved before.
            form.fields[:] = [(name, text) for name, text in form.fields if name != "sha256"]
        return Upload(form.image, parse_fields((*pairs, *form.fields), max_metadata_bytes, also))


class Receiving:
    """Is the block in which the image of one request is in memory."""

    __slots__ = ("_uploads", "request", "slot")

    def __init__(
        self,
        uploads: Uploads,
        scope: Scope,
        receive: Receive,
        device_id: str,
        also: Mapping[str, str],
        admit: Callable[[str, str], None],
    ) -> None:
        self._uploads = uploads
        self.request = scope, receive, device_id, also, admit
        self.slot: Slot | None = None

    async def __aenter__(self) -> Upload:
        try:
            return await self._uploads.read(self)
        except BaseException:
            self._give_back()
            raise

    async def __aexit__(self, *error: object) -> None:
        self._give_back()

    def _give_back(self) -> None:
        if self.slot is not None:
            self._uploads.slots.give_back(self.slot)


def _content_type(headers: Mapping[bytes, bytes]) -> str:
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
